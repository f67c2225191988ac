"""A person writes a slate, line by line: the loop behind `rere play`.

Knows what a line means and what to answer; which titles may be written the environment decides.
Needs no torch.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from agents.play.suggestions import Completion, complete, follow, pick
from rere_env.dynamics.rows import Rows
from rere_env.envs import ReReEnv
from rere_env.render.ansi import ansi as picture
from rere_env.render.ansi import cut
from rere_env.render.display import encodable, show, use_color
from rere_env.render.scene import END, Scene, printable, scene
from rere_env.types import NO_TITLE, Batch, Probabilistic

__all__ = ["Game", "play"]

LISTED = 12
"""Most ways to go on that are listed at once."""

WIDTH = 80

HELP = """\
Write the titles that this user may choose next, the likeliest first.
  words    the beginning of a title, in either case; a title that is clear is completed
  Tab      completes what is typed
  Enter    alone ends the title where it may end, else lists what may follow
  3        the third of the list (a title that goes on with the word "3" comes before)
  <, back  to the start of the title; from there, to the start of the one before
  ?        this help
  q        quit
To write a title that begins with "?", "<", "back" or "q", type more of it or a capital letter."""


class Game:
    """One episode in a person's hands."""

    def __init__(self, env: ReReEnv, example: int) -> None:
        """Begin the episode of an example.

        Args:
            env: One token a word (the default tokenizer), local token ids.
            example: Index in the environment's split.
        """
        env.reset(options={"example": example})
        self.env, self.example = env, example
        task = env.task
        self.words = [
            task.tokenizer.decode_completion([token])
            for token in task.title_tokens.local_model.tolist()
        ]
        self.reward = 0.0
        self.outcome: dict[str, Any] | None = None  # the last info, once the slate is full
        self._starts = [env.get_state()]  # of each title begun
        self._tab_lines: list[str] = []

    @property
    def scene(self) -> Scene:
        """What there is to see."""
        return scene(self.env.surface.dynamics, self._row(), 0)

    def legal(self, path: tuple[int, ...]) -> list[tuple[int, int]]:
        """Return what may follow the words so far and then a path of `suggestions`."""
        dynamics, row = self.env.surface.dynamics, self._row()
        for token in path:
            dynamics.step(row, np.array([token]))
        tokens, counts = dynamics.remaining(row, 0)
        return list(zip(tokens.tolist(), counts.tolist(), strict=True))

    def complete(self, typed: str) -> list[Completion]:
        """Return every word that what was typed may be the beginning of."""
        return complete(typed, self.words, self.legal)

    def follow(self, start: Completion) -> Completion:
        """Go on for as long as there is no choice."""
        return follow(start, self.words, self.legal)

    def write(self, chosen: Completion) -> None:
        """Write words, and those that can only follow them."""
        whole = self.follow(chosen)
        for token in whole.tokens:
            _, reward, terminated, truncated, info = self.env.step(token)
            self.reward += reward
            if terminated or truncated:
                self.outcome = info
        if whole.ends:
            self._starts.append(self.env.get_state())

    def back(self) -> None:
        """Go to the start of the title, or from there to the start of the one before."""
        if self._row().depth[0] == 0 and len(self._starts) > 1:
            self._starts.pop()
        self.env.set_state(self._starts[-1])

    def tab(self, typed: str, state: int) -> str | None:
        """Return completion number `state` of a line, None after the last (for `readline`)."""
        if state == 0:  # the others are asked for next
            found = [one for one in self.complete(typed.lstrip(" ")) if not one.ends]
            if len(found) == 1:
                found = [self.follow(found[0])]
            # What a terminal should not be sent can be chosen by its number.
            self._tab_lines = [
                one.text + ("" if one.ends else " ") for one in found if one.text.isprintable()
            ]
        return self._tab_lines[state] if state < len(self._tab_lines) else None

    def _row(self) -> Rows:
        """Return a copy of the environment's row."""
        row = self.env.surface.dynamics.new_rows(1)
        row.restore(self.env.get_state()["rows"])
        return row


def play(
    game: Game, read: Callable[[str], str] = input, oracle: Probabilistic | None = None
) -> None:
    """Ask for lines until the slate is full, then show what it was worth.

    Args:
        game: A fresh episode.
        read: Prompt -> a line; EOFError or KeyboardInterrupt ends the game.
        oracle: Knows the law behind the data; its slate is shown beside the person's.
    """
    listing = _show(game)
    _say("Type the beginning of a title, or a number; ? for help.")
    while game.outcome is None:
        line = _ask(read, game.scene)
        if line == "q":
            _say("Stopped; an unfinished slate has no score.")
            return
        if line == "?":
            _say(HELP)
        elif line in ("<", "back"):
            game.back()
            listing = _show(game)
        elif (chosen := _understand(game, line, listing)) is not None:
            game.write(chosen)
            listing = _show(game)
        else:
            listing = _go_on_from(game, line)
    _say(_result(game, game.outcome, oracle))


def _ask(read: Callable[[str], str], shown: Scene) -> str:
    prefix = f"{shown.prefix} " if shown.prefix else ""
    try:
        return read(encodable(f"{len(shown.slate) + 1}> {prefix}", sys.stdout)).strip(" \r\n")
    except (EOFError, KeyboardInterrupt):
        _say("")
        return "q"


def _understand(game: Game, typed: str, listing: Sequence[Completion]) -> Completion | None:
    """Return what a line says to write, None if it is not clear."""
    found = game.complete(typed)
    is_word = any(one.text.casefold() == typed.casefold() for one in found)
    if typed.isdecimal() and 1 <= int(typed) <= len(listing) and not is_word:
        return listing[int(typed) - 1]
    return pick(typed, found)


def _show(game: Game) -> Sequence[Completion]:
    """Show the picture and the ways to go on; return those."""
    shown = replace(game.scene, continuations=())  # the list stands for them
    show(picture(shown, color=use_color(sys.stdout)), sys.stdout)
    return () if game.outcome is not None else _list(game, game.complete(""))


def _go_on_from(game: Game, typed: str) -> Sequence[Completion]:
    """List the ways to go on from what was typed, or from the part of it that is legal."""
    found, rest = game.complete(typed), typed
    if not found:
        _say(f"No title that may still be written goes on with {typed!r}.")
    while not found:
        rest = rest.rpartition(" ")[0]
        found = game.complete(f"{rest} " if rest else "")
    return _list(game, found)


def _list(game: Game, found: Sequence[Completion]) -> Sequence[Completion]:
    """Print numbered ways to go on, in columns where they are short; return those printed."""
    num_titles = sum(one.num_titles for one in found)
    _say(f"next, with the titles it leaves of {num_titles:,}")
    cells = []
    for number, one in enumerate(found[:LISTED], start=1):
        whole = game.follow(one)
        left = END if whole.ends else f"[{one.num_titles:,}]"
        words = cut(printable(whole.text), WIDTH - 16)
        cells.append(f"{number:>4}) {words} {left}" if words else f"{number:>4}) {left}")
    width = max(map(len, cells)) + 2
    columns = max(1, min(3, WIDTH // width))
    for start in range(0, len(cells), columns):
        line = "".join(cell.ljust(width) for cell in cells[start : start + columns])
        _say(line.rstrip())
    if len(found) > LISTED:
        _say(f"     ... {len(found) - LISTED:,} more: type a letter or two")
    return found[:LISTED]


def _result(game: Game, outcome: dict[str, Any], oracle: Probabilistic | None) -> str:
    """Say what the slate was worth; beside it stands the oracle's."""
    slate, target = outcome["slate"].tolist(), outcome["target"]
    if oracle is None:
        return f"\nreward {game.reward:.3f}"
    task, batch = game.env.task, _example(game)
    best = oracle.recommend(batch, len(slate))
    probability = oracle.probabilities(batch)[0]
    reward = float(task.reward(best, batch).sum())
    lines = ["", f"      {'you':<36}  the oracle"]
    for rank, pair in enumerate(zip(slate, best[0].tolist(), strict=True), start=1):
        mine, its = (_cell(game, title, target) for title in pair)
        lines.append(f"  {rank:>2}  {mine:<36}  {its}".rstrip())
    chances = [probability[titles].sum() for titles in (slate, best[0])]
    lines.append(f"      {f'reward {game.reward:.3f}':<36}  reward {reward:.3f}")
    lines.append(f"      {f'chance of a hit {chances[0]:.1%}':<36}  {chances[1]:.1%}")
    return "\n".join(lines)


def _cell(game: Game, title: int, target: int) -> str:
    text = "" if title == NO_TITLE else printable(game.env.task.decode_title(title))
    return ("* " if title == target else "  ") + cut(text, 34)


def _example(game: Game) -> Batch:
    return game.env.surface.dynamics.examples.take(np.array([game.example]))


def _say(text: str) -> None:
    print(encodable(text, sys.stdout))
