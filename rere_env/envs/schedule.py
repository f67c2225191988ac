"""Which example a row answers next: at random in training, in order otherwise.

Knows indices into a split, not what the examples hold.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.utils import seeding
from numpy.typing import NDArray

from rere_env.types import BoolArray, IntArray

__all__ = [
    "RandomExamples",
    "Schedule",
    "check_reset_mask",
    "check_shard",
    "chosen_example",
    "is_training",
    "ordered_example",
    "row_seeds",
]


def is_training(split: str) -> bool:
    """Say whether a split is for training (its name begins so): examples are drawn at random."""
    return split.startswith("train")


def ordered_example(
    served: IntArray, shard: IntArray | int, num_shards: int, num_examples: int
) -> tuple[IntArray, IntArray]:
    """Return (example, pass) of the next episode of an evaluation shard.

    Shard i of N serves examples i, i + N, i + 2N, ... and starts over after its last.

    Args:
        served: Episodes begun so far in the shard.
        shard: Which shard, 0..num_shards - 1.
        num_shards: N.
        num_examples: Size of the split.
    """
    size = (num_examples - shard + num_shards - 1) // num_shards
    return shard + num_shards * (served % size), served // size


def check_shard(shard: tuple[int, int], num_examples: int) -> tuple[int, int]:
    """Return (i, N) if shard i of N holds an example.

    Raises:
        ValueError: It does not.
    """
    index, num_shards = shard
    if not 0 <= index < num_shards:
        raise ValueError(f"`shard` (={tuple(shard)}) must be (i, N) with 0 <= i < N.")
    if index >= num_examples:
        raise ValueError(
            f"`shard` (={tuple(shard)}) is empty: the split holds {num_examples} examples; "
            f"use at most {num_examples} shards or rows."
        )
    return int(index), int(num_shards)


def chosen_example(options: dict[str, Any] | None, num_examples: int) -> IntArray | None:
    """Return `options["example"]` as an array, None if it is not given.

    Raises:
        ValueError: An example that the split does not hold.
        TypeError: Not integers.
    """
    if options is None or options.get("example") is None:
        return None
    example = np.asarray(options["example"])
    if example.dtype.kind not in "iu":
        raise TypeError(f"options['example'] (={options['example']!r}) must be an integer.")
    if (example < 0).any() or (example >= num_examples).any():
        raise ValueError(
            f"options['example'] (={options['example']}) must lie in 0..{num_examples - 1}, "
            "the examples of the split."
        )
    return example.astype(np.int64)


def row_seeds(seed: int | Sequence[int | None] | None, num_rows: int) -> list[int | None]:
    """Return one seed a row: `seed + i` from an integer, None where nothing is to be seeded."""
    if seed is None:
        return [None] * num_rows
    if isinstance(seed, int | np.integer):
        return [int(seed) + row for row in range(num_rows)]
    if len(seed) != num_rows:
        raise ValueError(f"`seed` holds {len(seed)} seeds for {num_rows} rows; give one a row.")
    return list(seed)


def check_reset_mask(mask: object, num_envs: int) -> BoolArray:
    """Return `options["reset_mask"]` if it chooses rows.

    Raises:
        TypeError: It is no bool array [N].
        ValueError: It chooses no row.
    """
    if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_ or mask.shape != (num_envs,):
        raise TypeError(f"options['reset_mask'] must be a bool array of shape ({num_envs},).")
    if not mask.any():
        raise ValueError("options['reset_mask'] must choose at least one row.")
    return mask


class RandomExamples:
    """One generator a row, read ahead in blocks: the stream equals that of scalar draws.

    A draw costs microseconds, of one number or of a hundred, which would be most of the time of a
    step of many rows.
    """

    BLOCK_BYTES = 256

    def __init__(self, num_rows: int, num_examples: int) -> None:
        """Fix the seeds: entropy, the next integer for the next row, unless `seed` comes first.

        A generator is made when it is first needed, or looked at, which then makes no difference.
        """
        self.num_examples = num_examples
        _, entropy = seeding.np_random()
        self.seeds = [entropy + row for row in range(num_rows)]
        self._generators: list[np.random.Generator | None] = [None] * num_rows
        dtype = np.min_scalar_type(num_examples - 1)
        self._size = self.BLOCK_BYTES // dtype.itemsize
        self._block = np.zeros((num_rows, self._size), dtype)
        self._next = np.full(num_rows, self._size)

    @property
    def generators(self) -> tuple[np.random.Generator, ...]:
        """The generator of each row; it has drawn the block that was read ahead."""
        return tuple(self._generator(row) for row in range(len(self.seeds)))

    def seed(self, rows: IntArray, seeds: Sequence[int | None]) -> None:
        """Give each row a generator of its own; None keeps the one it has."""
        for row, seed in zip(rows.tolist(), seeds, strict=True):
            if seed is not None:
                self._generators[row], self.seeds[row] = seeding.np_random(seed)
                self._next[row] = self._size

    def draw(self, rows: IntArray) -> NDArray[np.int64]:
        """Return the next example of each row."""
        place = self._next[rows]
        spent = (place == self._size).nonzero()[0]
        if len(spent):
            self._read_ahead(rows[spent])
            place[spent] = 0
        self._next[rows] = place + 1
        example: IntArray = self._block.reshape(-1)[rows * self._size + place]
        return example.astype(np.int64)

    def state(self) -> dict[str, Any]:
        """Return a copy of everything that a later `restore` needs."""
        return {
            "generators": [g and g.bit_generator.state for g in self._generators],
            "seeds": list(self.seeds),
            "block": self._block.copy(),
            "next": self._next.copy(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take the result of `state()` back."""
        for row, saved in enumerate(state["generators"]):
            self._generators[row] = None
            if saved is not None:
                generator, _ = seeding.np_random(0)
                generator.bit_generator.state = saved
                self._generators[row] = generator
        self.seeds = list(state["seeds"])
        self._block[...] = state["block"]
        self._next[...] = state["next"]

    def _generator(self, row: int) -> np.random.Generator:
        generator = self._generators[row]
        if generator is None:
            generator, _ = seeding.np_random(self.seeds[row])
            self._generators[row] = generator
        return generator

    def _read_ahead(self, rows: IntArray) -> None:
        for row in rows.tolist():
            drawn = self._generator(row).integers(self.num_examples, size=self._size)
            self._block[row] = drawn


class Schedule:
    """Which example each row of a vector environment answers next. Groups of G rows share one."""

    def __init__(
        self,
        num_rows: int,
        num_examples: int,
        *,
        training: bool,
        shard: tuple[int, int],
        group_size: int = 1,
    ) -> None:
        """Deal an evaluation split out among the groups of rows.

        Raises:
            ValueError: A shard without an example.
        """
        self.group_size, self.training, self.num_examples = group_size, training, num_examples
        num_groups = num_rows // group_size
        self.random = RandomExamples(num_groups, num_examples)
        self._served = np.zeros(num_groups, np.int64)
        self._shards, self._num_shards = np.arange(num_groups), num_groups
        if not training:
            index, parts = shard
            # Group i of part (j, M) is shard (j + i M, N M): all parts together serve all.
            self._shards, self._num_shards = index + self._shards * parts, num_groups * parts
            check_shard((index, parts), num_examples)
            check_shard((int(self._shards[-1]), self._num_shards), num_examples)

    @property
    def num_groups(self) -> int:
        """Generators, and sequences of examples."""
        return len(self._served)

    def groups(self, rows: IntArray) -> IntArray:
        """Return the groups that rows make up.

        Raises:
            ValueError: A group is there in part.
        """
        if self.group_size == 1:
            return rows
        groups, counts = np.unique(rows // self.group_size, return_counts=True)
        if (counts != self.group_size).any():
            raise ValueError(
                f"rows are reset by whole groups of `group_size` (={self.group_size}), but only "
                f"{int(counts.min())} rows of group {int(groups[counts.argmin()])} were chosen."
            )
        return groups

    def seed(self, groups: IntArray, seeds: Sequence[int | None]) -> None:
        """Seed generators, and rewind what is served in order."""
        chosen = [seeds[group] for group in groups]
        self.random.seed(groups, chosen)
        self._served[groups[[given is not None for given in chosen]]] = 0

    def next(self, rows: IntArray, options: dict[str, Any] | None) -> tuple[IntArray, IntArray]:
        """Return (example, pass) for each of some rows, whole groups of them.

        Raises:
            ValueError: `options["example"]` gives the rows of a group different examples.
        """
        groups = self.groups(rows)
        num_passes: IntArray = np.zeros(len(groups), np.int64)
        chosen = chosen_example(options, self.num_examples)
        if chosen is not None:
            all_rows = np.broadcast_to(chosen, (self.num_groups * self.group_size,))
            by_group = all_rows.reshape(-1, self.group_size)[groups]
            if (by_group != by_group[:, :1]).any():
                raise ValueError("options['example'] must be the same in all rows of a group.")
            example: IntArray = by_group[:, 0]
        elif self.training:
            example = self.random.draw(groups)
        else:
            example, num_passes = ordered_example(
                self._served[groups], self._shards[groups], self._num_shards, self.num_examples
            )
            self._served[groups] += 1
        if self.group_size == 1:
            return example, num_passes
        return np.repeat(example, self.group_size), np.repeat(num_passes, self.group_size)

    def state(self) -> dict[str, Any]:
        """Return a copy of everything that a later `restore` needs."""
        return {"served": self._served.copy(), "random": self.random.state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Take the result of `state()` back."""
        self._served[...] = state["served"]
        self.random.restore(state["random"])
