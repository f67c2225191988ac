"""The commands of `rere`, one file each: a dataclass of flags with a `run` method.

What a command needs besides its flags it imports when it runs: `rere --help` and `rere play` load
neither torch nor transformers.
"""

from typing import Annotated

import tyro

from agents.commands.algorithms import Algorithms
from agents.commands.bench import Bench
from agents.commands.compare import Compare
from agents.commands.data import Data
from agents.commands.evaluate import Evaluate
from agents.commands.play import Play
from agents.commands.recommend import Recommend
from agents.commands.train import Train

__all__ = ["Command"]

Command = (
    Annotated[Train, tyro.conf.subcommand(name="train")]
    | Annotated[Algorithms, tyro.conf.subcommand(name="algorithms")]
    | Annotated[Compare, tyro.conf.subcommand(name="compare")]
    | Annotated[Evaluate, tyro.conf.subcommand(name="evaluate")]
    | Annotated[Recommend, tyro.conf.subcommand(name="recommend")]
    | Annotated[Play, tyro.conf.subcommand(name="play")]
    | Annotated[Data, tyro.conf.subcommand(name="data")]
    | Annotated[Bench, tyro.conf.subcommand(name="bench")]
)
