"""What the agents of Stable-Baselines3 share: training within a budget, recommending, saving.

Knows no algorithm.
"""

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.utils import LinearSchedule, obs_as_tensor
from torch import Tensor
from tqdm import tqdm

from agents.adapters.saved import load_settings, load_weights, save_agent
from agents.adapters.sb3.embedding import EmbeddingExtractor
from agents.adapters.sb3.env import ReReVecEnv, make_vec_env
from agents.budget import Budget, Meter
from agents.env_recommender import EnvRecommender
from agents.randomness import own_generators
from rere_env.task import Task
from rere_env.types import Batch, IntArray

__all__ = ["LIBRARY", "Agent", "TrainedAgent"]

# M observations, n actions.

Schedule: TypeAlias = Callable[[float], float]

LIBRARY = "sb3"
"""What a saved agent calls its library."""

BAR = "{percentage:3.0f}% |{bar}| of the budget, {elapsed}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent(ABC):
    """What the agents have in common.

    Attributes:
        num_envs: N, episodes played side by side.
        slate_size: K, titles of an episode.
        gamma: Discount; 1: only the hit counts, not how long its title is.
        learning_rate: At the beginning; falls to 0 as the budget is spent.
        embedding_dim: Size of the embedding of a title or a token.
        layers: Widths of the networks behind it.
        beam: Width of the search that recommends.
        device: Of torch. Networks as small as these are fastest on a CPU.
        progress_bar: Show how much of the budget is spent.
    """

    num_envs: int = 128
    slate_size: int = 1
    gamma: float = 1.0
    learning_rate: float = 3e-3
    embedding_dim: int = 32
    layers: tuple[int, ...] = (64, 64)
    beam: int = 50
    device: str = "cpu"
    progress_bar: bool = False

    decisions: ClassVar[bool] = True
    values: ClassVar[bool] = False

    def train(self, task: Task, budget: Budget, *, seed: int) -> "TrainedAgent":
        """Train within the budget, counted in steps of single rows.

        Raises:
            ValueError: The budget ends before the first update.
        """
        num_steps = sys.maxsize if budget.steps is None else budget.steps
        if num_steps < self.first_update:
            raise ValueError(
                f"`steps` (={num_steps}) must be at least {self.first_update}, after which "
                f"{type(self).__name__} learns for the first time; give more, or lower `num_envs`."
            )
        with own_generators():
            model = self.make_model(self.make_env(task), seed=seed)
            spending = Spending(budget.start(), self.progress_bar)
            for name in ("lr_schedule", "exploration_schedule"):
                if hasattr(model, name):
                    setattr(model, name, spending.schedule(getattr(model, name)))
            model.learn(num_steps, callback=spending, log_interval=sys.maxsize)
        return TrainedAgent(self, task, model.policy)

    @classmethod
    def load(cls, folder: str | Path, task: Task) -> "TrainedAgent":
        """Return what `TrainedAgent.save` wrote; nothing is unpickled.

        Raises:
            FileNotFoundError: The folder holds no agent.
            ValueError: It is another agent, was trained on other titles, or a file is broken.
        """
        agent = load_settings(folder, task, {cls.__name__: cls}, library=LIBRARY)
        return agent.trained(folder, task)

    def trained(self, folder: str | Path, task: Task) -> "TrainedAgent":
        """Return what has the settings of this agent, and learnt what `folder` holds.

        Raises:
            FileNotFoundError: The folder holds no weights.
            ValueError: They are broken, or those of another agent.
        """
        with own_generators():
            model = self.make_model(self.make_env(task), seed=0)
        load_weights(folder, model.policy)
        return TrainedAgent(self, task, model.policy)

    def make_env(self, task: Task) -> ReReVecEnv:
        """Make the rows that the agent trains in."""
        return make_vec_env(
            self.num_envs, task, decisions=self.decisions, slate_size=self.slate_size
        )

    @abstractmethod
    def make_model(self, env: ReReVecEnv, *, seed: int) -> BaseAlgorithm:
        """Make the library's own agent, to be trained by its `learn`."""

    def scores(self, policy: Any, observations: dict[str, Tensor]) -> Tensor:  # noqa: ANN401
        """Return the logits of the actions, [M, n]."""
        logits: Tensor = policy.get_distribution(observations).distribution.logits
        return logits

    @property
    @abstractmethod
    def first_update(self) -> int:
        """Steps up to the first update."""

    def common(self, env: ReReVecEnv, seed: int) -> dict[str, Any]:
        """Return the arguments that all of the library's agents take."""
        return {
            "policy": "MultiInputPolicy",
            "env": env,
            "learning_rate": LinearSchedule(self.learning_rate, 0.0, 1.0),
            "gamma": self.gamma,
            "seed": seed,
            "device": self.device,
            "policy_kwargs": {
                "features_extractor_class": EmbeddingExtractor,
                "features_extractor_kwargs": {"embedding_dim": self.embedding_dim},
                "net_arch": list(self.layers),
                "activation_fn": torch.nn.ReLU,
                "optimizer_kwargs": {"eps": 1e-5, "fused": True},
            },
        }


class TrainedAgent:
    """A trained policy: recommends by a beam search over its actions."""

    def __init__(self, agent: Agent, task: Task, policy: BasePolicy) -> None:
        """Keep the policy of a model that `agent` made."""
        self.agent, self.task, self.policy = agent, task, policy
        policy.set_training_mode(False)
        self._recommender = EnvRecommender(
            task,
            self.scores,
            decisions=agent.decisions,
            slate_size=agent.slate_size,
            beam=agent.beam,
            values=agent.values,
        )

    def recommend(self, examples: Batch, k: int) -> IntArray:
        """Return title ids [B, k], best first; `NO_TITLE` pads a short list."""
        return self._recommender.recommend(examples, k)

    def scores(self, observations: dict[str, NDArray[np.int64]]) -> NDArray[np.float32]:
        """Return the logits of the actions [M, n] in M observations of the environment."""
        with torch.no_grad():
            tensors: Any = obs_as_tensor(observations, self.policy.device)
            found: NDArray[np.float32] = self.agent.scores(self.policy, tensors).cpu().numpy()
        return found

    def save(self, folder: str | Path) -> None:
        """Write the weights and the settings, which `load_agent` reads."""
        save_agent(folder, self.agent, self.policy, self.task, library=LIBRARY)


class Spending(BaseCallback):
    """Ends training with the budget, and tells schedules how much of it is left."""

    def __init__(self, meter: Meter, progress_bar: bool) -> None:
        """Take a running meter."""
        super().__init__()
        self.meter, self.share = meter, 0.0
        self._bar = tqdm(total=1.0, disable=not progress_bar, bar_format=BAR)

    def schedule(self, by_steps: Schedule) -> Schedule:
        """Return a schedule by the budget; the library's own knows only steps."""
        return lambda _: by_steps(1.0 - self.share)

    def _on_step(self) -> bool:
        # A rollout that uses up the steps is still to be learnt from.
        share = min(1.0, self.meter.used(self.num_timesteps - 1))
        self._bar.update(share - self.share)
        self.share = share
        return share < 1.0

    def _on_training_end(self) -> None:
        self._bar.close()
