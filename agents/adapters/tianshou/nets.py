"""Networks over the ids of our observations, in the forms that Tianshou calls.

Knows no environments and no learning.

Legend: B observations, n actions.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from agents.adapters.ids import IdEmbedding
from rere_env.task import Task
from rere_env.types import OBSERVATION_KEYS

__all__ = ["Critic", "IdNet", "IdSizes", "MaskedActor", "ValueNet"]

NEVER = -1e8
"""The logit of an illegal action: finite, so that an entropy stays so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IdSizes:
    """How many ids an observation holds, and which.

    Attributes:
        num_titles: Titles are 1 to this.
        num_tokens: Local tokens are 0 to one less.
        titles: H + K, places for titles.
        tokens: L, places for tokens.
    """

    num_titles: int
    num_tokens: int
    titles: int
    tokens: int

    @classmethod
    def of(cls, task: Task, slate_size: int) -> "IdSizes":
        """Return those of a task's environments."""
        return cls(
            num_titles=task.trie.num_titles,
            num_tokens=task.trie.num_tokens,
            titles=task.history_length + slate_size,
            tokens=task.trie.max_length - 1,
        )


class IdNet(nn.Module):
    """Ids -> embeddings, side by side -> hidden layers -> outputs."""

    def __init__(
        self, sizes: IdSizes, outputs: tuple[int, ...], *, embedding: int, layers: tuple[int, ...]
    ) -> None:
        """Draw the weights.

        Args:
            sizes: Of the observations.
            outputs: Shape of an output: (n,), or (n, quantiles).
            embedding: Width of an embedding.
            layers: Widths of the hidden layers.
        """
        super().__init__()
        self.outputs = outputs
        self.ids = IdEmbedding(sizes.num_titles, sizes.num_tokens, embedding)
        widths = [(sizes.titles + sizes.tokens) * embedding, *layers]
        parts: list[nn.Module] = []
        for before, after in pairwise(widths):
            parts += [nn.Linear(before, after), nn.ReLU()]
        self.layers = nn.Sequential(*parts, nn.Linear(widths[-1], int(np.prod(outputs))))

    def forward(self, observation: Mapping[str, NDArray[np.int64]]) -> Tensor:
        """Return [B, *outputs]."""
        device = self.ids.titles.weight.device
        history, slate, prefix = (
            torch.as_tensor(observation[key], device=device) for key in OBSERVATION_KEYS
        )
        features = self.ids(history, slate, prefix)
        outputs: Tensor = self.layers(features).unflatten(-1, self.outputs)
        return outputs


class ValueNet(nn.Module):
    """A network as the DQN family calls it: Tianshou masks its values itself."""

    def __init__(self, net: IdNet) -> None:
        """Take the network: its outputs are values."""
        super().__init__()
        self.net = net

    def forward(self, obs: Any, state: Any = None, info: Any = None) -> tuple[Tensor, Any]:  # noqa: ANN401 - Tianshou's Batch
        """Return values [B, n] or [B, n, quantiles]."""
        return self.net(obs), state


class MaskedActor(nn.Module):
    """A network as Tianshou calls an actor, which must see to the mask itself."""

    def __init__(self, net: IdNet) -> None:
        """Take the network: its outputs are logits."""
        super().__init__()
        self.net = net

    def forward(self, obs: Any, state: Any = None, info: Any = None) -> tuple[Tensor, Any]:  # noqa: ANN401
        """Return logits [B, n] of `Batch(obs, mask)`, or of ids whose actions are all legal."""
        if "mask" not in obs:
            return self.net(obs), state
        logits = self.net(obs["obs"])
        mask = torch.as_tensor(obs["mask"], dtype=torch.bool, device=logits.device)
        return torch.where(mask, logits, NEVER), state


class Critic(nn.Module):
    """A network as Tianshou calls a critic: it gets no mask and needs none."""

    def __init__(self, net: IdNet) -> None:
        """Take the network: its output (1,) is the value of a state."""
        super().__init__()
        self.net = net

    def forward(self, obs: Any) -> Tensor:  # noqa: ANN401
        """Return values [B, 1]."""
        values: Tensor = self.net(obs["obs"] if "mask" in obs else obs)
        return values
