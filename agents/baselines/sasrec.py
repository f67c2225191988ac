"""SASRec (Kang and McAuley, arXiv 1808.09781): causal self-attention over the history."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from agents.baselines.sequence import SequenceRecommender
from agents.randomness import own_generators
from rere_env.task import Task

__all__ = ["SASRec"]


class SASRec(SequenceRecommender):
    """Self-attention blocks with learnt positions, trained with the full cross-entropy.

    >>> SASRec(task, num_layers=1).fit(task.split("train"), task.split("valid"))  # doctest: +SKIP
    """

    def __init__(
        self,
        task: Task,
        *,
        hidden_size: int = 64,
        num_layers: int = 1,
        num_heads: int = 2,
        dropout: float = 0.3,
        seed: int = 0,
    ) -> None:
        """Make a model with random weights.

        Args:
            task: Whose catalogue is ranked, and whose filter is kept.
            hidden_size: D, a multiple of `num_heads`.
            num_layers: Blocks; 0 leaves the last title and its place.
            num_heads: Of attention.
            dropout: On embeddings, attention and both halves of a block.
            seed: Of the weights.

        Raises:
            ValueError: The heads do not share D equally.
        """
        if hidden_size % num_heads:
            raise ValueError(
                f"`hidden_size` (={hidden_size}) must be a multiple of `num_heads` (={num_heads})."
            )
        options = {
            "hidden_size": hidden_size,
            "num_layers": num_layers,
            "num_heads": num_heads,
            "dropout": dropout,
            "seed": seed,
        }
        with own_generators(seed):
            encoder = _Encoder(task.history_length, hidden_size, num_layers, num_heads, dropout)
        super().__init__(task, encoder, hidden_size, options, seed)


class _Encoder(nn.Module):
    def __init__(
        self, length: int, hidden_size: int, num_layers: int, num_heads: int, dropout: float
    ) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.randn(length, hidden_size) * 0.02)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            _Block(hidden_size, num_heads, dropout) for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(hidden_size)

    def forward(self, embedded: Tensor) -> Tensor:
        """Return the state after each place, [B, H, D]."""
        states = self.dropout(embedded + self.place[: embedded.shape[1]])
        for block in self.blocks:
            states = block(states)
        normed: Tensor = self.norm(states)
        return normed


class _Block(nn.Module):
    def __init__(self, hidden_size: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads, self.dropout = num_heads, dropout
        self.before = nn.LayerNorm(hidden_size)
        self.project = nn.Linear(hidden_size, 3 * hidden_size)
        self.attended = nn.Linear(hidden_size, hidden_size)
        self.feed = nn.Sequential(
            nn.LayerNorm(hidden_size),
            nn.Linear(hidden_size, hidden_size),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden_size, hidden_size),
            nn.Dropout(dropout),
        )

    def forward(self, states: Tensor) -> Tensor:
        """Attend to what came before, then think about it."""
        # Histories are padded at the end, so the causal mask hides the padding from all that count.
        heads = self.project(self.before(states)).unflatten(-1, (3, self.num_heads, -1))
        query, key, value = heads.permute(2, 0, 3, 1, 4)  # [B, heads, H, D / heads] each
        seen = functional.scaled_dot_product_attention(
            query, key, value, is_causal=True, dropout_p=self.dropout if self.training else 0.0
        )
        merged = self.attended(seen.transpose(1, 2).flatten(2))
        states = states + functional.dropout(merged, self.dropout, self.training)
        out: Tensor = states + self.feed(states)
        return out
