"""A race of several sides in one process: interleaved rounds, CPU and wall time, equality first.

CPU time of one thread is what ratios are made of: on a shared machine wall time says little. Both
are kept. What a side does on behalf of the benchmark alone (`Aside`) is taken off its time.
"""

import gc
import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import torch
from tqdm.auto import tqdm

from agents.bench.timing import machine
from agents.reporting.provenance import git_commit, package_versions

__all__ = ["Aside", "Lap", "Race", "Ratio", "Side", "one_thread", "provenance", "race"]

Ratio = dict[str, float]
"""`median`, `low` and `high`."""


class Aside:
    """Seconds that belong to the benchmark and not to the side that is being timed."""

    def __init__(self) -> None:
        """Start from zero."""
        self.cpu_s = self.wall_s = 0.0
        self._started = (0.0, 0.0)

    def __enter__(self) -> None:
        """Begin."""
        self._started = (time.process_time(), time.perf_counter())

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Add up."""
        self.cpu_s += time.process_time() - self._started[0]
        self.wall_s += time.perf_counter() - self._started[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lap:
    """One run of a side.

    Attributes:
        cpu_s: Process time, what was done aside taken off.
        wall_s: The same by the clock on the wall.
        aside_s: Process time that was taken off.
    """

    cpu_s: float
    wall_s: float
    aside_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One way to do the work.

    Attributes:
        run: Does it once.
        users: Users that one run serves; ratios are per user.
        times: Runs a round; a cheap side needs several.
        max_rounds: Rounds that it joins; a dear peer that is only reported beside joins one.
        warm: Run once before the race, so that nothing is built within it.
    """

    run: Callable[[], Any]
    users: int
    times: int = 1
    max_rounds: int | None = None
    warm: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Race:
    """What was measured.

    Attributes:
        laps: By side, by round: every run.
        users: Users that one run of a side serves.
    """

    laps: Mapping[str, Sequence[Sequence[Lap]]]
    users: Mapping[str, int]

    def ratio(self, slower: str, faster: str, *, wall: bool = False) -> Ratio:
        """Return how many times as long one side takes per user as another.

        A round in which both ran gives one value, of the medians of their runs.
        """
        pairs = zip(self.per_user(slower, wall), self.per_user(faster, wall), strict=False)
        ratios = sorted(long / short for long, short in pairs)
        return {"median": statistics.median(ratios), "low": ratios[0], "high": ratios[-1]}

    def ratios(
        self, names: Mapping[str, tuple[str, str]], *, wall: bool = False
    ) -> dict[str, Ratio]:
        """Return several, by name: the side that takes longer, the side that takes less."""
        return {name: self.ratio(*sides, wall=wall) for name, sides in names.items()}

    def per_user(self, side: str, wall: bool = False) -> list[float]:
        """Return the seconds per user of a side, one value a round."""
        return [
            statistics.median(lap.wall_s if wall else lap.cpu_s for lap in one_round)
            / self.users[side]
            for one_round in self.laps[side]
        ]

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """Return every lap of every side as plain lists, for JSON."""
        keys = ("cpu_s", "wall_s", "aside_s")
        return {
            name: {"users": self.users[name]}
            | {key: [getattr(lap, key) for one in rounds for lap in one] for key in keys}
            for name, rounds in self.laps.items()
        }


def race(
    sides: Mapping[str, Side],
    rounds: int,
    *,
    aside: Aside,
    check: Callable[[dict[str, Any]], None],
    label: str,
) -> Race:
    """Run every side in every round, in shuffled order.

    Args:
        sides: By name.
        rounds: At least one.
        aside: What `sides` do for the benchmark's sake.
        check: Gets the result of each side after the first round; raises where they differ, and
            then nothing is reported.
        label: Of the progress bar on stderr.
    """
    order = random.Random(0)
    laps: dict[str, list[list[Lap]]] = {name: [] for name in sides}
    with tqdm(total=rounds * len(sides), desc=label, dynamic_ncols=True, leave=False) as bar:
        for side in sides.values():
            if side.warm:
                side.run()
        for number in range(rounds):
            results = {}
            names = list(sides)
            order.shuffle(names)
            for name in names:
                side = sides[name]
                if side.max_rounds is None or number < side.max_rounds:
                    bar.set_postfix_str(name)
                    timed = [_lap(side.run, aside) for _ in range(side.times)]
                    laps[name].append([lap for lap, _ in timed])
                    results[name] = timed[-1][1]
                bar.update()
            if number == 0:
                check(results)
    return Race(laps=laps, users={name: side.users for name, side in sides.items()})


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread: only then is CPU time the time of the work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def provenance() -> dict[str, Any]:
    """Return machine, versions and commit."""
    return {
        "machine": machine() | {"device": "cpu", "threads": 1},
        "versions": package_versions(),
        "git_commit": git_commit(),
    }


def _lap(run: Callable[[], Any], aside: Aside) -> tuple[Lap, Any]:
    gc.collect()
    aside.cpu_s = aside.wall_s = 0.0
    wall, cpu = time.perf_counter(), time.process_time()
    result = run()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    lap = Lap(cpu_s=cpu - aside.cpu_s, wall_s=wall - aside.wall_s, aside_s=aside.cpu_s)
    return lap, result
