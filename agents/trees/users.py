"""The training windows of users laid out as trees. NumPy only.

As long as a history only grows, each window is a prefix of the next, and every token of the user is
read once.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agents.trees.pack import Trees, pack, parts_of_similar_length
from rere_env.ragged import offsets, owners, places
from rere_env.task import Task
from rere_env.types import Batch

__all__ = ["SFTBatch", "plan_completions", "plan_users", "user_batches"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SFTBatch:
    """Trees of prompts and completions, with the tokens to be predicted.

    Attributes:
        trees: One tree a row.
        row: [M] the tree of each completion token.
        slots: [M] the node before it.
        tokens: [M] the token.
    """

    trees: Trees
    row: NDArray[np.int64]
    slots: NDArray[np.int64]
    tokens: NDArray[np.int64]

    def parts(self, max_tokens: int) -> list["SFTBatch"]:
        """Split into parts of at most `max_tokens` nodes (rows times the longest)."""
        return [self.take(rows) for rows in parts_of_similar_length(self.trees.sizes, max_tokens)]

    def take(self, rows: NDArray[np.int64]) -> "SFTBatch":
        """Select trees, with the tokens to be predicted in them."""
        number = np.full(len(self.trees.sizes), -1)
        number[rows] = np.arange(len(rows))
        row = number[self.row]
        own = row >= 0
        return SFTBatch(
            trees=self.trees.take(rows),
            row=row[own],
            slots=self.slots[own],
            tokens=self.tokens[own],
        )


def user_batches(
    user: NDArray[np.int64], batch_size: int, rng: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Shuffle the users and cut their examples into batches of about `batch_size` rows.

    A user's examples stay together, so that they share a tree.
    """
    _, index, counts = np.unique(user, return_inverse=True, return_counts=True)
    order = rng.permutation(len(counts))
    by_user = np.argsort(index, kind="stable")
    first = np.cumsum(counts) - counts
    batch_of = (np.cumsum(counts[order]) - 1) // batch_size
    cuts = np.flatnonzero(np.diff(batch_of)) + 1
    return [
        np.concatenate([by_user[first[u] : first[u] + counts[u]] for u in users])
        for users in np.split(order, cuts)
    ]


def plan_completions(
    prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]], rows: Sequence[int]
) -> SFTBatch:
    """Lay out prompts with their completions, one tree a row (0..R - 1, each used)."""
    sequences = [[*p, *c[:-1]] for p, c in zip(prompts, completions, strict=True)]
    packed = pack(sequences, rows)
    lengths = np.array([len(completion) for completion in completions])
    before = np.array([len(prompt) - 1 for prompt in prompts])
    indptr = offsets(lengths)
    sequence = owners(indptr)
    return SFTBatch(
        trees=packed,
        row=np.asarray(rows, np.int64)[sequence],
        slots=packed.slots[sequence, before[sequence] + places(indptr)],
        tokens=np.concatenate([np.asarray(c, np.int64) for c in completions]),
    )


def plan_users(task: Task, batch: Batch) -> SFTBatch:
    """Lay out the trees of a batch: one for each user and first item of the history.

    Windows with the same first item share their history; one that has slid shares nothing.
    """
    prompts = [task.prompt(example.history) for example in batch]
    completions = [task.title_tokens.model_ids(title).tolist() for title in batch.target_title]
    start = np.stack([batch.user, batch.history[:, 0]])
    rows = np.unique(start, axis=1, return_inverse=True)[1].reshape(-1)
    return plan_completions(prompts, completions, rows.tolist())
