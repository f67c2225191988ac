"""The main job behind `rere train`: one file for each kind of algorithm."""
