"""Runners behind `rere bench`: each asserts equal results, then times both sides in one run."""
