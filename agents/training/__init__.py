"""Training stages: a loop over the steps of a learner, with validation and checkpoints."""
