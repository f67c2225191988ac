"""`rere bench`: measure the speed of the parts on this machine."""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from agents.config import TrainConfig

if TYPE_CHECKING:
    from agents.commands.common import Policy

__all__ = ["Bench"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Time a part against its plain alternative; equal results are asserted first.

    rollout: the policy through the environment, titles per second, token loop against tree search.

    Examples:
        rere bench rollout --json
        rere bench rollout --model runs/mine --num-users 256

    Attributes:
        what: What to measure.
        model: A run, a model folder, a hub id or `scratch:<size>` (untrained).
        data: Data folder or `games`; default: what the run was trained on.
        num_users: N, users served together.
        slate_size: K, titles written for each.
        repeats: Interleaved repeats; the median is reported.
        json: Print JSON.
        device: Where to compute.
    """

    what: Annotated[Literal["rollout"], tyro.conf.Positional]
    model: str = "scratch:tiny"
    data: str | None = None
    num_users: int = 64
    slate_size: int = 16
    repeats: int = 5
    json: bool = False
    device: Literal["auto", "cpu", "cuda"] = "auto"

    def run(self) -> None:
        """Measure and print."""
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
