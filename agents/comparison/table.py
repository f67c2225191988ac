"""From the cells of a comparison to one table: means over seeds, paired intervals, a picture."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agents.comparison.cell import read_row, row_name
from agents.comparison.run import BASELINES, START
from agents.reporting.results import write_atomically
from rere_env.metrics import paired_bootstrap

__all__ = ["collect", "markdown", "write_comparison"]

HEADLINE = ("expected_ndcg@10", "ndcg@10")
"""What rows are sorted by: the first that was measured."""

GREY = "#808080"


def collect(folder: Path, seed: int = 0) -> dict[str, Any]:
    """Gather what a folder of cells says; rows best first.

    Differences are between means over seeds, example by example, with the bootstrap's interval
    over examples.

    Args:
        folder: Of `run_cells`.
        seed: Of the bootstrap.

    Raises:
        ValueError: Two cells were evaluated on different examples, or a cell is nobody's.
    """
    cells: dict[str, list[dict[str, Any]]] = {}
    for file in sorted(folder.glob("*.json")):
        if file.with_suffix(".npz").is_file():  # else it is the plan, or a table
            cell = _read(file)
            cells.setdefault(row_name(cell["name"]), []).append(cell)
    rows = {name: _row(found) for name, found in cells.items()}
    metric = next(m for m in HEADLINE if m in rows[START]["metrics"])
    values = {name: _mean_rows(found, metric) for name, found in cells.items()}
    _check_same_examples(cells)
    for name, row in rows.items():
        if name != START:
            difference = paired_bootstrap(
                values[name], values[START], np.random.default_rng(seed), 1000
            )
            row["minus_sft"] = {
                "metric": metric,
                "value": difference.value,
                "low": difference.low,
                "high": difference.high,
            }
        if "oracle" in rows and name != "oracle":
            best = rows["oracle"]["metrics"][metric]["mean"]
            row["share_of_oracle"] = row["metrics"][metric]["mean"] / best
    ordered = sorted(rows, key=lambda name: -rows[name]["metrics"][metric]["mean"])
    return {
        "sorted_by": metric,
        "plan": json.loads((folder / "plan.json").read_text(encoding="utf-8")),
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
        f"(lowest-highest); difference to SFT in {metric}, means over seeds, with the 95 % "
        "interval of a paired bootstrap over examples.",
        "",
        "| algorithm | seeds | " + " | ".join(shown) + " | - SFT | of the oracle |",
        "|---" * (len(shown) + 4) + "|",
    ]
    for name, row in result["rows"].items():
        mark = "*" if row["from_nothing"] else ""
        cells = [f"{name}{mark}", str(row["num_seeds"] or "")]
        cells += [_spread(row["metrics"][m]) for m in shown]
        difference = row.get("minus_sft")
        cells.append(
            f"{difference['value']:+.4f} ({difference['low']:+.4f}, {difference['high']:+.4f})"
            if difference
            else ""
        )
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


def _mean_rows(cells: Sequence[dict[str, Any]], metric: str) -> Any:  # noqa: ANN401 - an array
    return np.mean([cell["rows"][metric] for cell in cells], axis=0)


def _check_same_examples(cells: Mapping[str, Sequence[dict[str, Any]]]) -> None:
    first = next(iter(cells.values()))[0]["rows"]["target_title"]
    for name, found in cells.items():
        if not all(np.array_equal(cell["rows"]["target_title"], first) for cell in found):
            raise ValueError(f"{name} was evaluated on other examples than the rest.")


def _spread(value: Mapping[str, float]) -> str:
    if value["low"] == value["high"]:
        return f"{value['mean']:.4f}"
    return f"{value['mean']:.4f} ({value['low']:.4f}-{value['high']:.4f})"


def _draw(result: Mapping[str, Any], path: Path) -> None:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    metric = result["sorted_by"]
    names = [name for name in result["rows"] if name != "oracle"][::-1]
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
