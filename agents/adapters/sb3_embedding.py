"""A features extractor that reads ids as names, not as numbers. Knows no agents."""

from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

__all__ = ["EmbeddingExtractor"]

# B observations, H history, K slate, L prefix, D size of an embedding.

MAX_ID = 2**24
"""Stable-Baselines3 turns ids into float32 on their way here, which is exact up to this."""


class EmbeddingExtractor(BaseFeaturesExtractor):
    """Looks up an embedding for each title and token and puts them side by side.

    Empty places (id 0) are zeros. A history is moved to the end of its places, so that the last
    item is always found in the same one. History and slate share their table.
    """

    def __init__(self, observation_space: spaces.Dict, embedding_dim: int = 32) -> None:
        """Take the space of an observation of `ReReEnv`.

        Raises:
            TypeError: It is another space.
            ValueError: It has more ids than a float32 can tell apart.
        """
        keys = ("history", "slate", "prefix")
        parts: dict[str, Any] = dict(getattr(observation_space, "spaces", {}))
        if set(keys) - parts.keys():
            raise TypeError(
                f"`observation_space` (={observation_space}) must be a Dict of {keys}, as the "
                "environment gives it."
            )
        highest = {key: int(parts[key].high.max()) for key in keys}
        if max(highest.values()) > MAX_ID:
            raise ValueError(f"ids (up to {max(highest.values())}) must be at most {MAX_ID}.")
        num_places = sum(parts[key].shape[0] for key in keys)
        super().__init__(observation_space, num_places * embedding_dim)
        self.titles = nn.Embedding(highest["history"] + 1, embedding_dim, padding_idx=0)
        self.tokens = nn.Embedding(highest["prefix"] + 1, embedding_dim, padding_idx=0)

    def forward(self, observations: dict[str, Tensor]) -> Tensor:
        """Return features [B, (H + K + L) D]."""
        history = _to_the_end(observations["history"].long())
        return torch.cat(
            [
                self.titles(history).flatten(1),
                self.titles(observations["slate"].long()).flatten(1),
                self.tokens(observations["prefix"].long()).flatten(1),
            ],
            dim=1,
        )


def _to_the_end(history: Tensor) -> Tensor:
    """Move the empty places of [B, H] before the items."""
    length = (history > 0).sum(1, keepdim=True)
    place = torch.arange(history.shape[1], device=history.device)
    return history.gather(1, (place + length) % history.shape[1])
