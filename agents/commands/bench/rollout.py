"""`rere bench rollout`: the policy through the environment, token loop against tree search."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from agents.commands.bench.common import REPEATS, Measuring
from agents.runs.config import TrainConfig
from rere_env.data.known import GAMES

if TYPE_CHECKING:
    from agents.commands.common import LoadedPolicy

__all__ = ["Rollout"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout(Measuring):
    """Measure titles per second of a policy: token by token in the environment, and by tree search.

    Examples:
        rere bench rollout --json
        rere bench rollout --model runs/mine --num-users 256 --out bench

    Attributes:
        model: A run, a model folder, a hub id or `scratch:<size>` (untrained).
        data: Data folder or `games`; default: what the run was trained on.
        num_users: N, users served together.
        slate_size: K, titles written for each.
        device: Where to compute.
    """

    model: str = "scratch:tiny"
    data: str | None = None
    num_users: int = 64
    slate_size: int = 16
    device: Literal["auto", "cpu", "cuda"] = "auto"

    def run(self) -> None:
        """Measure and print."""
        from agents.bench.rollout import bench_rollout, markdown, write_rollout_report

        policy = self._policy()
        result = bench_rollout(
            policy.task,
            policy.lm,
            num_users=self.num_users,
            slate_size=self.slate_size,
            repeats=self.repeats or REPEATS,
        )
        self.report(result | {"model": self.model}, markdown, write_rollout_report)

    def _policy(self) -> "LoadedPolicy":
        from agents.commands.common import LoadedPolicy, load_policy
        from agents.experiment.launch import make_accelerator
        from agents.language_model import LanguageModel
        from agents.policy import load_backbone
        from rere_env.data.known import load_data

        if not self.model.startswith("scratch:"):
            return load_policy(self.model, self.data, self.device)
        config = TrainConfig(model=self.model, data=self.data or GAMES, device=self.device)
        dataset = load_data(config.data)
        backbone = load_backbone(self.model, dataset.catalogue.titles)
        lm = LanguageModel(backbone.model.to(make_accelerator(config).device)).eval()
        return LoadedPolicy(config=config, backbone=backbone, task=backbone.task(dataset), lm=lm)
