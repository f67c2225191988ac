"""The main job behind `rere train`: one file for each kind of algorithm."""

from agents.experiment.policy import resume, train

__all__ = ["resume", "train"]
