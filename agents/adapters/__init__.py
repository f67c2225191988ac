"""Other RL libraries on our environment, one file a library."""
