"""How cost grows: CPU seconds per user over group size, prompt length, catalogue size and batch.

One thing varies at a time; catalogues are synthetic. Released code is measured as far as it is
bearable: its dictionary of strings alone takes gigabytes for a million titles.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from agents.bench.clock import Side, race
from agents.bench.engine.models import make_model
from agents.bench.engine.search import Peers, our_sides
from agents.bench.engine.update import Updates
from agents.bench.engine.workload import NUM_TITLES, Workload, make_task, make_workload
from rere_env.task import Task

__all__ = ["Growth", "Point", "search_growth", "update_growth"]

Growth = dict[str, dict[str, Any]]
"""By axis: `values`, `per_user_s` by side (None: not measured), `exponent` by side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """What is measured at once."""

    group_size: int = 16
    prompt_length: int = 200
    num_titles: int = NUM_TITLES
    num_users: int = 4


SEARCH_AXES: dict[str, tuple[int, ...]] = {
    "group_size": (1, 4, 16, 50, 128),
    "prompt_length": (50, 100, 200, 400, 800),
    "num_titles": (3_686, NUM_TITLES, 100_000, 1_000_000),
    "num_users": (1, 2, 4, 8, 16),
}
UPDATE_AXES: dict[str, tuple[int, ...]] = {
    "group_size": (4, 16, 64),
    "prompt_length": (64, 256, 1024),
    "num_users": (1, 2, 4, 8),
}
RELEASED_UP_TO = Point(group_size=50, prompt_length=400, num_titles=100_000, num_users=16)
MILLION = 1_000_000


def search_growth(
    axes: Mapping[str, tuple[int, ...]] = SEARCH_AXES, base: Point | None = None
) -> Growth:
    """Measure searches, the exact score of every title, and released code."""

    def sides(workload: Workload, point: Point, axis: str) -> dict[str, Side]:
        chosen = our_sides(workload, point.num_users, point.group_size, 3)
        del chosen["parity_catalogue"]
        if axis == "group_size":
            del chosen["score_catalogue"]  # knows no group
        elif point.num_titles >= MILLION:
            chosen["score_catalogue"] = our_sides(workload, 1, 1, 1)["score_catalogue"]
        if _bearable(point):
            peers = Peers(workload)
            chosen["released"] = Side(
                run=lambda: peers.released(point.num_users, point.group_size),
                users=point.num_users,
                warm=False,
            )
        return chosen

    return _grow(axes, base or Point(), sides, "search")


def update_growth(
    axes: Mapping[str, tuple[int, ...]] = UPDATE_AXES, base: Point | None = None
) -> Growth:
    """Measure gradients, ours under both supports and the released one."""

    def sides(workload: Workload, point: Point, _: str) -> dict[str, Side]:
        updates = Updates.of(workload, point.group_size)
        users = point.num_users
        return {
            "vocabulary": Side(run=lambda: updates.ours("vocabulary"), users=users, times=3),
            "catalogue": Side(run=lambda: updates.ours("catalogue"), users=users, times=3),
            "released": Side(run=lambda: updates.released(16), users=users, warm=False),
        }

    return _grow(axes, base or Point(prompt_length=256, num_users=2), sides, "update")


def _grow(
    axes: Mapping[str, tuple[int, ...]],
    base: Point,
    sides_of: Callable[[Workload, Point, str], dict[str, Side]],
    label: str,
) -> Growth:
    growth: Growth = {}
    for axis, values in axes.items():
        measured = []
        for value in values:
            point = replace(base, **{axis: value})
            workload = _world(point)
            done = race(
                sides_of(workload, point, axis),
                1,
                aside=workload.scores.aside,
                check=lambda _: None,  # speed alone: results are asserted where ratios are made
                label=f"{label} {axis}={value}",
            )
            measured.append({name: done.per_user(name)[0] for name in done.laps})
        names = sorted({name for row in measured for name in row})
        per_user = {name: [row.get(name) for row in measured] for name in names}
        growth[axis] = {
            "values": list(values),
            "per_user_s": per_user,
            "exponent": {name: _exponent(values, costs) for name, costs in per_user.items()},
        }
    return growth


def _world(point: Point) -> Workload:
    task = _task(point.num_titles)
    model = make_model("small", task.tokenizer.eos_id)
    return make_workload(task, model, point.num_users, point.prompt_length)


@lru_cache(maxsize=1)
def _task(num_titles: int) -> Task:
    return make_task(num_titles=num_titles)


def _bearable(point: Point) -> bool:
    names = ("group_size", "prompt_length", "num_titles", "num_users")
    return all(getattr(point, name) <= getattr(RELEASED_UP_TO, name) for name in names)


def _exponent(values: tuple[int, ...], costs: list[float | None]) -> float | None:
    """Return a of cost = b value^a, fitted to the logarithms; None for less than two points."""
    known = [(value, cost) for value, cost in zip(values, costs, strict=True) if cost is not None]
    if len(known) < 2:
        return None
    x, y = np.log(known).T
    return float(np.polyfit(x, y, 1)[0])
