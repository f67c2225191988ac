"""A picture of one row: what the user chose, what is being written, what may follow.

`scene` gathers the facts once; each renderer only lays them out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from rere_env.dynamics import Dynamics
from rere_env.rows import Rows
from rere_env.types import IntArray

__all__ = ["Scene", "ansi", "scene"]

WIDTH = 78
END = "<end>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One row in words.

    Attributes:
        history: Titles, oldest first.
        slate: Titles written so far, best first.
        slate_size: K.
        prefix: The title being written.
        continuations: (token, titles that remain below it), most titles first.
        target: The answer, once the episode is over.
        target_rank: Its place in the slate from 1, 0 = not there.
    """

    history: tuple[str, ...]
    slate: tuple[str, ...]
    slate_size: int
    prefix: str
    continuations: tuple[tuple[str, int], ...]
    target: str | None
    target_rank: int


def scene(dynamics: Dynamics, rows: Rows, row: int) -> Scene:
    """Gather what there is to see of one row."""
    task = dynamics.task

    def titles(shown: IntArray) -> tuple[str, ...]:
        return tuple(task.decode_title(int(title) - 1) for title in shown if title > 0)

    def text(local: Sequence[int]) -> str:
        ids = [int(task.title_tokens.local_model[token]) for token in local]
        return task.tokenizer.decode_completion(ids)

    slate = titles(rows.slate[row])
    finished = bool(rows.finished[row])
    continuations: list[tuple[str, int]] = []
    target, rank = None, 0
    if finished:
        target = task.decode_title(int(dynamics.examples.target_title[rows.example[row]]))
        rank = slate.index(target) + 1 if target in slate else 0
    else:
        tokens, counts = dynamics.remaining(rows, row)
        for token, count in zip(tokens.tolist(), counts.tolist(), strict=True):
            continuations.append((text([token]).strip() if token else END, count))
        continuations.sort(key=lambda pair: -pair[1])
    return Scene(
        history=titles(rows.history[row]),
        slate=slate,
        slate_size=dynamics.rules.slate_size,
        prefix=text(rows.prefix[row, : rows.depth[row]].tolist()),
        continuations=tuple(continuations),
        target=target,
        target_rank=rank,
    )


def ansi(scene: Scene, *, max_continuations: int = 12) -> str:
    """Lay a scene out as plain lines of text."""
    lines = ["history"]
    lines += [f"   . {_cut(title)}" for title in scene.history] or ["   (none)"]
    lines.append(f"slate ({len(scene.slate)} of {scene.slate_size})")
    for place, title in enumerate(scene.slate, start=1):
        mark = "  <- the target" if place == scene.target_rank else ""
        lines.append(f"  {place:>2} {_cut(title)}{mark}")
    if scene.target is None:
        lines.append(f"  {len(scene.slate) + 1:>2} {scene.prefix}_")
        lines.append(f"next ({len(scene.continuations)} legal, titles below each)")
        shown = scene.continuations[:max_continuations]
        row = "  ".join(f"{token} {count}" for token, count in shown)
        more = len(scene.continuations) - len(shown)
        lines.append(f"   {row}" + (f"  ... {more} more" if more else ""))
    else:
        found = f"rank {scene.target_rank}" if scene.target_rank else "not in the slate"
        lines.append(f"target: {_cut(scene.target)} ({found})")
    return "\n".join(lines) + "\n"


def _cut(text: str) -> str:
    return text if len(text) <= WIDTH else text[: WIDTH - 3] + "..."
