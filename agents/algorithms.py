"""The built-in algorithms: presets that train a language model, and agents of RL libraries.

A preset is a function that returns a frozen `ReReConfig`; change a choice with `replace`.
"""

from agents.registry import AlgorithmInfo

__all__ = ["BUILT_IN"]

BUILT_IN: tuple[AlgorithmInfo, ...] = ()
