"""A picture of one row: what the user chose, what is being written, what may follow.

`scene` gathers the facts once; each renderer only lays them out (`ansi` here, `raster.raster`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from gymnasium.error import ResetNeeded

from rere_env.dynamics import Dynamics
from rere_env.rows import Rows
from rere_env.trie import EOS
from rere_env.types import IntArray

__all__ = ["END", "Scene", "ansi", "cut", "printable", "scene"]

SHOWN = 12
"""Most continuations that a picture lists."""

END, BLANK = "<end>", "<blank>"
"""How a picture writes the end token, and a token that adds nothing to be seen."""

WIDTH = 78
COLUMNS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One row in words.

    Attributes:
        history: Titles, oldest first.
        history_length: H.
        slate: Titles written so far, best first.
        slate_size: K.
        prefix: The title being written.
        continuations: (token, titles that remain below it), most titles first, at most `SHOWN`;
            the end token is always among them if it is legal.
        num_continuations: How many tokens are legal.
        num_remaining: How many titles may still be written from here.
        target: The answer, once the episode is over.
        target_rank: Its place in the slate from 1, 0 = not there, or an illegal end.
        illegal: An illegal token ended the episode; its slate counts for nothing.
    """

    history: tuple[str, ...]
    history_length: int
    slate: tuple[str, ...]
    slate_size: int
    prefix: str
    continuations: tuple[tuple[str, int], ...] = ()
    num_continuations: int = 0
    num_remaining: int = 0
    target: str | None = None
    target_rank: int = 0
    illegal: bool = False

    @property
    def num_hidden(self) -> int:
        """Legal tokens that the picture does not list."""
        return self.num_continuations - len(self.continuations)


def scene(dynamics: Dynamics, rows: Rows, row: int) -> Scene:
    """Gather what there is to see of one row.

    Raises:
        ResetNeeded: No episode has begun in this row.
    """
    if rows.finished[row] and rows.num_tokens[row] == 0:
        raise ResetNeeded("there is nothing to render before the first `reset()`.")
    begun = Scene(
        history=tuple(_title(dynamics, title) for title in _titles(rows.history[row])),
        history_length=dynamics.task.history_length,
        slate=tuple(_title(dynamics, title) for title in _titles(rows.slate[row])),
        slate_size=dynamics.rules.slate_size,
        prefix=printable(_text(dynamics, _prefix(rows, row))),
    )
    if rows.finished[row]:
        return _with_answer(begun, dynamics, rows, row)
    return _with_choice(begun, dynamics, rows, row)


def ansi(scene: Scene, *, color: bool = False) -> str:
    """Lay a scene out as lines of text.

    Args:
        scene: What to show.
        color: Add the escape codes of terminal colours.
    """

    def paint(text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if color else text

    heading, faint, green, red = "1", "2", "1;32", "1;31"
    lines = [paint("history", heading) + paint(", oldest first", faint)]
    lines += [f"   . {cut(title)}" for title in scene.history] or ["   (none)"]
    lines.append(
        paint("slate", heading)
        + paint(f", best first ({len(scene.slate)} of {scene.slate_size})", faint)
    )
    for place, title in enumerate(scene.slate, start=1):
        if place == scene.target_rank:
            lines.append(paint(f"  {place:>2} {cut(title)}  <- the target", green))
        else:
            lines.append(f"  {place:>2} {cut(title)}")
    if scene.target is None:
        written = cut(scene.prefix, keep_end=True)
        lines.append(f"  {len(scene.slate) + 1:>2} " + paint(f"{written}_", heading))
        if scene.continuations:
            note = f", with the titles it leaves of {scene.num_remaining:,}"
            lines += [paint("next token", heading) + paint(note, faint)]
            lines += _table(scene.continuations)
        if scene.continuations and scene.num_hidden:
            lines.append(paint(f"        ... {scene.num_hidden:,} more", faint))
    else:
        lines.append(paint("target", heading))
        verdict = paint(f"({_verdict(scene)})", green if scene.target_rank else red)
        lines.append(f"   > {cut(scene.target)} {verdict}")
    return "\n".join(lines) + "\n"


def _with_choice(begun: Scene, dynamics: Dynamics, rows: Rows, row: int) -> Scene:
    """Add what may follow."""
    tokens, counts = dynamics.remaining(rows, row)
    first = (-counts).argsort(kind="stable")[:SHOWN]
    if tokens[0] == EOS and 0 not in first:
        first[-1] = 0
    prefix = _prefix(rows, row)
    before = _text(dynamics, prefix)
    words = [
        END if token == EOS else _word(before, _text(dynamics, [*prefix, token]))
        for token in tokens[first].tolist()
    ]
    return replace(
        begun,
        continuations=tuple(zip(words, counts[first].tolist(), strict=True)),
        num_continuations=len(tokens),
        num_remaining=int(counts.sum()),
    )


def _with_answer(begun: Scene, dynamics: Dynamics, rows: Rows, row: int) -> Scene:
    """Add the target and what became of it."""
    target = int(dynamics.examples.target_title[rows.example[row]])
    slate, tokens = _titles(rows.slate[row]), dynamics.task.title_tokens
    # Under "terminate" every token but an illegal last one stands in the slate or the prefix.
    num_legal = sum(len(tokens[title]) for title in slate) + len(_prefix(rows, row))
    illegal = dynamics.rules.on_illegal == "terminate" and bool(rows.num_tokens[row] > num_legal)
    return replace(
        begun,
        target=_title(dynamics, target),
        target_rank=slate.index(target) + 1 if target in slate and not illegal else 0,
        illegal=illegal,
    )


def _titles(shown: IntArray) -> list[int]:
    """Undo title id + 1, 0 = empty."""
    return [title - 1 for title in shown.tolist() if title > 0]


def _prefix(rows: Rows, row: int) -> list[int]:
    prefix: list[int] = rows.prefix[row, : rows.depth[row]].tolist()
    return prefix


def _title(dynamics: Dynamics, title: int) -> str:
    return printable(dynamics.task.decode_title(title))


def _text(dynamics: Dynamics, local: Sequence[int]) -> str:
    model = dynamics.task.title_tokens.local_model
    return dynamics.task.tokenizer.decode_completion([int(model[token]) for token in local])


def _word(before: str, after: str) -> str:
    """Return the word that a token adds; where it goes on with a word, that word as it becomes."""
    adds = not before or after.startswith(f"{before} ")
    start = len(before) if adds else before.rfind(" ") + 1
    return printable(after[start:]).strip() or BLANK


def printable(text: str) -> str:
    """Replace what would move the cursor or worse: titles come from anywhere."""
    return "".join(char if char.isprintable() else " " for char in text)


def _verdict(scene: Scene) -> str:
    if scene.illegal:
        return "an illegal token ended the slate"
    return f"hit, rank {scene.target_rank}" if scene.target_rank else "miss, not in the slate"


def _table(continuations: tuple[tuple[str, int], ...]) -> list[str]:
    """Lay tokens out in columns, row by row: counts to the right, tokens to the left."""
    width = WIDTH // COLUMNS - 8
    cells = [f"{count:>7} {cut(token, width):<{width}}" for token, count in continuations]
    rows = range(0, len(cells), COLUMNS)
    return ["".join(cells[start : start + COLUMNS]).rstrip() for start in rows]


def cut(text: str, width: int = WIDTH, *, keep_end: bool = False) -> str:
    """Shorten a text to a number of characters; dots stand for what is missing."""
    if len(text) <= width:
        return text
    return "..." + text[3 - width :] if keep_end else text[: width - 3] + "..."
