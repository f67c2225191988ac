"""`rere play`: write a slate yourself."""

import sys
from dataclasses import dataclass

import numpy as np

from agents.play.game import Game, play
from rere_env.data.known import GAMES
from rere_env.envs import ReReEnv

__all__ = ["Play"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Play:
    """Write a slate for one user, title by title, and see how good it was.

    The beginning of a title is enough: what is clear is completed, what is not is listed, and Tab
    completes as in a shell. Where the law is known, as in the built-in world, the best possible
    slate is shown beside yours.

    Examples:
        rere play
        rere play --seed 7 --slate-size 3
        rere play --data my_data --split valid --example 12

    Attributes:
        data: Data folder, a known name, or `games`.
        split: Which split.
        example: Which example of it; default: one drawn at random.
        slate_size: How many titles to write.
        seed: Of the draw; default: another one each time.
    """

    data: str = GAMES
    split: str = "test"
    example: int | None = None
    slate_size: int = 5
    seed: int | None = None

    def run(self) -> None:
        """Play one episode."""
        env = ReReEnv(data=self.data, split=self.split, slate_size=self.slate_size, mask="lazy")
        example = self.example
        if example is None:
            num_examples = len(env.task.split(self.split))
            example = int(np.random.default_rng(self.seed).integers(num_examples))
        game = Game(env, example)
        best = env.task.dataset.oracle
        if sys.stdin.isatty():
            _complete_on_tab(game)
            play(game, input, best)
        else:
            play(game, _echoed_input, best)
        print(f"This was example {example} of {self.split}: --example {example} asks it again.")


def _echoed_input(prompt: str) -> str:
    """Show what was read: a pipe, unlike a terminal, does not."""
    line = input(prompt)
    print(line)
    return line


def _complete_on_tab(game: Game) -> None:
    try:
        import readline
    except ImportError:  # no such module on Windows; the lists do without
        return
    readline.set_completer(game.tab)
    readline.set_completer_delims("")  # a title is one thing, spaces and all
    libedit = "libedit" in (readline.__doc__ or "")
    readline.parse_and_bind("bind ^I rl_complete" if libedit else "tab: complete")
