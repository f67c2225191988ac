"""The one scorer: every agent, baseline and oracle is judged here, on the full catalogue.

Headline metrics are title-level; `item_...` gives the same in closed form for the items behind the
titles. Lists are scored as they come: duplicates, empty and illegal slots keep their places and
are counted, never repaired. Knows nothing of how a list was made.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from rere_env import confidence, metrics
from rere_env.confidence import NUM_RESAMPLES, Difference
from rere_env.metrics import Metric
from rere_env.task import Task
from rere_env.types import Batch, FloatArray, IntArray, Recommender

__all__ = ["KS", "Difference", "Evaluation", "Metric", "Probabilities", "compare", "evaluate"]

KS = (1, 3, 5, 10, 20, 50)
"""The ranks at which metrics are taken by default."""

HIDDEN = -2
"""A recommended title that the task's filter hides: illegal, and never a hit."""

Probabilities = Callable[[Batch], FloatArray]
"""`batch of B -> [B, titles]`, the true next-title distribution where it is known."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evaluation:
    """What one recommender did on a set of examples.

    Attributes:
        metrics: By name: `hit_rate@k`, `ndcg@k`, `item_hit_rate@k`, `item_ndcg@k`, `coverage@k`,
            `distinct_titles@k` for every k, `mrr` (0 beyond the longest list), and
            `expected_hit_rate@k`, `expected_ndcg@k` where probabilities are known.
        rows: The means among them row by row, [B] float64 each: what paired comparisons need.
        illegal_rate: Share of slots that should hold a title that may be shown, and do not.
        duplicate_rate: Share of filled slots that repeat an earlier one of their list.
        titles: [B, max k] the lists as they came.
        ranks: [B] rank of the target, 0 = not in the list.
        target_title: [B] title ids of the targets.
        user: [B] whose row each is: what intervals resample.
        seconds: Wall time of the recommender alone.
        hidden_targets: Targets that the task's filter hides: misses, whoever is asked.
        num_resamples: Draws behind the intervals; 0: there are none.
    """

    metrics: Mapping[str, Metric]
    rows: Mapping[str, FloatArray]
    illegal_rate: float
    duplicate_rate: float
    titles: NDArray[np.int64]
    ranks: NDArray[np.int64]
    target_title: NDArray[np.int64]
    user: NDArray[np.int64]
    seconds: float
    hidden_targets: int = 0
    num_resamples: int = 0

    @property
    def num_users(self) -> int:
        """Count the users whose rows were scored."""
        return confidence.count_users(self.user)

    def as_dict(self) -> dict[str, Any]:
        """Return what `result.json` holds of it: numbers, and {value, low, high} by metric.

        `interval` says what low and high are; None where there are none.
        """
        measured = {
            name: {"value": m.value, "low": m.low, "high": m.high}
            for name, m in self.metrics.items()
        }
        return measured | {
            "illegal_rate": self.illegal_rate,
            "duplicate_rate": self.duplicate_rate,
            "num_examples": len(self.ranks),
            "num_users": self.num_users,
            "interval": (
                confidence.about_intervals(self.num_resamples) if self.num_resamples else None
            ),
            "hidden_targets": self.hidden_targets,
            "seconds": self.seconds,
        }


def evaluate(
    recommender: Recommender,
    task: Task,
    examples: Batch,
    *,
    ks: Sequence[int] = KS,
    probabilities: Probabilities | None = None,
    exact: bool = False,
    batch_size: int = 512,
    seed: int = 0,
    num_resamples: int = NUM_RESAMPLES,
    progress: bool = True,
) -> Evaluation:
    """Score the lists of a recommender.

    Args:
        recommender: Asked for `max(ks)` titles an example.
        task: Whose catalogue is ranked, and whose filter says what may be shown.
        examples: All of them are scored; a hidden target counts as a miss.
        ks: Ranks; those beyond the catalogue's size are legal (the lists are padded).
        probabilities: The true distribution, for the `expected_...` metrics.
        exact: Rank by the exact probabilities of all titles, whatever the recommender searches
            with; it must have `exact()`, as a language model does.
        batch_size: Examples handed over at a time; it does not change the result.
        seed: Of the bootstrap.
        num_resamples: Of the bootstrap over users; 0: no intervals, as of a single user.
        progress: Show a progress bar.

    Raises:
        ValueError: Nothing to score, a k below 1, an answer of the wrong shape or type, or
            `exact` where the recommender cannot be.
    """
    if len(examples) == 0:
        raise ValueError("there is nothing to evaluate: `examples` is empty.")
    if len(ks) == 0 or min(ks) < 1:
        raise ValueError(f"`ks` (={tuple(ks)}) must hold ranks of at least 1, such as (1, 10).")
    if batch_size < 1:
        raise ValueError(f"`batch_size` (={batch_size}) must be at least 1.")
    if exact:
        recommender = _exact(recommender)
    starts = range(0, len(examples), batch_size)
    batches = [examples.take(slice(start, start + batch_size)) for start in starts]
    started = time.perf_counter()
    titles = np.concatenate(
        [_ask(recommender, batch, max(ks)) for batch in _with_bar(batches, progress)]
    )
    seconds = time.perf_counter() - started
    num_titles = task.catalogue.num_titles
    scored, num_shown = titles, None
    if (hidden := task.hidden(examples)) is not None:
        scored = np.where(hidden.marks(titles, num_titles), HIDDEN, titles)
        num_shown = num_titles - hidden.counts
    ranks = metrics.target_ranks(scored, examples.target_title)
    draws = num_resamples if confidence.count_users(examples.user) > 1 else 0
    rows = _rows(scored, ranks, task, examples, ks)
    if probabilities is not None:
        rows |= _expected_rows(scored, batches, probabilities, ks)
    return Evaluation(
        metrics=_means(rows, examples.user, seed, draws) | _breadth(scored, num_titles, ks),
        rows=rows,
        illegal_rate=metrics.illegal_rate(scored, num_titles, num_shown),
        duplicate_rate=metrics.duplicate_rate(titles),
        titles=titles,
        ranks=ranks,
        target_title=examples.target_title.astype(np.int64),
        user=examples.user.astype(np.int64),
        seconds=seconds,
        hidden_targets=int(task.hides_target(examples).sum()),
        num_resamples=draws,
    )


def compare(
    a: Evaluation,
    b: Evaluation,
    metric: str = "ndcg@10",
    *,
    seed: int = 0,
    num_resamples: int = NUM_RESAMPLES,
) -> Difference:
    """Return the difference a - b of a metric with the interval of a paired bootstrap over users.

    Its p-value knows of no other comparison: of several, correct them by
    `rere_env.confidence.holm`. Rows of a single user have neither.

    Raises:
        ValueError: The two were not evaluated on the same examples, or lack the metric.
    """
    if not (np.array_equal(a.target_title, b.target_title) and np.array_equal(a.user, b.user)):
        raise ValueError("a paired comparison needs two evaluations of the same examples.")
    for name, side in (("a", a), ("b", b)):
        if metric not in side.rows:
            raise ValueError(
                f"`metric` (={metric!r}) has no values by row in `{name}`; "
                f"choose one of {sorted(side.rows)}."
            )
    return confidence.paired_bootstrap(
        a.rows[metric], b.rows[metric], a.user, np.random.default_rng(seed), num_resamples
    )


@runtime_checkable
class _HasExact(Protocol):
    def exact(self) -> Recommender: ...


def _exact(recommender: Recommender) -> Recommender:
    if not isinstance(recommender, _HasExact):
        raise ValueError(
            f"`exact` needs a recommender that can score every title (`exact()`); a "
            f"{type(recommender).__name__} cannot. Leave `exact` out."
        )
    return recommender.exact()


def _ask(recommender: Recommender, batch: Batch, k: int) -> NDArray[np.int64]:
    titles = np.asarray(recommender.recommend(batch, k))
    if titles.shape != (len(batch), k) or not np.issubdtype(titles.dtype, np.integer):
        raise ValueError(
            f"{type(recommender).__name__}.recommend must return integer title ids of shape "
            f"{(len(batch), k)}; got {titles.dtype} of shape {titles.shape}. "
            "Pad short lists with NO_TITLE."
        )
    return titles.astype(np.int64)


def _with_bar(batches: list[Batch], progress: bool) -> Any:  # noqa: ANN401  # tqdm is untyped
    if not progress:
        return batches
    from tqdm.auto import tqdm

    return tqdm(batches, desc="evaluate", unit="batch", leave=False, dynamic_ncols=True)


def _rows(
    titles: NDArray[np.int64],
    ranks: NDArray[np.int64],
    task: Task,
    examples: Batch,
    ks: Sequence[int],
) -> dict[str, FloatArray]:
    """Return the metrics that are means over rows, row by row."""
    target = examples.target_title
    catalogue = task.catalogue
    items = np.bincount(catalogue.item_title, minlength=catalogue.num_titles)
    rows: dict[str, FloatArray] = {"mrr": metrics.reciprocal_ranks(ranks)}
    for k in ks:
        rows[f"hit_rate@{k}"] = metrics.hits(ranks, k)
        rows[f"ndcg@{k}"] = metrics.discounted_gains(ranks, k)
        rows[f"item_hit_rate@{k}"] = metrics.item_hits(titles, target, items, k)
        rows[f"item_ndcg@{k}"] = metrics.item_discounted_gains(titles, target, items, k)
    return rows


def _expected_rows(
    titles: NDArray[np.int64],
    batches: list[Batch],
    probabilities: Probabilities,
    ks: Sequence[int],
) -> dict[str, FloatArray]:
    parts: dict[str, list[FloatArray]] = {}
    start = 0
    for batch in batches:
        known = probabilities(batch)
        part = titles[start : start + len(batch)]
        start += len(batch)
        for k in ks:
            hit_rate = metrics.expected_hits(part, known, k)
            gains = metrics.expected_gains(part, known, k)
            parts.setdefault(f"expected_hit_rate@{k}", []).append(hit_rate)
            parts.setdefault(f"expected_ndcg@{k}", []).append(gains)
    return {name: np.concatenate(values) for name, values in parts.items()}


def _means(
    rows: Mapping[str, FloatArray], user: IntArray, seed: int, num_resamples: int
) -> dict[str, Metric]:
    """Return every mean with its interval; all metrics share their resamples."""
    if num_resamples == 0:
        return {name: Metric(value=float(values.mean())) for name, values in rows.items()}
    means = confidence.bootstrap_means(
        np.stack(list(rows.values()), axis=1), user, np.random.default_rng(seed), num_resamples
    )
    low, high = confidence.percentiles(means, confidence.LEVEL)
    value = np.array([values.mean() for values in rows.values()])
    low, high = np.minimum(low, value), np.maximum(high, value)  # equal rows: rounding may differ
    return {
        name: Metric(value=float(value[i]), low=float(low[i]), high=float(high[i]))
        for i, name in enumerate(rows)
    }


def _breadth(titles: NDArray[np.int64], num_titles: int, ks: Sequence[int]) -> dict[str, Metric]:
    """Return coverage: a count over all rows, so resampled users would only understate it."""
    breadth = {}
    for k in ks:
        distinct = metrics.distinct_titles(titles, k, num_titles)
        breadth[f"coverage@{k}"] = Metric(value=distinct / num_titles)
        breadth[f"distinct_titles@{k}"] = Metric(value=float(distinct))
    return breadth
