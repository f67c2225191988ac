"""Acting in all rows by a Tianshou policy.

Why not Tianshou's `Collector`, which works on our environment too: it gathers every episode again
for statistics that nobody reads here, and that is most of its time.
"""

import numpy as np
import torch

from agents.adapters.tianshou.env import ReReTianshouEnv  # first: it names a missing extra
from rere_env.types import BoolArray, IntArray

# isort: split
from tianshou.algorithm.algorithm_base import Policy
from tianshou.data import Batch, VectorReplayBuffer, to_numpy

__all__ = ["Player"]


class Player:
    """Lets a policy act and remembers what happened."""

    def __init__(self, policy: Policy, env: ReReTianshouEnv, buffer_size: int) -> None:
        """Begin an episode in every row.

        Args:
            policy: Acts, and explores if it is one that does.
            env: N rows.
            buffer_size: Steps to remember, of all rows together.
        """
        self.policy, self.env = policy, env
        self.buffer = VectorReplayBuffer(buffer_size, len(env))
        self._observation, _ = env.reset()

    def go_on(self) -> int:
        """Act once in every row, and begin anew where that ends an episode.

        Returns:
            N, the number of steps.
        """
        over = np.flatnonzero(self._act(np.arange(len(self.env))))
        if len(over):
            self._observation[over], _ = self.env.reset(over)
        return len(self.env)

    def play(self) -> int:
        """Forget everything, then play one episode to its end in every row.

        Returns:
            The number of steps.
        """
        self.buffer.reset()
        self._observation, _ = self.env.reset()
        rows, num_steps = np.arange(len(self.env)), 0
        while len(rows):
            num_steps += len(rows)
            going = ~self._act(rows)
            rows, self._observation = rows[going], self._observation[going]
        return num_steps

    def _act(self, rows: IntArray) -> BoolArray:
        """Act in some rows, whose observations are at hand; say which of them are over."""
        seen = Batch(obs=self._observation, info=Batch())
        with torch.no_grad():
            action = to_numpy(self.policy(seen).act)
        action = self.policy.add_exploration_noise(action, seen)
        after, reward, terminated, truncated, _ = self.env.step(action, rows)
        step = Batch(
            obs=self._observation,
            act=action,
            rew=reward,
            terminated=terminated,
            truncated=truncated,
            obs_next=after,
            info=Batch(),
        )
        self.buffer.add(step, buffer_ids=rows)
        self._observation = after
        over: BoolArray = terminated | truncated
        return over
