"""`rere bench`: measure the speed of the parts on this machine."""

import json
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from agents.backbones import load_backbone
from agents.bench.engine import Subject, bench_engine
from agents.bench.report import markdown, write_report
from agents.bench.rollout import bench_rollout
from agents.commands.common import Policy, load_policy
from agents.config import TrainConfig
from agents.experiment import load_data, make_accelerator
from agents.language_model import LanguageModel

__all__ = ["Bench"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Time a part against its plain alternative; equal results are asserted first.

    rollout: the policy through the environment, titles per second, token loop against tree search.
    search, update, step: the engine beside what published code of ReRe computes (CPU, one thread;
    a model of its own, so `model`, `num_users`, `slate_size` and `device` do not apply).

    Examples:
        rere bench rollout --json
        rere bench rollout --model runs/mine --num-users 256
        rere bench search --quick --json
        rere bench update --data toys_catalogue --out results

    Attributes:
        what: What to measure.
        model: A run, a model folder, a hub id or `scratch:<size>` (untrained).
        data: Data folder or `games`; default: what the run was trained on. For the engine a folder
            with an `items` file; default: a synthetic catalogue.
        num_users: N, users served together.
        slate_size: K, titles written for each.
        repeats: Interleaved repeats; the median is reported.
        json: Print JSON.
        device: Where to compute.
        quick: The engine in under two minutes: small model, fewer users and repeats.
        half_b: The engine also in the shape of Qwen2-0.5B.
        growth: The engine also: how cost grows with group, prompt, catalogue and batch.
        out: Write JSON, a Markdown table and a picture into this folder (the engine only).
    """

    what: Annotated[Literal["rollout", "search", "update", "step"], tyro.conf.Positional]
    model: str = "scratch:tiny"
    data: str | None = None
    num_users: int = 64
    slate_size: int = 16
    repeats: int = 5
    json: bool = False
    device: Literal["auto", "cpu", "cuda"] = "auto"
    quick: bool = False
    half_b: bool = True
    growth: bool = True
    out: Path | None = None

    def run(self) -> None:
        """Measure and print."""
        if self.what != "rollout":
            self._run_engine(self.what)
            return
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

    def _run_engine(self, what: Subject) -> None:
        result = bench_engine(
            what,
            quick=self.quick,
            rounds=self.repeats,
            data=None if self.data is None else Path(self.data),
            half_b=self.half_b,
            growth=self.growth,
        )
        result["command"] = shlex.join(["rere", *sys.argv[1:]])
        if self.out is not None:
            write_report(result, self.out)
        print(json.dumps(result, indent=2, allow_nan=False) if self.json else markdown(result))

    def _policy(self) -> Policy:
        if not self.model.startswith("scratch:"):
            return load_policy(self.model, self.data, self.device)
        config = TrainConfig(model=self.model, data=self.data or "games", device=self.device)
        dataset = load_data(config.data)
        backbone = load_backbone(self.model, dataset.catalogue.titles)
        lm = LanguageModel(backbone.model.to(make_accelerator(config).device)).eval()
        return Policy(config=config, backbone=backbone, task=backbone.task(dataset), lm=lm)
