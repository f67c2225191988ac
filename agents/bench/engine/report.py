"""Results of `rere bench` as JSON, Markdown and a picture."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["markdown", "write_report"]

AXES = {
    "group_size": "titles per user, G",
    "prompt_length": "prompt tokens, P",
    "num_titles": "titles in the catalogue",
    "num_users": "users per batch, B",
}
NAMES = {
    "released": "released code",
    "prefill": "prompts alone",
    "parity_vocabulary": "beam_search (vocabulary)",
    "radix": "radix_search",
    "exact": "exact_search",
    "score_catalogue": "score_catalogue",
    "vocabulary": "ours (vocabulary)",
    "catalogue": "ours (catalogue)",
}
"""What sides are called."""

GREY = "#808080"


def markdown(result: Mapping[str, Any]) -> str:
    """Return tables: ratios, then how cost grows."""
    machine, versions = result["machine"], result["versions"]
    lines = [
        f"# rere bench {result['what']}",
        "",
        f"{machine['processor']}, one thread, float32, torch {versions['torch']}, transformers "
        f"{versions['transformers']}; {_catalogue(result)}. Ratios are of CPU time: median over "
        "the rounds, lowest and highest; results were asserted equal first.",
        "",
        "| ratio | median | low | high | wall clock |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, ratio in (result["ratios"] | result["beside"]).items():
        wall = result["wall_ratios"].get(name)
        values = [ratio["median"], ratio["low"], ratio["high"], wall and wall["median"]]
        lines.append(" | ".join([f"| {name}", *map(_number, values)]) + " |")
    for name, why in result["left_out"].items():
        lines += ["", f"Left out: {name} {why}."]
    for axis, grown in result.get("growth", {}).items():
        lines += ["", *_growth_table(axis, grown)]
    return "\n".join(lines) + "\n"


def write_report(result: Mapping[str, Any], folder: Path) -> None:
    """Write `<what>.json`, `.md` and `.svg`."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = folder / result["what"]
    text = json.dumps(result, indent=2, allow_nan=False)
    stem.with_suffix(".json").write_text(text + "\n", encoding="utf-8")
    stem.with_suffix(".md").write_text(markdown(result), encoding="utf-8")
    _draw(result, stem.with_suffix(".svg"))


def _catalogue(result: Mapping[str, Any]) -> str:
    workload = next(iter(result["settings"].values()))["workload"]
    return f"{workload['titles']:,} titles ({workload['name']})"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}" if value < 10 else f"{value:.1f}"


def _growth_table(axis: str, grown: Mapping[str, Any]) -> list[str]:
    """CPU milliseconds per user; the last column is the exponent a of cost ~ value^a."""
    heads = [AXES[axis], *(f"{value:,}" for value in grown["values"]), "exponent"]
    lines = [
        "CPU milliseconds per user:",
        "",
        "| " + " | ".join(heads) + " |",
        "|---" + "|---:" * (len(heads) - 1) + "|",
    ]
    for name, costs in grown["per_user_s"].items():
        cells = ["-" if cost is None else f"{1000 * cost:,.1f}" for cost in costs]
        exponent = grown["exponent"][name]
        cells.append("" if exponent is None else f"{exponent:.2f}")
        lines.append("| " + " | ".join([NAMES.get(name, name), *cells]) + " |")
    return lines


def _draw(result: Mapping[str, Any], path: Path) -> None:
    """Draw the ratios, and each axis of growth on logarithmic scales."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    grey = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    style: Any = dict.fromkeys(grey, GREY) | {
        "svg.fonttype": "none",
        "svg.hashsalt": "rere",  # the same result gives the same file
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    growth = result.get("growth", {})
    with rc_context(style):
        num_columns = min(1 + len(growth), 3)
        num_rows = math.ceil((1 + len(growth)) / num_columns)
        figure = Figure(figsize=(4.6 * num_columns, 3.4 * num_rows), layout="constrained")
        panels = figure.subplots(num_rows, num_columns, squeeze=False).flatten()
        _draw_ratios(panels[0], result["ratios"])
        for panel, (axis, grown) in zip(panels[1:], growth.items(), strict=False):
            _draw_growth(panel, axis, grown)
        for panel in panels[1 + len(growth) :]:
            panel.set_axis_off()
        figure.savefig(path, transparent=True, metadata={"Date": None})


def _draw_ratios(panel: "Axes", ratios: Mapping[str, Mapping[str, float]]) -> None:
    names = list(ratios)[::-1]
    medians = [ratios[name]["median"] for name in names]
    spread = [
        [ratios[name]["median"] - ratios[name]["low"] for name in names],
        [ratios[name]["high"] - ratios[name]["median"] for name in names],
    ]
    panel.barh(names, medians, xerr=spread, color="#3b82c4", ecolor=GREY)
    panel.set_xscale("log")
    panel.axvline(1, color=GREY, linewidth=0.8)
    panel.set_title("Ratios of CPU time (and of memory)")


def _draw_growth(panel: "Axes", axis: str, grown: Mapping[str, Any]) -> None:
    for name, costs in grown["per_user_s"].items():
        known = [(v, 1000 * c) for v, c in zip(grown["values"], costs, strict=True) if c]
        panel.plot(*zip(*known, strict=True), marker="o", markersize=3, label=NAMES.get(name, name))
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.set_xlabel(AXES[axis])
    panel.set_ylabel("CPU ms per user")
    panel.legend(fontsize=7, frameon=False)
