"""From the cells of a comparison to one table: means over seeds, paired intervals, a picture."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agents.comparison.cell import read_row, row_name
from agents.comparison.run import BASELINES, START
from agents.reporting.results import ORACLE, about_differences, difference_rows, write_atomically
from rere_env.confidence import NUM_RESAMPLES, count_users, paired_bootstrap
from rere_env.types import IntArray

__all__ = ["collect", "markdown", "write_comparison"]

HEADLINE = ("expected_ndcg@10", "ndcg@10")
"""What rows are sorted by: the first that was measured."""

GREY = "#808080"


def collect(folder: Path, seed: int = 0) -> dict[str, Any]:
    """Gather what a folder of cells says; rows best first.

    Differences to SFT are between means over seeds, example by example, with the interval and
    p-value of a bootstrap over users, and with Holm's correction for all differences of the table.

    Args:
        folder: Of `run_cells`.
        seed: Of the bootstrap.

    Raises:
        ValueError: Two cells were evaluated on different examples, or a cell is nobody's, or does
            not name the users of its rows.
    """
    cells: dict[str, list[dict[str, Any]]] = {}
    for file in sorted(folder.glob("*.json")):
        if file.with_suffix(".npz").is_file():  # else it is the plan, or a table
            cell = _read(file)
            cells.setdefault(row_name(cell["name"]), []).append(cell)
    rows = {name: _row(found) for name, found in cells.items()}
    metric = next(m for m in HEADLINE if m in rows[START]["metrics"])
    _check_same_examples(cells)
    user = cells[START][0]["rows"]["user"]
    for name, difference in _minus_sft(cells, metric, user, seed).items():
        rows[name]["minus_sft"] = {"metric": metric} | difference
    for name, row in rows.items():
        if ORACLE in rows and name != ORACLE:
            best = rows[ORACLE]["metrics"][metric]["mean"]
            row["share_of_oracle"] = row["metrics"][metric]["mean"] / best
    ordered = sorted(rows, key=lambda name: -rows[name]["metrics"][metric]["mean"])
    return {
        "sorted_by": metric,
        "plan": json.loads((folder / "plan.json").read_text(encoding="utf-8")),
        "num_examples": len(user),
        "num_users": count_users(user),
        "difference_statistics": about_differences(NUM_RESAMPLES),
        "rows": {name: rows[name] for name in ordered},
    }


def markdown(result: Mapping[str, Any], command: str) -> str:
    """Return the table as Markdown."""
    metric, plan = result["sorted_by"], result["plan"]
    wanted = ("expected_ndcg@10", "ndcg@10", "hit_rate@1", "hit_rate@10")
    shown = [m for m in wanted if m in result["rows"][START]["metrics"]]
    lines = [
        "# Algorithms at equal time",
        "",
        f"`{command}`",
        "",
        f"{plan['seconds']:g} seconds of one core each, {plan['split']} split of "
        f"`{plan['data']}`. Language models start from one SFT checkpoint, at a peak learning "
        f"rate of {plan['learning_rate']:g}; agents marked * start from nothing. Mean over seeds "
        f"(lowest-highest) over {result['num_examples']:,} rows of {result['num_users']:,} users; "
        f"difference to SFT in {metric}, means over seeds, with the 95 % interval of a paired "
        f"bootstrap over users ({NUM_RESAMPLES:,} resamples) and its p-value after Holm's "
        "correction for all differences of the table.",
        "",
        "| algorithm | seeds | " + " | ".join(shown) + " | - SFT | p (Holm) | of the oracle |",
        "|---" * (len(shown) + 5) + "|",
    ]
    for name, row in result["rows"].items():
        mark = "*" if row["from_nothing"] else ""
        cells = [f"{name}{mark}", str(row["num_seeds"] or "")]
        cells += [_spread(row["metrics"][m]) for m in shown]
        cells += _difference(row.get("minus_sft"))
        share = row.get("share_of_oracle")
        cells.append("" if share is None else f"{share:.1%}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def write_comparison(folder: Path, out: Path, command: str) -> dict[str, Any]:
    """Write algorithms.json, .md and .svg; return what the JSON holds."""
    result = collect(folder) | {"command": command}
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result, indent=2, allow_nan=False) + "\n"
    write_atomically(out / "algorithms.json", text)
    write_atomically(out / "algorithms.md", markdown(result, command))
    _draw(result, out / "algorithms.svg")
    return result


def _read(file: Path) -> dict[str, Any]:
    cell = read_row(file)
    with np.load(file.with_suffix(".npz"), allow_pickle=False) as rows:
        cell["rows"] = {name: rows[name] for name in rows.files}
    if "user" not in cell["rows"]:
        raise ValueError(
            f"{file.with_suffix('.npz')} must name the user of each row, since intervals resample "
            f"users; it holds {sorted(cell['rows'])} and is of an older version. Run the "
            "comparison again in a new folder (`rere compare --folder ...`)."
        )
    return cell


def _row(cells: Sequence[dict[str, Any]]) -> dict[str, Any]:
    algorithm = cells[0].get("algorithm")
    values = {metric: [cell["metrics"][metric] for cell in cells] for metric in cells[0]["metrics"]}
    return {
        "name": cells[0]["name"],
        "num_seeds": sum(cell["seed"] is not None for cell in cells),
        "from_nothing": algorithm is not None and algorithm["kind"] == "agent",
        "paper": "" if algorithm is None else algorithm["paper"],
        "metrics": {
            metric: {
                "mean": math.fsum(found) / len(found),
                "low": min(found),
                "high": max(found),
            }
            for metric, found in values.items()
        },
        "illegal_rate": max(cell["illegal_rate"] for cell in cells),
        "duplicate_rate": max(cell["duplicate_rate"] for cell in cells),
        "seconds": [cell.get("seconds") for cell in cells],
        "git_commits": sorted({str(cell["git_commit"]) for cell in cells}),
        "versions": cells[0]["versions"],
    }


def _minus_sft(
    cells: Mapping[str, Sequence[dict[str, Any]]], metric: str, user: IntArray, seed: int
) -> dict[str, dict[str, float | None]]:
    """Return the differences to SFT by name; all draw the same users."""
    start = _mean_rows(cells[START], metric)
    names = [name for name in cells if name != START]
    found = [
        paired_bootstrap(
            _mean_rows(cells[name], metric), start, user, np.random.default_rng(seed), NUM_RESAMPLES
        )
        for name in names
    ]
    return dict(zip(names, difference_rows(found), strict=True))


def _mean_rows(cells: Sequence[dict[str, Any]], metric: str) -> Any:  # noqa: ANN401 - an array
    return np.mean([cell["rows"][metric] for cell in cells], axis=0)


def _check_same_examples(cells: Mapping[str, Sequence[dict[str, Any]]]) -> None:
    first = cells[START][0]["rows"]
    for name, found in cells.items():
        for array in ("target_title", "user"):
            if not all(np.array_equal(cell["rows"][array], first[array]) for cell in found):
                raise ValueError(f"{name} was evaluated on other examples than {START}.")


def _difference(found: Mapping[str, Any] | None) -> tuple[str, str]:
    """Return the cells of a difference, with its interval, and of its corrected p-value."""
    if found is None:
        return "", ""
    if found["low"] is None:
        return f"{found['value']:+.4f}", ""
    interval = f"({found['low']:+.4f}, {found['high']:+.4f})"
    return f"{found['value']:+.4f} {interval}", f"{found['p_value_holm']:.4f}"


def _spread(value: Mapping[str, float]) -> str:
    if value["low"] == value["high"]:
        return f"{value['mean']:.4f}"
    return f"{value['mean']:.4f} ({value['low']:.4f}-{value['high']:.4f})"


def _draw(result: Mapping[str, Any], path: Path) -> None:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    metric = result["sorted_by"]
    names = [name for name in result["rows"] if name != ORACLE][::-1]
    found = [result["rows"][name]["metrics"][metric] for name in names]
    means = [value["mean"] for value in found]
    spread = [
        [value["mean"] - value["low"] for value in found],
        [value["high"] - value["mean"] for value in found],
    ]
    colours = [
        GREY if n in BASELINES else "#d08a3c" if result["rows"][n]["from_nothing"] else "#3b82c4"
        for n in names
    ]
    style: Any = {"svg.fonttype": "none", "svg.hashsalt": "rere", "font.size": 9}
    with rc_context(style):
        figure = Figure(figsize=(7, 0.28 * len(names) + 1), layout="constrained")
        panel = figure.subplots()
        panel.barh(names, means, xerr=spread, color=colours, ecolor="black", height=0.7)
        panel.axvline(result["rows"][START]["metrics"][metric]["mean"], color=GREY, linewidth=0.8)
        panel.set_xlabel(f"{metric}, mean of seeds (lowest to highest); line: SFT")
        panel.spines[["top", "right"]].set_visible(False)
        figure.savefig(path, transparent=True, metadata={"Date": None})
