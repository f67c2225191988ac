"""`rere bench`: measure the speed of the parts on this machine."""

import json
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from agents.runs.config import TrainConfig

if TYPE_CHECKING:
    from agents.commands.common import Policy

__all__ = ["Bench"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Time a part against its plain alternative; equal results are asserted first.

    env: steps of the environment against plain Python, and against Gymnasium's CartPole.
    rollout: the policy through the environment, titles per second, token loop against tree search.
    search, update, step: the engine beside what published code of ReRe computes (CPU, one thread).

    Examples:
        rere bench env --quick
        rere bench search --quick --json
        rere bench update --data data/mine --out bench
        rere bench rollout --model runs/mine --num-users 256

    Attributes:
        what: What to measure.
        quick: Answer within a minute or two: fewer rounds, no grid, the small model alone.
        repeats: Interleaved rounds; the median is reported.
        out: Folder for the result as JSON, as a table and as a picture.
        json: Print JSON.
        data: Data folder; default: a synthetic catalogue, and for `rollout` what the run was
            trained on.
        half_b: Of the engine: also in the shape of Qwen2-0.5B.
        growth: Of the engine: also how cost grows with group, prompt, catalogue and batch.
        model: Of `rollout`: a run, a model folder, a hub id or `scratch:<size>` (untrained).
        num_users: Of `rollout`: N, users served together.
        slate_size: Of `rollout`: K, titles written for each.
        device: Of `rollout`: where to compute.
    """

    what: Annotated[Literal["env", "rollout", "search", "update", "step"], tyro.conf.Positional]
    quick: bool = False
    repeats: int = 5
    out: Path | None = None
    json: bool = False
    data: str | None = None
    half_b: bool = True
    growth: bool = True
    model: str = "scratch:tiny"
    num_users: int = 64
    slate_size: int = 16
    device: Literal["auto", "cpu", "cuda"] = "auto"

    def run(self) -> None:
        """Measure and print."""
        if self.repeats < 1:
            raise ValueError(f"`repeats` (={self.repeats}) must be at least 1.")
        if self.what == "env":
            self._env()
        elif self.what == "rollout":
            self._rollout()
        else:
            self._engine(self.what)

    def _env(self) -> None:
        from agents.bench.env.report import bench_env, markdown, write_env_report

        result = bench_env(data=self._folder(), quick=self.quick, repeats=self.repeats)
        result["command"] = _command()
        if self.out is not None:
            write_env_report(result, self.out)
        self._print(result, markdown(result))

    def _engine(self, what: Literal["search", "update", "step"]) -> None:
        from agents.bench.engine.report import markdown, write_report
        from agents.bench.engine.run import bench_engine

        result = bench_engine(
            what,
            quick=self.quick,
            rounds=self.repeats,
            data=self._folder(),
            half_b=self.half_b,
            growth=self.growth,
        )
        result["command"] = _command()
        if self.out is not None:
            write_report(result, self.out)
        self._print(result, markdown(result))

    def _rollout(self) -> None:
        from agents.bench.rollout import bench_rollout

        policy = self._policy()
        result = bench_rollout(
            policy.task,
            policy.lm,
            num_users=self.num_users,
            slate_size=self.slate_size,
            repeats=self.repeats,
        )
        lines = [f"{n:<20}{r:>12,.0f} titles/s" for n, r in result["titles_per_second"].items()]
        lines += [
            f"tree search / token loop, {name}: {r['median']:.1f}x ({r['low']:.1f}-{r['high']:.1f})"
            for name, r in result["ratios"].items()
        ]
        self._print(result | {"model": self.model, "command": _command()}, "\n".join(lines))

    def _print(self, result: dict[str, Any], text: str) -> None:
        print(json.dumps(result, indent=2, allow_nan=False) if self.json else text)

    def _folder(self) -> Path | None:
        return None if self.data is None else Path(self.data)

    def _policy(self) -> "Policy":
        from agents.commands.common import Policy, load_policy
        from agents.experiment.policy import make_accelerator
        from agents.language_model import LanguageModel
        from agents.policy import load_backbone
        from rere_env.data.known import load_data

        if not self.model.startswith("scratch:"):
            return load_policy(self.model, self.data, self.device)
        config = TrainConfig(model=self.model, data=self.data or "games", device=self.device)
        dataset = load_data(config.data)
        backbone = load_backbone(self.model, dataset.catalogue.titles)
        lm = LanguageModel(backbone.model.to(make_accelerator(config).device)).eval()
        return Policy(config=config, backbone=backbone, task=backbone.task(dataset), lm=lm)


def _command() -> str:
    return shlex.join(["rere", *sys.argv[1:]])
