"""The built-in world: a generated shop of games, its sales, and the exact law behind them.

Samples are split by time, 8:1:1. Some games are first sold when validation begins, and then stay;
apart from that the law never looks at a clock. So a validation or test row has a closed formula
for what comes next (`_games_law.py`), and the best possible score is known. Knows nothing of
tokens, tries or rewards.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from rere_env.games.draws import Draws
from rere_env.games.law import HISTORY_LENGTH, Law
from rere_env.games.shop import Shop, build_shop
from rere_env.ragged import offsets, owners
from rere_env.types import NO_ITEM, NO_TITLE, Batch, IntArray

__all__ = ["HISTORY_LENGTH", "GamesWorld", "Oracle", "games_world", "oracle"]

NUM_USERS = 8_000
TRAIN_SHARE = 0.8  # of the samples; `chronological_splits` cuts there too
FIRST_DAY_S = 1_577_836_800  # 2020-01-01 00:00 UTC
DAY_S = 86_400
NUM_DAYS = 1_000
ROWS_PER_BLOCK = 1_024  # 24 MiB of weights


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GamesWorld:
    """A shop and its sales. An item's id is its index and its title's id: titles are distinct.

    Attributes:
        titles: [I] 3 to 9 words, joined by single spaces.
        user: [M] interactions, sorted by user, then time.
        item: [M] item ids.
        timestamp: [M] seconds; no two are equal.
        franchise: [I] from 0.
        instalment: [I] place in the franchise, from 1.
        genre: [I] from 0.
        platform: [I] from 0.
        edition: [I] 0 is the ordinary release.
        studio: [I] from 0.
        log_popularity: [I] log of the integer weight.
        released_late: [I] True: sold from `release_timestamp` on.
        release_timestamp: When the first validation sample happened.
    """

    titles: tuple[str, ...]
    user: NDArray[np.int64]
    item: NDArray[np.int64]
    timestamp: NDArray[np.int64]
    franchise: NDArray[np.int64]
    instalment: NDArray[np.int64]
    genre: NDArray[np.int64]
    platform: NDArray[np.int64]
    edition: NDArray[np.int64]
    studio: NDArray[np.int64]
    log_popularity: NDArray[np.float64]
    released_late: NDArray[np.bool_]
    release_timestamp: int
    _popularity: NDArray[np.int64]
    _law: Law

    def next_item_probabilities(self, history: IntArray) -> NDArray[np.float64]:
        """Return p(item | history) [B, I] over the full catalogue, late items included.

        Only the last `HISTORY_LENGTH` items matter; an empty history leaves popularity alone.

        Args:
            history: [B, any] item ids, oldest first, padded on the right with -1.

        Raises:
            ValueError: An id is not in the catalogue, or padding comes before an item.
        """
        recent = self._recent(history)
        result = np.empty((len(recent), len(self.titles)))
        for start in range(0, len(recent), ROWS_PER_BLOCK):
            block = slice(start, start + ROWS_PER_BLOCK)
            weight = self._law.weights(recent[block], self._popularity)
            np.divide(weight, weight.sum(axis=1, keepdims=True), out=result[block])
        return result

    def _recent(self, history: IntArray) -> NDArray[np.int64]:
        """Return the last H items [B, H], the newest in the last column, padded on the left."""
        if history.ndim != 2:
            raise ValueError(
                f"`history` (shape {history.shape}) must be [rows, items]; "
                "use history[None] for a single one."
            )
        wrong = history[(history < NO_ITEM) | (history >= len(self.titles))]
        if wrong.size:
            raise ValueError(
                f"`history` holds the item id {wrong[0]}, but ids must lie in 0 .. "
                f"{len(self.titles) - 1}; pad short histories with {NO_ITEM}."
            )
        filled = history != NO_ITEM
        if (filled[:, 1:] & ~filled[:, :-1]).any():
            raise ValueError(
                f"`history` holds {NO_ITEM} before an item, but padding must follow the items; "
                "shift each row to the left."
            )
        length = np.count_nonzero(filled, axis=1)
        column = length[:, None] + np.arange(-HISTORY_LENGTH, 0)  # [B, H]
        padded = np.concatenate([history, np.full((len(history), 1), NO_ITEM)], axis=1)
        return np.take_along_axis(padded.astype(np.int64), np.where(column < 0, -1, column), axis=1)


class Oracle:
    """The recommender that knows the law: in expectation none can do better."""

    def __init__(self, world: GamesWorld) -> None:
        """Rank by the law of this world."""
        self._world = world

    def recommend(self, examples: Batch, k: int) -> NDArray[np.int64]:
        """Return title ids [B, k], the most probable first, equals by lower id.

        More titles than there are: `NO_TITLE` fills the rest.
        """
        if k < 1:
            raise ValueError(f"`k` (={k}) must be at least 1; ask for one title or more.")
        top = np.full((len(examples.history), k), NO_TITLE, np.int64)
        for start in range(0, len(top), ROWS_PER_BLOCK):
            block = slice(start, start + ROWS_PER_BLOCK)
            best = _top(self._world.next_item_probabilities(examples.history[block]), k)
            top[block, : best.shape[1]] = best
        return top

    def probabilities(self, examples: Batch) -> NDArray[np.float64]:
        """Return p(title | history) [B, I]; each row sums to 1."""
        return self._world.next_item_probabilities(examples.history)


def games_world(seed: int = 0) -> GamesWorld:
    """Return the world of a seed; built once, its arrays read-only. Seed 0 is the official one."""
    return _games_world(seed)


def oracle(world: GamesWorld | None = None) -> Oracle:
    """Return the oracle of a world; by default of the official one."""
    return Oracle(games_world() if world is None else world)


@cache  # on this inner function, so that games_world() and games_world(0) are one
def _games_world(seed: int) -> GamesWorld:
    shop = build_shop(seed)
    draws = Draws(seed, 1)
    length = _lengths(draws)
    user = owners(offsets(length))
    timestamp = _timestamps(user, length, draws)
    is_first = np.append(True, user[1:] != user[:-1])
    sample_time = np.sort(timestamp[~is_first])
    # Who buys when does not depend on what: the split is known before the first item is drawn.
    release = int(sample_time[int(TRAIN_SHARE * len(sample_time) + 1e-9)])
    law = Law(
        franchise=shop.franchise,
        instalment=shop.instalment,
        genre=shop.genre,
        platform=shop.platform,
    )
    world = GamesWorld(
        titles=shop.titles,
        user=user,
        item=_items(law, shop, length, timestamp >= release, draws),
        timestamp=timestamp,
        franchise=shop.franchise,
        instalment=shop.instalment,
        genre=shop.genre,
        platform=shop.platform,
        edition=shop.edition,
        studio=shop.studio,
        log_popularity=np.log(shop.popularity),
        released_late=shop.released_late,
        release_timestamp=release,
        _popularity=shop.popularity,
        _law=law,
    )
    for name in GamesWorld.__slots__:
        if isinstance(value := getattr(world, name), np.ndarray):
            value.flags.writeable = False  # shared by all callers
    return world


def _lengths(draws: Draws) -> NDArray[np.int64]:
    """Return [users] how much each one buys: 4 to 40, mean about 7."""
    u = draws.uniforms(NUM_USERS)
    length: NDArray[np.int64] = np.minimum(4 + np.floor(1.1 / (1.05 - u)), 40).astype(np.int64)
    return length


def _timestamps(
    user: NDArray[np.int64], length: NDArray[np.int64], draws: Draws
) -> NDArray[np.int64]:
    """Return [M] seconds, rising within a user, no two equal."""
    # Only products and floors of exact numbers: the same on every platform.
    start = np.floor(draws.uniforms(len(length)) * (NUM_DAYS * DAY_S))
    u = draws.uniforms(len(user))
    gap = 600 + np.floor(u * u * u * (120 * DAY_S))  # mostly days, now and then months
    total = np.cumsum(gap)
    first = np.cumsum(length) - length
    time = (start - total[first])[user] + total
    order = np.argsort(time, kind="stable")
    ascending = time[order].astype(np.int64) - np.arange(len(time))
    unique = np.empty(len(time), np.int64)
    unique[order] = np.maximum.accumulate(ascending) + np.arange(len(time))
    return FIRST_DAY_S + unique


def _items(
    law: Law,
    shop: Shop,
    length: NDArray[np.int64],
    after_release: NDArray[np.bool_],
    draws: Draws,
) -> NDArray[np.int64]:
    """Draw the items [M] of all users in lockstep: everybody's first, everybody's second, ..."""
    before = np.where(shop.released_late, 0, shop.popularity)
    first = np.cumsum(length) - length
    item = np.empty(int(length.sum()), np.int64)
    for step in range(int(length.max())):
        rows = first[length > step] + step  # [B]
        past = np.arange(-min(step, HISTORY_LENGTH), 0)
        history = item[rows[:, None] + past]
        uniforms = draws.uniforms(2 * len(rows)).reshape(2, -1)
        late = after_release[rows]
        for chosen, popularity in ((~late, before), (late, shop.popularity)):
            item[rows[chosen]] = law.draw(history[chosen], popularity, uniforms[:, chosen])
    return item


def _top(probability: NDArray[np.float64], k: int) -> NDArray[np.int64]:
    """Return the columns [B, min(k, I)] of the largest values, equals by lower column."""
    num_rows, num_items = probability.shape
    k = min(k, num_items)
    least = np.partition(probability, num_items - k, axis=1)[:, num_items - k]
    row, column = np.nonzero(probability >= least[:, None])  # k a row, more where values tie
    order = np.lexsort((column, -probability[row, column], row))
    begin = np.searchsorted(row, np.arange(num_rows))
    best: NDArray[np.int64] = column[order][begin[:, None] + np.arange(k)]
    return best
