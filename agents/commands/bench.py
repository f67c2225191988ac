"""`rere bench`: measure the speed of the parts on this machine."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from agents.config import TrainConfig

if TYPE_CHECKING:
    from agents.commands.common import Policy

__all__ = ["Bench"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Time a part against its plain alternative; equal results are asserted first.

    env: steps of the environment against plain Python, and against Gymnasium's CartPole.
    rollout: the policy through the environment, titles per second, token loop against tree search.

    Examples:
        rere bench env --quick
        rere bench env --data data/mine --out bench
        rere bench rollout --json
        rere bench rollout --model runs/mine --num-users 256

    Attributes:
        what: What to measure.
        quick: Answer within a minute or two: fewer rounds, no grid.
        repeats: Interleaved rounds; the median is reported.
        out: Folder for result.json, a table and a plot.
        json: Print JSON.
        data: Data folder or `games`; default: a synthetic catalogue, or what the run was trained
            on.
        model: A run, a model folder, a hub id or `scratch:<size>` (untrained); of `rollout`.
        num_users: N, users served together; of `rollout`.
        slate_size: K, titles written for each; of `rollout`.
        device: Where to compute.
    """

    what: Annotated[Literal["env", "rollout"], tyro.conf.Positional]
    quick: bool = False
    repeats: int = 5
    out: Path | None = None
    json: bool = False
    data: str | None = None
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
        else:
            self._rollout()

    def _env(self) -> None:
        from agents.bench.env_report import bench_env, markdown, plot

        folder = None if self.data is None else Path(self.data)
        result = bench_env(data=folder, quick=self.quick, repeats=self.repeats)
        result["command"] = " ".join(["rere", *sys.argv[1:]])
        if self.out is not None:
            self.out.mkdir(parents=True, exist_ok=True)
            text = json.dumps(result, indent=2, allow_nan=False) + "\n"
            (self.out / "env.json").write_text(text, encoding="utf-8")
            (self.out / "env.md").write_text(markdown(result), encoding="utf-8")
            if "grid" in result:
                plot(result, self.out / "env.png")
        print(json.dumps(result, indent=2, allow_nan=False) if self.json else markdown(result))

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
        if self.json:
            print(json.dumps(result | {"model": self.model}, indent=2, allow_nan=False))
            return
        for name, rate in result["titles_per_second"].items():
            print(f"{name:<20}{rate:>12,.0f} titles/s")
        for name, r in result["ratios"].items():
            print(
                f"tree search / token loop, {name}: {r['median']:.1f}x "
                f"({r['low']:.1f}-{r['high']:.1f})"
            )

    def _policy(self) -> "Policy":
        from agents.backbones import load_backbone
        from agents.commands.common import Policy, load_policy
        from agents.experiment import make_accelerator
        from agents.language_model import LanguageModel
        from rere_env.task import load_data

        if not self.model.startswith("scratch:"):
            return load_policy(self.model, self.data, self.device)
        config = TrainConfig(model=self.model, data=self.data or "games", device=self.device)
        dataset = load_data(config.data)
        backbone = load_backbone(self.model, dataset.catalogue.titles)
        lm = LanguageModel(backbone.model.to(make_accelerator(config).device)).eval()
        return Policy(config=config, backbone=backbone, task=backbone.task(dataset), lm=lm)
