"""`rere bench env`: steps of the environment beside plain Python."""
