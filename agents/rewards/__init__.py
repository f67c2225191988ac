"""Rewards by name: a sum of parts, some of which need tables or a model."""
