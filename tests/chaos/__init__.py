"""Runs that are killed, damaged and short of room, replayed: `python -m tests.chaos`."""
