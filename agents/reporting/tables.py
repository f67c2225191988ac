"""The final tables: the same cells as aligned text and, through the template, as HTML."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agents.evaluation import Evaluation
from agents.reporting.results import ORACLE
from rere_env.render.scene import printable

__all__ = ["Cell", "ResultTable", "evaluation_table", "item_tables", "result_table", "title_tables"]

MISSING = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One number of a table.

    Attributes:
        text: As printed.
        interval: `low to high`, or empty.
        is_best: True where no recommender but the oracle has more.
    """

    text: str
    interval: str = ""
    is_best: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultTable:
    """A titled table, one row a recommender."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]


def evaluation_table(evaluations: Mapping[str, Evaluation]) -> str:
    """Return the tables of evaluations as text."""
    return result_table({"recommenders": {n: done.as_dict() for n, done in evaluations.items()}})


def result_table(result: Mapping[str, Any]) -> str:
    """Return the tables of a result as text, at most 80 columns wide for usual names."""
    return "\n\n".join(_as_text(table) for table in title_tables(result))


def title_tables(result: Mapping[str, Any]) -> list[ResultTable]:
    """Return hit_rate@k, ndcg@k and the rest: coverage, share of the oracle, faults."""
    scores = result["recommenders"]
    tables = [_by_rank(name, scores) for name in ("hit_rate", "ndcg")]
    return [table for table in tables if table.columns] + [_summary(result)]


def item_tables(result: Mapping[str, Any]) -> list[ResultTable]:
    """Return the item-level tables."""
    tables = [_by_rank(name, result["recommenders"]) for name in ("item_hit_rate", "item_ndcg")]
    return [table for table in tables if table.columns]


def _by_rank(name: str, scores: Mapping[str, Mapping[str, Any]]) -> ResultTable:
    """Return one metric at every k that any recommender has."""
    ks = sorted(
        {
            int(metric.removeprefix(f"{name}@"))
            for row in scores.values()
            for metric in row
            if metric.startswith(f"{name}@")
        }
    )
    return _table(name, {f"@{k}": _column(scores, f"{name}@{k}") for k in ks})


def _summary(result: Mapping[str, Any]) -> ResultTable:
    scores = result["recommenders"]
    shares = result.get("share_of_oracle", {})
    columns = {}
    if any("expected_ndcg@10" in row for row in scores.values()):
        columns["expected_ndcg@10"] = _column(scores, "expected_ndcg@10")
    if shares:
        name = "expected_ndcg@10" if "expected_ndcg@10" in columns else "ndcg@10"
        of_oracle = {row: share[name] for row, share in shares.items() if name in share}
        columns["of oracle"] = {
            row: Cell(text=f"{of_oracle[row]:.1%}" if row in of_oracle else MISSING)
            for row in scores
        }
    if any("coverage@10" in row for row in scores.values()):
        columns["coverage@10"] = {
            name: Cell(text=f"{row['coverage@10']['value']:.1%}" if "coverage@10" in row else "-")
            for name, row in scores.items()
        }
    for header, key in (("illegal", "illegal_rate"), ("duplicate", "duplicate_rate")):
        columns[header] = {
            name: Cell(text=f"{100 * row[key]:.2g}%") for name, row in scores.items()
        }
    return _table("summary", columns)


def _column(scores: Mapping[str, Mapping[str, Any]], metric: str) -> dict[str, Cell]:
    values = {name: row[metric]["value"] for name, row in scores.items() if metric in row}
    best = max((value for name, value in values.items() if name != ORACLE), default=None)
    cells = {}
    for name, row in scores.items():
        if name not in values:
            cells[name] = Cell(text=MISSING)
            continue
        low, high = row[metric]["low"], row[metric]["high"]
        cells[name] = Cell(
            text=f"{values[name]:.4f}",
            interval="" if low is None else f"{low:.4f} to {high:.4f}",
            is_best=name != ORACLE and values[name] == best,
        )
    return cells


def _table(title: str, columns: Mapping[str, Mapping[str, Cell]]) -> ResultTable:
    names = next(iter(columns.values()), {})
    return ResultTable(
        title=title,
        columns=tuple(columns),
        rows=tuple((name, tuple(cells[name] for cells in columns.values())) for name in names),
    )


def _as_text(table: ResultTable) -> str:
    lines = [(table.title, *table.columns)]
    lines += [(printable(name), *(cell.text for cell in cells)) for name, cells in table.rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    text = [
        "  ".join(
            [line[0].ljust(widths[0])]
            + [c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True)]
        )
        for line in lines
    ]
    return "\n".join([text[0], "-" * len(text[0]), *text[1:]])
