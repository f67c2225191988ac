"""Plain Python under Tianshou's `DummyVectorEnv`, with dense masks in the infos."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from tianshou.env import DummyVectorEnv

from agents.bench.env.peers import PeerMask

__all__ = ["MASK", "stepper"]

MASK: PeerMask = "dense"
"""The masks travel with every step."""


def stepper(
    make: Callable[[], gym.Env[Any, Any]], num_envs: int
) -> Callable[[NDArray[np.int64]], None]:
    """Return a function that steps N environments and begins the finished ones anew."""
    env = DummyVectorEnv([make] * num_envs)
    env.reset()

    def step(actions: NDArray[np.int64]) -> None:
        _, _, terminated, truncated, _ = env.step(actions)
        over = np.flatnonzero(terminated | truncated)
        if len(over):
            env.reset(over)

    return step
