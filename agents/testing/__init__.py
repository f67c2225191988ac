"""Checks to run on an algorithm of your own: may it stand in the comparison table?"""

from agents.testing.algorithms import check_algorithm
from agents.testing.sources import TianshouSource, VecEnvSource, check_same_episodes

__all__ = ["TianshouSource", "VecEnvSource", "check_algorithm", "check_same_episodes"]
