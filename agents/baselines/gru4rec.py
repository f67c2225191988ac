"""GRU4Rec (Hidasi et al., arXiv 1511.06939): a recurrent network over the history."""

from torch import Tensor, nn

from agents.baselines.sequence import SequenceRecommender
from agents.randomness import own_generators
from rere_env.task import Task

__all__ = ["GRU4Rec"]


class GRU4Rec(SequenceRecommender):
    """Gated recurrent units, trained with the full cross-entropy.

    >>> GRU4Rec(task).fit(task.split("train"), task.split("valid"))  # doctest: +SKIP
    """

    def __init__(
        self,
        task: Task,
        *,
        hidden_size: int = 64,
        num_layers: int = 1,
        dropout: float = 0.3,
        seed: int = 0,
    ) -> None:
        """Make a model with random weights.

        Args:
            task: Whose catalogue is ranked, and whose filter is kept.
            hidden_size: D, of embeddings and states.
            num_layers: Of the network.
            dropout: On embeddings and states.
            seed: Of the weights.
        """
        options = {
            "hidden_size": hidden_size,
            "num_layers": num_layers,
            "dropout": dropout,
            "seed": seed,
        }
        with own_generators(seed):
            encoder = _Encoder(hidden_size, num_layers, dropout)
        super().__init__(task, encoder, hidden_size, options, seed)


class _Encoder(nn.Module):
    def __init__(self, hidden_size: int, num_layers: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.network = nn.GRU(hidden_size, hidden_size, num_layers, batch_first=True)

    def forward(self, embedded: Tensor) -> Tensor:
        """Return the state after each place, [B, H, D]; what pads the end comes too late."""
        states: Tensor = self.dropout(self.network(self.dropout(embedded))[0])
        return states
