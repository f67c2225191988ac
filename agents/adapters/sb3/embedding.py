"""A features extractor that reads ids as names, not as numbers. Knows no agents."""

from typing import Any

from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor

from agents.adapters.ids import IdEmbedding
from rere_env.types import OBSERVATION_KEYS

__all__ = ["EmbeddingExtractor"]

# B observations, H history, K slate, L prefix, D size of an embedding.

MAX_ID = 2**24
"""Stable-Baselines3 turns ids into float32 on their way here, which is exact up to this."""


class EmbeddingExtractor(BaseFeaturesExtractor):
    """An `IdEmbedding` as Stable-Baselines3 calls it."""

    def __init__(self, observation_space: spaces.Dict, embedding_dim: int = 32) -> None:
        """Take the space of an observation of `ReReEnv`.

        Raises:
            TypeError: It is another space.
            ValueError: It has more ids than a float32 can tell apart.
        """
        parts: dict[str, Any] = dict(getattr(observation_space, "spaces", {}))
        if set(OBSERVATION_KEYS) - parts.keys():
            raise TypeError(
                f"`observation_space` (={observation_space}) must be a Dict of "
                f"{OBSERVATION_KEYS}, as the environment gives it."
            )
        highest = {key: int(parts[key].high.max()) for key in OBSERVATION_KEYS}
        if max(highest.values()) > MAX_ID:
            raise ValueError(f"ids (up to {max(highest.values())}) must be at most {MAX_ID}.")
        num_places = sum(parts[key].shape[0] for key in OBSERVATION_KEYS)
        super().__init__(observation_space, num_places * embedding_dim)
        self.ids = IdEmbedding(highest["history"], highest["prefix"] + 1, embedding_dim)

    def forward(self, observations: dict[str, Tensor]) -> Tensor:
        """Return features [B, (H + K + L) D]."""
        history, slate, prefix = (observations[key].long() for key in OBSERVATION_KEYS)
        features: Tensor = self.ids(history, slate, prefix)
        return features
