"""result.json: every recommender's metrics, how they compare, and what made them."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from agents.evaluation import Difference, Evaluation, compare
from agents.reporting.provenance import git_commit, package_versions
from rere_env.confidence import NUM_RESAMPLES, about_intervals, holm
from rere_env.data import Dataset

__all__ = [
    "COMPARED",
    "ORACLE",
    "about_differences",
    "build_result",
    "difference_rows",
    "write_result",
]

ORACLE = "oracle"
"""The recommender that knows the true law, where there is one."""

COMPARED = ("ndcg@10", "expected_ndcg@10", "hit_rate@10")
"""Metrics that are compared in pairs and given as shares of the oracle's."""


def build_result(
    evaluations: Mapping[str, Evaluation],
    *,
    dataset: Dataset,
    seed: int,
    config: Mapping[str, Any],
    seconds: Mapping[str, float],
    split: str = "test",
    pairs: Sequence[tuple[str, str]] | None = None,
) -> dict[str, Any]:
    """Gather what `result.json` holds.

    Intervals and p-values resample users; `comparisons` is one table, and Holm's correction is for
    all its rows.

    Args:
        evaluations: By name of the recommender, weakest first; all of the same examples.
        dataset: What was learnt from.
        seed: Of weights and data order.
        config: What was asked for; a value that JSON does not know is written as its text.
        seconds: Wall time by stage.
        split: What was evaluated.
        pairs: (a, b) whose differences a - b are tested; default: each against the one before it.
    """
    if pairs is None:
        pairs = [(b, a) for a, b in pairwise(evaluations)]
    return {
        "recommenders": {name: done.as_dict() for name, done in evaluations.items()},
        "comparisons": _comparisons(evaluations, pairs),
        "comparison_statistics": about_differences(NUM_RESAMPLES),
        "share_of_oracle": _shares(evaluations),
        "versions": package_versions(),
        "seed": seed,
        "data": {"name": dataset.name, "hash": dataset.content_hash, "split": split},
        "catalogue_hash": dataset.catalogue.content_hash(),
        "git_commit": git_commit(),
        "seconds": {stage: round(value, 3) for stage, value in seconds.items()},
        "config": json.loads(json.dumps(dict(config), default=str)),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def difference_rows(differences: Sequence[Difference]) -> list[dict[str, float | None]]:
    """Return the numbers of one table of differences, with Holm's correction for all of them.

    All are of the same rows, so either every one has an interval or, for a single user, none.
    """
    p_values = [found.p_value for found in differences if found.p_value is not None]
    corrected = holm(p_values).tolist() if p_values else [None] * len(differences)
    return [
        {
            "value": found.value,
            "low": found.low,
            "high": found.high,
            "p_value": found.p_value,
            "p_value_holm": p_value,
        }
        for found, p_value in zip(differences, corrected, strict=True)
    ]


def about_differences(num_resamples: int) -> dict[str, Any]:
    """Return what a file says of its differences: interval, p-value, correction."""
    return {
        "interval": about_intervals(num_resamples),
        "p_value": "two-sided, of the same resamples, differences paired by row",
        "p_value_holm": "Holm's correction for all differences of this table",
    }


def write_result(path: Path, result: Mapping[str, Any]) -> None:
    """Write strict JSON in one step: readers see the old file or the new one.

    Raises:
        ValueError: A number is not finite.
    """
    text = json.dumps(result, indent=2, allow_nan=False) + "\n"
    write_atomically(path, text)


def write_atomically(path: Path, text: str) -> None:
    """Put a finished file in place of an old one."""
    new = path.with_name(path.name + ".new")
    new.write_text(text, encoding="utf-8")
    new.replace(path)


def _comparisons(
    evaluations: Mapping[str, Evaluation], pairs: Sequence[tuple[str, str]]
) -> list[dict[str, Any]]:
    found = [
        ({"metric": metric, "a": a, "b": b}, compare(evaluations[a], evaluations[b], metric))
        for a, b in pairs
        for metric in COMPARED
        if metric in evaluations[a].rows and metric in evaluations[b].rows
    ]
    rows = difference_rows([difference for _, difference in found])
    return [about | row for (about, _), row in zip(found, rows, strict=True)]


def _shares(evaluations: Mapping[str, Evaluation]) -> dict[str, dict[str, float]]:
    """Return metric / the oracle's, for all others; empty where there is no oracle."""
    if ORACLE not in evaluations:
        return {}
    best = evaluations[ORACLE].metrics
    return {
        name: {
            metric: done.metrics[metric].value / best[metric].value
            for metric in COMPARED
            if metric in done.metrics and metric in best and best[metric].value > 0
        }
        for name, done in evaluations.items()
        if name != ORACLE
    }
