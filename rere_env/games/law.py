"""The law of the next item: exact integer weights of all items after a history.

    weight(i | h) = popularity(i) x taste(genre of i) x taste(platform of i) x relation(i, h)
    p(i | h)      = weight(i | h) / sum of all weights

`taste` is exp(strength x share of the recency-weighted history that has the genre, or platform),
as an integer; `relation` is owned, next instalment of an owned one, same franchise, or none, and
fades with the age of what it relates to. That is a softmax over sums of logs. All weights are
integers, held in float64, and stay below 2^53: every sum is exact in any order, so that neither
BLAS nor the platform's exp (whose last bit differs) can change a draw. Knows nothing of words,
users or time.

# B histories, H history items, I items, C cells (genre x platform), S most items in a cell or
# franchise, R related pairs (history row, item)
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rere_env.ragged import offsets, places

__all__ = ["HISTORY_LENGTH", "Law", "Related"]

HISTORY_LENGTH = 10
"""H: the law looks at no more than the last ten items."""

RECENCY = np.array([100, 75, 56, 42, 32, 24, 18, 13, 10, 8])  # by age, the newest first
GENRE_STRENGTH = 2.2
PLATFORM_STRENGTH = 3.0
TASTE_UNIT = 16  # the weight of a genre or platform that the history lacks

UNRELATED = 256
OWNED = 1
SAME_FRANCHISE = 1_300  # of the newest item; what lies above UNRELATED fades with RECENCY
NEXT_INSTALMENT = 25_000


def taste_table(strength: float) -> NDArray[np.float64]:
    """Return [101] integer weights by share in whole percent."""
    table: NDArray[np.float64] = np.rint(TASTE_UNIT * np.exp(strength * np.arange(101) / 100))
    return table


def _relation_table() -> NDArray[np.float64]:
    """Return [2 H + 1] integer weights: same franchise by falling age, next instalment, owned."""
    fading = RECENCY[::-1]
    same = UNRELATED + (SAME_FRANCHISE - UNRELATED) * fading // RECENCY[0]
    following = UNRELATED + (NEXT_INSTALMENT - UNRELATED) * fading // RECENCY[0]
    return np.concatenate([same, following, [OWNED]]).astype(np.float64)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Related:
    """The few items that a history says something about by name; each pair once.

    Attributes:
        row: [R] history.
        item: [R] item id.
        relation: [R] integer weight that stands in for `UNRELATED`.
    """

    row: NDArray[np.int64]
    item: NDArray[np.int64]
    relation: NDArray[np.float64]


class Law:
    """Tables over the items of one shop, and the weights that follow from them."""

    def __init__(
        self,
        *,
        franchise: NDArray[np.int64],
        instalment: NDArray[np.int64],
        genre: NDArray[np.int64],
        platform: NDArray[np.int64],
    ) -> None:
        """Build the tables."""
        self._franchise, self._instalment = franchise, instalment
        self._genre, self._platform = genre, platform
        self._num_genres, self._num_platforms = int(genre.max()) + 1, int(platform.max()) + 1
        self._num_cells = self._num_genres * self._num_platforms
        self._cell = genre * self._num_platforms + platform  # [I]
        self._family = _members(franchise, int(franchise.max()) + 1)  # [franchises, S]
        self._cell_items = _members(self._cell, self._num_cells)  # [C, S]
        self._place = _places(self._cell_items, len(genre))  # [I] column in the row of its cell
        self._genre_taste = taste_table(GENRE_STRENGTH)
        self._platform_taste = taste_table(PLATFORM_STRENGTH)
        self._relation = _relation_table()

    def weights(
        self, history: NDArray[np.int64], popularity: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Return the weight [B, I] of every item.

        Args:
            history: [B, H] item ids, the newest in the last column, padded on the left with -1.
            popularity: [I] integers; 0 where an item is not for sale.
        """
        related = self._related(history)
        weight = self._taste(history)[:, self._cell]
        weight *= popularity * float(UNRELATED)
        # Exact: the divisor is a power of two, and a factor of the weight.
        weight[related.row, related.item] *= related.relation / UNRELATED
        return weight

    def draw(
        self,
        history: NDArray[np.int64],
        popularity: NDArray[np.int64],
        uniforms: NDArray[np.float64],
    ) -> NDArray[np.int64]:
        """Draw one item [B] a history: first its genre and platform, then the game itself.

        The same law as `weights`, at a twentieth of the work.

        Args:
            history: As in `weights`.
            popularity: As in `weights`.
            uniforms: [2, B] in [0, 1).
        """
        num_rows, num_cells = len(history), self._num_cells
        related = self._related(history)
        change = (related.relation - UNRELATED) * popularity[related.item]  # [R]
        in_cell = self._cell[related.item]
        mass = _table_of_sums(related.row, in_cell, change, (num_rows, num_cells))
        mass += np.bincount(self._cell, weights=popularity, minlength=num_cells) * UNRELATED
        mass *= self._taste(history)
        cell = _inverse_cdf(mass, uniforms[0])  # [B]

        items = self._cell_items[cell]  # [B, S]
        weight = np.where(items >= 0, popularity[items], 0).astype(np.float64) * UNRELATED
        here = in_cell == cell[related.row]
        weight[related.row[here], self._place[related.item[here]]] += change[here]
        return items[np.arange(num_rows), _inverse_cdf(weight, uniforms[1])]

    def _taste(self, history: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return [B, C]."""
        genre = self._genre_taste[_shares(history, self._genre, self._num_genres)]
        platform = self._platform_taste[_shares(history, self._platform, self._num_platforms)]
        return (genre[:, :, None] * platform[:, None, :]).reshape(len(history), self._num_cells)

    def _related(self, history: NDArray[np.int64]) -> Related:
        """Return every item of every franchise in the histories, with its strongest relation."""
        length = history.shape[1]
        row, column = np.nonzero(history >= 0)
        seen = history[row, column]
        member = self._family[self._franchise[seen]]  # [., S]
        rank = column[:, None] + (HISTORY_LENGTH - length)  # index into the relation table
        is_next = self._instalment[member] == self._instalment[seen][:, None] + 1
        rank = np.where(is_next, HISTORY_LENGTH, 0) + rank
        rank[member == seen[:, None]] = 2 * HISTORY_LENGTH
        # Sort by row, item, rank in one key; the last of equal (row, item) is the strongest.
        pair = row[:, None] * len(self._genre) + member
        base = 2 * HISTORY_LENGTH + 1
        key = np.sort((pair * base + rank)[member >= 0])
        pair, rank = np.divmod(key, base)
        last = np.append(pair[1:] != pair[:-1], True)[: len(pair)]
        where, item = np.divmod(pair[last], len(self._genre))
        return Related(row=where, item=item, relation=self._relation[rank[last]])


def _shares(
    history: NDArray[np.int64], attribute: NDArray[np.int64], num_values: int
) -> NDArray[np.int64]:
    """Return [B, num_values] what share of a history has each value, in whole percent."""
    num_rows, length = history.shape
    row, column = np.nonzero(history >= 0)
    recency = RECENCY[length - 1 - column]
    value = attribute[history[row, column]]
    count = _table_of_sums(row, value, recency, (num_rows, num_values))
    total = np.maximum(count.sum(axis=1, keepdims=True), 1)
    share: NDArray[np.int64] = 100 * count.astype(np.int64) // total.astype(np.int64)
    return share


def _table_of_sums(
    row: NDArray[np.int64], column: NDArray[np.int64], value: NDArray[Any], shape: tuple[int, int]
) -> NDArray[np.float64]:
    """Return the table of this shape in which each cell is the sum of its values."""
    sums = np.bincount(row * shape[1] + column, weights=value, minlength=shape[0] * shape[1])
    return sums.reshape(shape).astype(np.float64)  # bincount of nothing is of integers


def _members(group: NDArray[np.int64], num_groups: int) -> NDArray[np.int64]:
    """Return [groups, S] the items of each group, ascending, padded with -1."""
    order = np.argsort(group, kind="stable")
    size = np.bincount(group, minlength=num_groups)
    column = places(offsets(size))
    table = np.full((num_groups, int(size.max())), -1, np.int64)
    table[group[order], column] = order
    return table


def _places(table: NDArray[np.int64], num_items: int) -> NDArray[np.int64]:
    """Return [I] the column of each item in a table of members."""
    place = np.zeros(num_items, np.int64)
    row, column = np.nonzero(table >= 0)
    place[table[row, column]] = column
    return place


def _inverse_cdf(weight: NDArray[np.float64], uniform: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the column [B] that each uniform number falls into."""
    bound = np.cumsum(weight, axis=1)
    # Below the total even after rounding: uniforms end at 1 - 2^-53.
    ticket = np.floor(uniform * bound[:, -1])
    column: NDArray[np.int64] = np.count_nonzero(bound <= ticket[:, None], axis=1)
    return column
