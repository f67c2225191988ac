"""What the agents of Stable-Baselines3 share: training within a budget, recommending, saving.

Knows no algorithm.
"""

import json
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_model, save_model
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.utils import LinearSchedule, obs_as_tensor
from torch import Tensor
from tqdm import tqdm

from agents.adapters.sb3.embedding import EmbeddingExtractor
from agents.adapters.sb3.env import ReReVecEnv, make_vec_env
from agents.budget import Budget, Meter
from agents.env_recommender import EnvRecommender
from agents.randomness import own_generators
from rere_env.task import Task
from rere_env.types import Batch, IntArray

__all__ = ["SETTINGS", "WEIGHTS", "Agent", "TrainedAgent"]

# M observations, n actions.

Schedule: TypeAlias = Callable[[float], float]

WEIGHTS, SETTINGS = "policy.safetensors", "agent.json"
"""The files of a saved agent."""

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
            ValueError: It is another agent, or was trained on other titles.
        """
        made = json.loads((Path(folder) / SETTINGS).read_text(encoding="utf-8"))
        if made["agent"] != cls.__name__:
            raise ValueError(f"{folder} holds a {made['agent']}, not a {cls.__name__}.")
        if made["trie_hash"] != task.trie.content_hash():
            raise ValueError(
                f"{folder} was trained on other titles (trie {made['trie_hash'][:12]}) than those "
                f"of the task ({task.trie.content_hash()[:12]}); load it with its own task."
            )
        settings = made["settings"]
        agent = cls(**{**settings, "layers": tuple(settings["layers"])})
        with own_generators():
            model = agent.make_model(agent.make_env(task), seed=0)
        load_model(model.policy, Path(folder) / WEIGHTS, device=str(model.device))
        return TrainedAgent(agent, task, model.policy)

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
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        save_model(self.policy, str(folder / WEIGHTS))
        made = {
            "agent": type(self.agent).__name__,
            "settings": asdict(self.agent),
            "trie_hash": self.task.trie.content_hash(),
        }
        (folder / SETTINGS).write_text(json.dumps(made, indent=2) + "\n", encoding="utf-8")


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
