"""Learning curves: metrics.jsonl -> pictures. Knows what the measures are called, not what they do.

Lines and text are mid-tones on a transparent ground, so a picture suits light and dark pages.
"""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from agents.runs.folder import Stage

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Picture", "learning_curves", "read_metrics"]

VALIDATION = ("valid/ndcg@10", "valid/hit_rate@10", "valid/hit_rate@1")

PANELS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Loss", ("loss/total",)),
    ("Reward of a group", ("rollout/reward",)),
    ("Rollouts that hit", ("rollout/hit_rate", "rollout/hit_rate@1")),
    ("Groups with a signal", ("rollout/signal_share",)),
    ("KL to the reference", ("loss/kl",)),
    ("Gradient norm", ("loss/grad_norm",)),
)
"""Title and measures of each training panel; what a stage does not log is left out."""

COLOURS = ("#3b82c4", "#e07b39", "#4aa564")
GREY = "#808080"
NUM_SMOOTHED = 30  # a longer curve is also drawn smoothed


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """An SVG with words.

    Attributes:
        title: Heading.
        alt: What it shows, for those who do not see it.
        svg: The file.
    """

    title: str
    alt: str
    svg: bytes

    @property
    def data_uri(self) -> str:
        """The picture as the `src` of an `<img>`, nothing to be fetched."""
        return "data:image/svg+xml;base64," + base64.b64encode(self.svg).decode("ascii")


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the lines of metrics.jsonl.

    Raises:
        ValueError: The file is no text, or a line not a JSON object with `step` and `stage`.
    """
    records = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is damaged: it is not text ({error}).") from error
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}, line {number}: not JSON ({error.msg}).") from error
        if not isinstance(record, dict) or not {"step", "stage"} <= record.keys():
            raise ValueError(f"{path}, line {number}: must be an object with `step` and `stage`.")
        records.append(record)
    return records


def learning_curves(records: Sequence[Mapping[str, Any]]) -> list[Picture]:
    """Draw validation over the whole run, then what each stage logged."""
    from matplotlib import rc_context

    grey = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    style: Any = dict.fromkeys(grey, GREY) | {
        "svg.fonttype": "none",
        "svg.hashsalt": "rere",  # the same run gives the same file
        "font.size": 9,
        "axes.titlesize": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    with rc_context(style):
        stages = list(dict.fromkeys(record["stage"] for record in records))
        pictures = [_validation(records, stages), *(_stage(records, stage) for stage in stages)]
    return [picture for picture in pictures if picture is not None]


def _validation(records: Sequence[Mapping[str, Any]], stages: list[str]) -> Picture | None:
    """Draw the stages end to end, on one axis of steps."""
    shown = [name for name in VALIDATION if any(name in record for record in records)]
    if not shown:
        return None
    figure, axes_list = _figure(1, width=9.0)
    axes = axes_list[0]
    start = 0.0
    for stage in stages:
        part = [record for record in records if record["stage"] == stage]
        for name, colour in zip(shown, COLOURS, strict=False):
            steps, values = _series(part, name)
            label = name.removeprefix("valid/") if stage == stages[0] else None
            axes.plot(start + steps, values, color=colour, marker="o", markersize=3.5, label=label)
        last = start + max(record["step"] for record in part)
        axes.axvspan(start, last, color=GREY, alpha=0.04 if stages.index(stage) % 2 else 0.12)
        axes.text(
            start, 1.01, f" {_called(stage)}", transform=axes.get_xaxis_transform(), va="bottom"
        )
        start = last
    axes.set_xlim(0, max(start, 1))
    axes.set_ylim(bottom=0)
    axes.set_xlabel("step (stages end to end)")
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    alt = f"{', '.join(shown)} over {start:g} steps of {', '.join(map(_called, stages))}"
    return Picture(title="Validation", alt=alt, svg=_svg(figure))


def _stage(records: Sequence[Mapping[str, Any]], stage: str) -> Picture | None:
    part = [record for record in records if record["stage"] == stage]
    panels = [
        (title, [name for name in names if any(name in record for record in part)])
        for title, names in PANELS
    ]
    panels = [(title, names) for title, names in panels if names]
    if not panels:
        return None
    figure, axes_list = _figure(len(panels), width=9.0)
    for axes, (title, names) in zip(axes_list, panels, strict=True):
        axes.set_title(title, loc="left")
        axes.set_xlabel("step")
        for name, colour in zip(names, COLOURS, strict=False):
            _draw(axes, *_series(part, name), colour, name)
        if len(names) > 1:
            axes.legend(frameon=False, fontsize=8)
    alt = f"{', '.join(title for title, _ in panels)} by step"
    return Picture(title=_called(stage), alt=alt, svg=_svg(figure))


def _draw(
    axes: "Axes", steps: NDArray[np.float64], values: NDArray[np.float64], colour: str, name: str
) -> None:
    smooth = len(values) > NUM_SMOOTHED
    axes.plot(steps, values, color=colour, alpha=0.3 if smooth else 1.0, linewidth=1.0)
    if smooth:
        axes.plot(steps, _smoothed(values), color=colour, linewidth=1.8, label=name)
    else:
        axes.lines[-1].set_label(name)


def _smoothed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the centred running mean over a fifteenth of the curve; windows shrink at the ends."""
    half = max(len(values) // 30, 1)
    place = np.arange(len(values))
    total = np.concatenate([[0.0], np.cumsum(values)])
    low, high = np.maximum(place - half, 0), np.minimum(place + half + 1, len(values))
    mean: NDArray[np.float64] = (total[high] - total[low]) / (high - low)
    return mean


def _series(
    records: Sequence[Mapping[str, Any]], name: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (steps, values) where the measure was logged."""
    pairs = [(record["step"], record[name]) for record in records if name in record]
    steps, values = np.array(pairs, np.float64).reshape(-1, 2).T
    return steps, values


def _figure(num_panels: int, width: float) -> "tuple[Figure, list[Axes]]":
    """Return a figure with up to three panels a row."""
    from matplotlib.figure import Figure

    num_columns = min(num_panels, 3)
    num_rows = -(-num_panels // num_columns)
    figure = Figure(figsize=(width, 2.6 * num_rows + 0.3), layout="constrained")
    axes_list = [figure.add_subplot(num_rows, num_columns, i + 1) for i in range(num_panels)]
    for axes in axes_list:
        axes.patch.set_alpha(0)
        axes.grid(color=GREY, alpha=0.2, linewidth=0.6)
    return figure, axes_list


def _svg(figure: "Figure") -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return buffer.getvalue()


def _called(stage: str) -> str:
    """Return a stage's heading; one that is not ours goes by its own name."""
    return {known.value: known.heading for known in Stage}.get(stage, stage)
