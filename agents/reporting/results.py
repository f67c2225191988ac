"""result.json: every recommender's metrics, how they compare, and what made them."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from agents.evaluation import Evaluation, compare
from agents.reporting.provenance import git_commit, package_versions
from rere_env.data import Dataset

__all__ = ["COMPARED", "ORACLE", "build_result", "write_result"]

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
        "comparisons": [
            row for a, b in pairs for row in _differences(a, b, evaluations[a], evaluations[b])
        ],
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


def _differences(a: str, b: str, of_a: Evaluation, of_b: Evaluation) -> list[dict[str, Any]]:
    rows = []
    for metric in COMPARED:
        if metric in of_a.rows and metric in of_b.rows:
            difference = compare(of_a, of_b, metric)
            rows.append(
                {
                    "metric": metric,
                    "a": a,
                    "b": b,
                    "value": difference.value,
                    "low": difference.low,
                    "high": difference.high,
                }
            )
    return rows


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
