"""The values that travel between the parts: one example, a batch of examples, an observation.

Knows nothing of text, tokens, files or torch.

Shape legend, used in every file of the project:
    B prompts (or examples), G candidates per prompt (`group_size`), K titles in a slate
    (`slate_size`), T completion tokens, P prompt tokens, H history items, N parallel
    environments, V vocabulary, I items.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, TypedDict

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "NO_ITEM",
    "NO_TITLE",
    "Batch",
    "BatchRows",
    "BoolArray",
    "Example",
    "FloatArray",
    "IntArray",
    "Observation",
    "Probabilistic",
    "Recommender",
    "Reward",
]

IntArray: TypeAlias = NDArray[np.integer[Any]]
FloatArray: TypeAlias = NDArray[np.floating[Any]]
BoolArray: TypeAlias = NDArray[np.bool_]

NO_ITEM = -1
"""Padding of a history."""

NO_TITLE = -1
"""A candidate slot that holds no title: never a hit, never trained, never scored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One question "what next?" with its answer.

    Attributes:
        user: Index of the user.
        history: Item ids, oldest first.
        target: Item id of the answer. It travels with the example and is never looked up by text.
        target_title: Title id of the answer.
    """

    user: int
    history: tuple[int, ...]
    target: int
    target_title: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch:
    """Rows of examples as arrays; a whole split is one large batch.

    Attributes:
        user: [B] int64.
        history: [B, H] int32 item ids, oldest first, padded on the right with `NO_ITEM`.
        target: [B] int32 item ids.
        target_title: [B] int32 title ids.

    >>> batch = Batch(user=np.array([7, 7]), history=np.array([[3, 5], [5, NO_ITEM]]),
    ...               target=np.array([5, 9]), target_title=np.array([4, 8]))
    >>> batch.history_length.tolist(), batch[1].history, batch.take([1]).target.tolist()
    ([2, 1], (5,), [9])
    """

    user: IntArray
    history: IntArray
    target: IntArray
    target_title: IntArray

    def __post_init__(self) -> None:
        """Check that the arrays belong together."""
        rows = {len(self.user), len(self.history), len(self.target), len(self.target_title)}
        if len(rows) != 1 or self.history.ndim != 2:
            raise ValueError(
                "a Batch needs `user` [B], `history` [B, H], `target` [B] and `target_title` [B]; "
                f"got shapes {self.user.shape}, {self.history.shape}, {self.target.shape}, "
                f"{self.target_title.shape}."
            )

    def __len__(self) -> int:
        """Count the examples."""
        return len(self.target)

    def __getitem__(self, row: int) -> Example:
        """Return one row as an `Example`."""
        history = self.history[row]
        return Example(
            user=int(self.user[row]),
            history=tuple(int(i) for i in history[history != NO_ITEM]),
            target=int(self.target[row]),
            target_title=int(self.target_title[row]),
        )

    def __iter__(self) -> Iterator[Example]:
        """Iterate over the rows."""
        return (self[row] for row in range(len(self)))

    @property
    def history_length(self) -> IntArray:
        """[B] number of items in each history."""
        length: IntArray = np.count_nonzero(self.history != NO_ITEM, axis=1)
        return length

    def take(self, rows: "IntArray | Sequence[int] | slice") -> "Batch":
        """Select rows, in the order given."""
        return Batch(
            user=self.user[rows],
            history=self.history[rows],
            target=self.target[rows],
            target_title=self.target_title[rows],
        )

    def sample(self, num: int, rng: np.random.Generator) -> "Batch":
        """Draw distinct rows, and return them in the order they stand in.

        Args:
            num: How many; all of them where there are no more.
            rng: Draws nothing if all are wanted.

        Raises:
            ValueError: None are wanted.
        """
        if num < 1:
            raise ValueError(f"`num` (={num}) must be at least 1; ask for one row or more.")
        if num >= len(self):
            return self
        return self.take(np.sort(rng.choice(len(self), num, replace=False)))


class BatchRows(Batch):
    """Some rows of a batch, gathered when they are read: a reward reads little of it."""

    __slots__ = ("_rows", "_source")
    _rows: IntArray
    _source: Batch

    def __init__(self, source: Batch, rows: IntArray) -> None:
        """Choose rows, in the order given."""
        object.__setattr__(self, "_source", source)
        object.__setattr__(self, "_rows", rows)

    def __len__(self) -> int:
        """Count the examples."""
        return len(self._rows)

    @property
    def user(self) -> IntArray:
        """[B] int64."""
        return self._source.user.take(self._rows)

    @property
    def history(self) -> IntArray:
        """[B, H] int32 item ids."""
        return self._source.history.take(self._rows, axis=0)

    @property
    def target(self) -> IntArray:
        """[B] int32 item ids."""
        return self._source.target.take(self._rows)

    @property
    def target_title(self) -> IntArray:
        """[B] int32 title ids."""
        return self._source.target_title.take(self._rows)


class Observation(TypedDict):
    """What an agent sees: flat int64 arrays, 0 = empty (DESIGN section 3)."""

    history: IntArray  # [H] title id + 1, oldest first
    slate: IntArray  # [K] title id + 1, best first
    prefix: IntArray  # [L] local token ids of the title being written


Reward: TypeAlias = Callable[[IntArray, Batch], FloatArray]
"""`(titles [B, G] best first, batch of B) -> float32 [B, G]`."""


class Recommender(Protocol):
    """Whatever can rank titles for examples."""

    def recommend(self, examples: Batch, k: int) -> IntArray:
        """Return title ids [B, k], best first, distinct; `NO_TITLE` pads a short list."""
        ...


class Probabilistic(Recommender, Protocol):
    """A recommender that gives every title its probability."""

    def probabilities(self, examples: Batch) -> FloatArray:
        """Return p(title | history) [B, titles]; each row sums to 1."""
        ...
