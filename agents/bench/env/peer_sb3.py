"""Plain Python under Stable-Baselines3's `DummyVecEnv`, with the masks that MaskablePPO fetches."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import DummyVecEnv

from agents.bench.env.peers import PeerMask

__all__ = ["MASK", "stepper"]

MASK: PeerMask = "none"
"""The masks are asked for, not put into every info."""


def stepper(
    make: Callable[[], gym.Env[Any, Any]], num_envs: int
) -> Callable[[NDArray[np.int64]], None]:
    """Return a function that steps N environments and fetches their masks."""
    env = DummyVecEnv([make] * num_envs)
    env.reset()

    def step(actions: NDArray[np.int64]) -> None:
        env.step(actions)
        np.stack(env.env_method("action_masks"))

    return step
