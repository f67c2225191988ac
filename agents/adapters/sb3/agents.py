"""Agents of Stable-Baselines3 and sb3-contrib: MaskablePPO on tokens; PPO, A2C, DQN on decisions.

    trained = MaskablePPO().train(task, Budget(steps=150_000), seed=0)
    trained.recommend(task.split("test"), k=10)
    trained.save("my-agent")
    trained = load_agent("my-agent", task)

For loops of one's own, with the library's callbacks and loggers:

    model = PPO().make_model(make_vec_env(128, task, decisions=True, slate_size=1), seed=0)
    model.learn(150_000)
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import sb3_contrib
import stable_baselines3
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import Tensor

from agents.adapters.saved import load_settings
from agents.adapters.sb3.base import LIBRARY, Agent, TrainedAgent
from agents.adapters.sb3.env import ReReVecEnv
from rere_env.task import Task

__all__ = ["A2C", "DQN", "PPO", "MaskablePPO", "load_agent"]


def load_agent(folder: str | Path, task: Task) -> TrainedAgent:
    """Return what `TrainedAgent.save` wrote; nothing is unpickled.

    Raises:
        FileNotFoundError: The folder holds no agent.
        ValueError: It is of another library, was trained on other titles, or a file is broken.
    """
    kinds: dict[str, type[Agent]] = {kind.__name__: kind for kind in (MaskablePPO, PPO, A2C, DQN)}
    return load_settings(folder, task, kinds, library=LIBRARY).trained(folder, task)


@dataclass(frozen=True, slots=True, kw_only=True)
class PPO(Agent):
    """Proximal policy optimisation (arXiv 1707.06347) on decisions, all of them legal.

    Attributes:
        num_steps: Steps of each row between updates.
        batch_size: Of a gradient step; must divide `num_envs` x `num_steps`.
        num_epochs: Passes over the steps of an update.
        gae_lambda: Of the advantages.
        clip_range: Of the probability ratio.
        entropy: Weight of the entropy bonus. Hits are rare at first: with little of it, the
            policy settles for a few titles before it has met the others.
    """

    num_steps: int = 16
    batch_size: int = 256
    num_epochs: int = 4
    gae_lambda: float = 0.95
    clip_range: float = 0.2
    entropy: float = 0.1

    library: ClassVar[Any] = stable_baselines3.PPO

    def __post_init__(self) -> None:
        """Check that the batches come out even."""
        if (self.num_envs * self.num_steps) % self.batch_size:
            raise ValueError(
                f"`batch_size` (={self.batch_size}) must divide `num_envs` (={self.num_envs}) x "
                f"`num_steps` (={self.num_steps})."
            )

    def make_model(self, env: ReReVecEnv, *, seed: int) -> BaseAlgorithm:
        """Make the library's own agent, to be trained by its `learn`."""
        model: BaseAlgorithm = self.library(
            **self.common(env, seed),
            n_steps=self.num_steps,
            batch_size=self.batch_size,
            n_epochs=self.num_epochs,
            gae_lambda=self.gae_lambda,
            clip_range=self.clip_range,
            ent_coef=self.entropy,
        )
        return model

    @property
    def first_update(self) -> int:
        """Steps up to the first update."""
        return self.num_envs * self.num_steps


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskablePPO(PPO):
    """PPO that chooses among the legal tokens only (arXiv 2006.14171)."""

    decisions: ClassVar[bool] = False
    library: ClassVar[Any] = sb3_contrib.MaskablePPO


@dataclass(frozen=True, slots=True, kw_only=True)
class A2C(Agent):
    """Advantage actor-critic (arXiv 1602.01783) on decisions: one gradient step an update.

    Attributes:
        num_steps: Steps of each row between updates.
        gae_lambda: Of the advantages, which are normalised.
        entropy: Weight of the entropy bonus.
    """

    num_envs: int = 32
    learning_rate: float = 5e-3
    num_steps: int = 8
    gae_lambda: float = 1.0
    entropy: float = 0.1

    def make_model(self, env: ReReVecEnv, *, seed: int) -> BaseAlgorithm:
        """Make the library's own agent, to be trained by its `learn`."""
        return stable_baselines3.A2C(
            **self.common(env, seed),
            n_steps=self.num_steps,
            gae_lambda=self.gae_lambda,
            ent_coef=self.entropy,
            normalize_advantage=True,
            use_rms_prop=False,
        )

    @property
    def first_update(self) -> int:
        """Steps up to the first update."""
        return self.num_envs * self.num_steps


@dataclass(frozen=True, slots=True, kw_only=True)
class DQN(Agent):
    """Deep Q-learning (Mnih et al., Nature 518, 2015) on decisions.

    Attributes:
        buffer_size: Steps remembered.
        learning_starts: Steps at random before the first update.
        batch_size: Of a gradient step.
        gradient_steps: After each step of the `num_envs` rows.
        target_update_interval: Steps between copies to the target network.
        exploration: Share of the budget in which actions at random fall from 1 to `final_random`.
        final_random: Share of actions at random after that.
        temperature: Values are divided by it to be searched as logits: the lower, the closer the
            list follows the best title, the higher, the more it hedges.
    """

    num_envs: int = 32
    learning_rate: float = 1e-3
    buffer_size: int = 50_000
    learning_starts: int = 1_000
    batch_size: int = 256
    gradient_steps: int = 2
    target_update_interval: int = 500
    exploration: float = 0.5
    final_random: float = 0.02
    temperature: float = 0.02

    values: ClassVar[bool] = True

    def make_model(self, env: ReReVecEnv, *, seed: int) -> BaseAlgorithm:
        """Make the library's own agent, to be trained by its `learn`."""
        return stable_baselines3.DQN(
            **self.common(env, seed),
            buffer_size=self.buffer_size,
            learning_starts=self.learning_starts,
            batch_size=self.batch_size,
            train_freq=1,
            gradient_steps=self.gradient_steps,
            target_update_interval=self.target_update_interval,
            exploration_fraction=self.exploration,
            exploration_final_eps=self.final_random,
        )

    def scores(self, policy: Any, observations: dict[str, Tensor]) -> Tensor:  # noqa: ANN401
        """Return the values of the actions, as logits [M, n]."""
        values: Tensor = policy.q_net(observations)
        return values / self.temperature

    @property
    def first_update(self) -> int:
        """Steps up to the first update."""
        return self.learning_starts + self.num_envs
