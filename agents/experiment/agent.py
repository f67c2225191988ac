"""The main job of an algorithm that trains no language model: train, test split, result, report."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import Protocol, runtime_checkable

from agents.budget import Budget
from agents.experiment.final import finish
from agents.registry import Algorithm
from agents.rewards.parts import RewardParts
from agents.runs.config import TrainConfig
from agents.runs.folder import Progress, RunFolder, Stage
from rere_env.data import Dataset
from rere_env.task import Task

__all__ = ["train_agent"]

DEFAULT_SECONDS = 300.0
SMOKE_SECONDS = 5.0


@runtime_checkable
class _Saves(Protocol):
    def save(self, folder: Path) -> None: ...


def train_agent(
    config: TrainConfig, algorithm: Algorithm, dataset: Dataset, runs_dir: Path, name: str | None
) -> Path:
    """Train within the budget and evaluate; return the run's folder.

    Args:
        config: What was asked for.
        algorithm: What learns.
        dataset: What it learns from.
        runs_dir: Where runs are kept.
        name: Of the folder; default: data, algorithm, seed and time.

    Raises:
        ValueError: It shall compute on a GPU.
    """
    if config.device == "cuda":
        raise ValueError(
            f"`device` (='cuda') is where language models compute, and {config.algorithm!r} trains "
            "none: it chooses a device of its own; leave --device out."
        )
    budget = _budget(config)
    run = RunFolder.create(runs_dir, name or config.default_name(), asdict(config))
    task = _task(config, dataset, run)
    started = time.perf_counter()
    print(f"{config.algorithm}: {_words(budget)}", flush=True)
    recommender = algorithm.train(task, budget, seed=config.seed)
    progress = Progress(stage=Stage.DONE, seconds={"train": time.perf_counter() - started})
    if isinstance(recommender, _Saves):
        recommender.save(run.path / "agent")
    finish(
        run,
        task,
        {config.label(): recommender},
        train_examples=dataset.splits[config.train_split],
        config=config,
        progress=progress,
        num_truncated={},
    )
    return run.path


def _task(config: TrainConfig, dataset: Dataset, run: RunFolder) -> Task:
    """Build the task on the training split that was asked for; an agent knows it as `train`."""
    task = Task.build(dataset.with_train(config.train_split), exclude=config.filter())
    parts = RewardParts(
        task=task,
        backbone=None,
        examples=task.split("train"),
        folder=run.path / "rewards",
        sentence_encoder=config.sentence_encoder,
        seed=config.seed,
    )
    return task.with_reward(parts.make(config.reward))


def _budget(config: TrainConfig) -> Budget:
    seconds = config.train_seconds
    if seconds is None and config.train_steps is None:
        seconds = SMOKE_SECONDS if config.preset == "smoke" else DEFAULT_SECONDS
    return Budget(seconds=seconds, steps=config.train_steps)


def _words(budget: Budget) -> str:
    limits = []
    if budget.seconds is not None:
        limits.append(f"{budget.seconds:g} seconds")
    if budget.steps is not None:
        limits.append(f"{budget.steps} steps")
    return "training for " + ", or ".join(limits)
