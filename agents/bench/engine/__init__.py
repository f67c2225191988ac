"""`rere bench search | update | step`: the engine beside what published code computes."""
