"""report.html: one page that needs nothing else. Words and numbers in, HTML out.

Everything passes jinja2's autoescape; pictures and style are inside the page, and no script.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents.reporting.curves import learning_curves, read_metrics
from agents.reporting.results import ORACLE, write_atomically
from agents.reporting.samples import Sample
from agents.reporting.tables import item_tables, title_tables

__all__ = ["write_report"]

HEADLINE = ("expected_ndcg@10", "ndcg@10")
"""What the bars show: the first that was measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One recommender in the picture at the top.

    Attributes:
        name: The recommender.
        text: Its value.
        interval: `low to high`, or empty.
        width: Length in percent of the longest bar.
        low: Where the interval starts, in percent.
        span: Length of the interval in percent.
        is_oracle: Drawn as the bound that it is.
    """

    name: str
    text: str
    interval: str
    width: float
    low: float
    span: float
    is_oracle: bool


def write_report(run_dir: Path, result: Mapping[str, Any], samples: Sequence[Sample]) -> Path:
    """Write report.html into a run's folder, with the curves of its metrics.jsonl if it has one.

    Args:
        run_dir: The run; its name is the report's title.
        result: From `build_result` or read back from result.json.
        samples: Shown in this order.

    Returns:
        The path of the report.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    metrics = run_dir / "metrics.jsonl"
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("report.html").render(
        name=run_dir.resolve().name,
        result=result,
        config=dict(_flat(result["config"])),
        headline=_headline(result),
        bars=_bars(result),
        tables=title_tables(result),
        item_tables=item_tables(result),
        comparisons=[row | {"verdict": _verdict(row)} for row in result["comparisons"]],
        pictures=learning_curves(read_metrics(metrics)) if metrics.exists() else [],
        samples=samples,
    )
    path = run_dir / "report.html"
    write_atomically(path, page)
    return path


def _headline(result: Mapping[str, Any]) -> str:
    measured = [name for scores in result["recommenders"].values() for name in scores]
    return next((name for name in HEADLINE if name in measured), "")


def _bars(result: Mapping[str, Any]) -> list[Bar]:
    metric = _headline(result)
    found = {n: row[metric] for n, row in result["recommenders"].items() if metric in row}
    ends = [m["value"] if m["high"] is None else m["high"] for m in found.values()]
    longest = max(ends, default=0.0) or 1.0
    return [
        Bar(
            name=name,
            text=f"{m['value']:.4f}",
            interval="" if m["low"] is None else f"{m['low']:.4f} to {m['high']:.4f}",
            width=100 * m["value"] / longest,
            low=100 * (m["value"] if m["low"] is None else m["low"]) / longest,
            span=0.0 if m["low"] is None else 100 * (m["high"] - m["low"]) / longest,
            is_oracle=name == ORACLE,
        )
        for name, m in found.items()
    ]


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield a nested configuration as (`outer.inner`, value)."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _verdict(row: Mapping[str, Any]) -> str:
    """Say what is shown at the level of 5 % for all rows of the table together."""
    if row["p_value_holm"] is None or row["p_value_holm"] >= 0.05:
        return "not shown"
    return "better" if row["value"] > 0 else "worse"
