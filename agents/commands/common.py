"""What several commands need: a trained policy by run, folder or hub id."""

import sys
from dataclasses import dataclass
from pathlib import Path

from agents.experiment.launch import make_accelerator
from agents.files import DamagedError, read_json
from agents.language_model import LanguageModel
from agents.policy import Backbone, load_backbone
from agents.policy.context import fit_prompts, num_truncated
from agents.runs.begun import check_config
from agents.runs.config import TrainConfig
from agents.runs.folder import RunFolder
from rere_env.data.known import load_data
from rere_env.task import Task

__all__ = ["LoadedPolicy", "load_policy", "warn_of_truncation"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LoadedPolicy:
    """A loaded policy with the task it was trained for."""

    config: TrainConfig
    backbone: Backbone
    task: Task
    lm: LanguageModel


def load_policy(run_or_model: str, data: str | None, device: str) -> LoadedPolicy:
    """Load a run's policy (ReRe if it got that far, else SFT), a model folder or a hub id.

    Args:
        run_or_model: A folder of `rere train`, a folder with a causal LM, or a hub id.
        data: Overrides the run's data; a bare model defaults to the built-in world.
        device: "auto", "cpu" or "cuda".
    """
    config, model = TrainConfig(model=run_or_model), run_or_model
    if (Path(run_or_model) / "config.json").is_file() and _is_run(Path(run_or_model)):
        run = RunFolder.open(Path(run_or_model))
        check_config(run)
        config = run.read_config()
        model = str(_checkpoint(run))
    dataset = load_data(data or config.data, config.history_length)
    backbone = load_backbone(model, dataset.catalogue.titles)
    accelerator = make_accelerator(TrainConfig(device=device))  # type: ignore[arg-type]
    lm = LanguageModel(backbone.model.to(accelerator.device)).eval()
    task = backbone.task(dataset, exclude=config.filter())
    task = fit_prompts(task, lm.max_length, config.on_long_prompt)
    return LoadedPolicy(config=config, backbone=backbone, task=task, lm=lm)


def warn_of_truncation(task: Task) -> None:
    """Say on stderr how many prompts lost their oldest items to fit the model's context."""
    if count := num_truncated(task):
        print(f"{count} prompts were cut to their newest items to fit the model.", file=sys.stderr)


def _is_run(path: Path) -> bool:
    run = RunFolder.open(path)
    if run.begun.is_file() or run.checkpoints.is_dir():
        return True
    try:
        return "train_split" in read_json(run.config)
    except DamagedError as error:
        raise DamagedError(f"{error}; copy the folder again.") from error


def _checkpoint(run: RunFolder) -> Path:
    if (policy := run.latest_policy()) is not None:
        return policy
    if run.result.is_file():
        raise FileNotFoundError(
            f"the run {run.path} holds no language model, its algorithm trains none; its scores "
            f"are in {run.result}."
        )
    raise FileNotFoundError(
        f"the run {run.path} holds no checkpoint yet; let it train, or continue it with "
        f"`rere train --resume {run.path}`."
    )
