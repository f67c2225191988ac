"""A picture of one row: what the user chose, what is being written, what may follow.

`scene` gathers the facts once; each renderer (`ansi`, `raster`) only lays them out.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from gymnasium.error import ResetNeeded

from rere_env.dynamics import Dynamics
from rere_env.dynamics.rows import Rows
from rere_env.trie import EOS
from rere_env.types import IntArray

__all__ = ["END", "Scene", "printable", "scene"]

SHOWN = 12
"""Most continuations that a picture lists."""

END, BLANK = "<end>", "<blank>"
"""How a picture writes the end token, and a token that adds nothing to be seen."""


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
