"""What all agents of Tianshou have in common: settings, environment, network, and what they become.

Knows no learning.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from agents.adapters.saved import save_agent
from agents.adapters.tianshou.env import ReReTianshouEnv
from agents.adapters.tianshou.nets import IdNet, IdSizes
from agents.env_recommender import EnvRecommender
from rere_env.envs import ReReVectorEnv
from rere_env.task import Task
from rere_env.types import Batch
from rere_env.wrappers import VectorDecisionActions

__all__ = ["LIBRARY", "Agent", "TrainedAgent"]

LIBRARY = "tianshou"
"""What a saved agent calls its library."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """What the agents have in common.

    Attributes:
        slate_size: K, titles an episode.
        decisions: Act on decisions instead of tokens under masks.
        num_envs: N, users at once.
        embedding: Width of the embedding of an id.
        layers: Widths of the hidden layers.
        learning_rate: Of Adam.
        gamma: Discount a step.
        beam: Width of the search that ranks titles in the end; 1: greedily.
    """

    slate_size: int = 1
    decisions: bool = False
    num_envs: int = 256
    embedding: int = 32
    layers: tuple[int, ...] = (128,)
    learning_rate: float = 3e-3
    gamma: float = 1.0
    beam: int = 50

    def make_env(self, task: Task) -> ReReTianshouEnv:
        """Make the environment to train in."""
        env = ReReVectorEnv(
            self.num_envs,
            task,
            slate_size=self.slate_size,
            mask="lazy",
            autoreset_mode="Disabled",
        )
        return ReReTianshouEnv(VectorDecisionActions(env) if self.decisions else env)

    def make_net(self, task: Task) -> IdNet:
        """Make the network that gives scores to actions, with new weights."""
        return self._make_net(task, self._num_actions(task))

    def trained(self, task: Task, net: IdNet) -> "TrainedAgent":
        """Return the recommender that acts by a network."""
        return TrainedAgent(self, task, net)

    def _make_net(self, task: Task, *outputs: int) -> IdNet:
        sizes = IdSizes.of(task, self.slate_size)
        return IdNet(sizes, outputs, embedding=self.embedding, layers=self.layers)

    def _num_actions(self, task: Task) -> int:
        return int(np.diff(task.trie.first).max()) if self.decisions else task.trie.num_tokens


class TrainedAgent:
    """A recommender: what an agent has learnt about a task."""

    def __init__(
        self, agent: Agent, task: Task, net: IdNet, *, temperature: float | None = None
    ) -> None:
        """Keep the network.

        Args:
            agent: How it was trained.
            task: What on.
            net: Gives scores to actions.
            temperature: The scores are values, and titles are ranked by the softmax of values
                divided by this; None: they are logits.
        """
        self.agent, self.task, self.net = agent, task, net
        self._temperature = temperature
        self._recommender = EnvRecommender(
            task,
            self.scores,
            decisions=agent.decisions,
            slate_size=agent.slate_size,
            beam=agent.beam,
            values=temperature is not None,
        )

    def recommend(self, examples: Batch, k: int) -> NDArray[np.int64]:
        """Return title ids [B, k], best first."""
        return self._recommender.recommend(examples, k)

    def scores(self, observation: dict[str, NDArray[np.int64]]) -> NDArray[np.float32]:
        """Return logits [N, n] of the actions, legal or not, of N observations."""
        with torch.no_grad():
            outputs = self.net(observation)
        values = outputs.mean(-1) if outputs.ndim == 3 else outputs  # of quantiles
        logits: NDArray[np.float32] = (values / (self._temperature or 1.0)).numpy()
        return logits

    def save(self, folder: str | Path) -> None:
        """Write the weights and the settings, which `load_agent` reads."""
        save_agent(folder, self.agent, self.net, self.task, library=LIBRARY)
