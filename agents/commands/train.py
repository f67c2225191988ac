"""`rere train`: the main job, or the rest of a stopped one."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from agents.runs.config import TrainConfig
from agents.runs.stopping import parse_duration
from agents.search import SAMPLERS

if TYPE_CHECKING:
    SamplerName: TypeAlias = str
else:  # tyro lists the choices
    SamplerName = Literal[tuple(SAMPLERS)]

__all__ = ["Train"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Train(TrainConfig):
    """Train a recommender: SFT, then ReRe, then the test split.

    Without any flag it trains a small model from scratch on the built-in world of games, in under
    ten minutes on two cores. Leaves runs/NAME with checkpoints, result.json and report.html.

    Examples:
        rere train
        rere train --data my_data --model scratch:small --name mine
        rere train --data my_data --model Qwen/Qwen2.5-0.5B --device cuda --precision bf16
        rere train --resume runs/mine

    Ctrl-C, SIGTERM and SIGHUP let the step end, save, and say how to go on; a second one ends at
    once.

    Attributes:
        runs_dir: Where runs are kept.
        name: Folder of this run; default: data, model, seed and time.
        resume: Continue this stopped run; the other flags come from its config.json.
        plugin: With --resume, the `module:name` that the run was trained by, if it was one: code is
            imported only if you name it too.
        allow_changed: Resume even if data, titles, config.json or version are not those that the
            run was begun with, or are not known.
        save_every: Work that a kill may cost at most, such as 30s, 5m or 1h, besides the evenly
            spread saves.
    """

    sampler: SamplerName | None = None
    runs_dir: Path = Path("runs")
    name: str | None = None
    resume: Path | None = None
    plugin: str | None = None
    allow_changed: bool = False
    save_every: str | None = None

    def __post_init__(self) -> None:
        """Leave the checks to `run`, whose errors become one line."""

    def run(self) -> None:
        """Train, or continue."""
        from agents.experiment.policy import resume, train

        save_every_s = None if self.save_every is None else parse_duration(self.save_every)
        if self.resume is not None:
            resume(
                self.resume,
                plugin=self.plugin,
                save_every_s=save_every_s,
                allow_changed=self.allow_changed,
            )
            return
        for name in ("plugin", "allow_changed"):
            if value := getattr(self, name):
                raise ValueError(
                    f"`{name}` (={value!r}) is about a run that goes on; give --resume too."
                )
        config = {f.name: getattr(self, f.name) for f in fields(TrainConfig)}
        train(TrainConfig(**config), self.runs_dir, self.name, save_every_s=save_every_s)
