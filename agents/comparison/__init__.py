"""Algorithms side by side: equal time, one start, one evaluation, one table (`rere compare`)."""
