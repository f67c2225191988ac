"""The ids of an observation as embeddings, side by side: what a small network reads."""

import torch
from torch import Tensor, nn

__all__ = ["IdEmbedding"]

# B observations, H history, K slate, L prefix, D size of an embedding.


class IdEmbedding(nn.Module):
    """Looks up an embedding for each title and token.

    Empty places (id 0) are zeros. A history is moved to the end of its places, so that the last
    item is always found in the same one. History and slate share their table.
    """

    def __init__(self, num_titles: int, num_tokens: int, size: int) -> None:
        """Draw the embeddings.

        Args:
            num_titles: Titles are 1 to this.
            num_tokens: Local tokens are 0 to one less.
            size: D.
        """
        super().__init__()
        self.titles = nn.Embedding(num_titles + 1, size, padding_idx=0)
        self.tokens = nn.Embedding(num_tokens, size, padding_idx=0)

    def forward(self, history: Tensor, slate: Tensor, prefix: Tensor) -> Tensor:
        """Return [B, (H + K + L) D] of int64 ids [B, H], [B, K], [B, L]."""
        titles = self.titles(torch.cat([_to_the_end(history), slate], 1))
        return torch.cat([titles.flatten(1), self.tokens(prefix).flatten(1)], 1)


def _to_the_end(history: Tensor) -> Tensor:
    """Move the empty places of [B, H] before the items."""
    length = (history > 0).sum(1, keepdim=True)
    place = torch.arange(history.shape[1], device=history.device)
    return history.gather(1, (place + length) % history.shape[1])
