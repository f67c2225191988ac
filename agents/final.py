"""The end of a run: everything on the test split, once; result.json, report.html, a table."""

import time
from collections.abc import Mapping
from dataclasses import asdict

import torch

from agents.backbones import Backbone
from agents.baselines import CoOccurrence, Popularity, Shown
from agents.config import TrainConfig
from agents.evaluation import Evaluation, Probabilities, evaluate
from agents.language_model import LanguageModel
from agents.presets import Preset
from agents.recommender import LMRecommender
from agents.reporting import (
    build_result,
    choose_samples,
    result_table,
    write_report,
    write_result,
)
from agents.runs import Progress, RunFolder
from rere_env.games import oracle
from rere_env.task import GAMES, Task
from rere_env.types import Batch, Recommender

__all__ = ["finish"]


def finish(
    run: RunFolder,
    task: Task,
    policies: Mapping[str, Backbone],
    *,
    train_examples: Batch,
    preset: Preset,
    config: TrainConfig,
    progress: Progress,
    num_truncated: Mapping[str, int],
    device: torch.device,
) -> None:
    """Evaluate baselines, policies and, where it is known, the oracle; write and print it all.

    Args:
        run: Receives result.json and report.html.
        task: Of the policies: catalogue, prompts and test split.
        policies: By name, in the order of training.
        train_examples: What the baselines count.
        preset: Test rows and beam.
        config: What was asked for.
        progress: Seconds by stage.
        num_truncated: Prompts that lost their oldest items, by split.
        device: Where the policies run.
    """
    started = time.perf_counter()
    examples = task.split("test")
    if preset.test_rows is not None:
        examples = examples.take(slice(preset.test_rows))
    recommenders: dict[str, Recommender] = {
        "popularity": Popularity(task, train_examples),
        "co_occurrence": CoOccurrence(task, train_examples),
    }
    for name, backbone in policies.items():
        recommenders[name] = LMRecommender(
            task,
            LanguageModel(backbone.model).to(device),
            beam=preset.test_beam,
            support=config.support,
        )
    probabilities: Probabilities | None = None
    if config.data == GAMES:
        recommenders["oracle"] = Shown(oracle(), task)
        probabilities = oracle().probabilities

    evaluations: dict[str, Evaluation] = {}
    for name, recommender in recommenders.items():
        print(f"test split, {len(examples)} rows: {name}", flush=True)
        evaluations[name] = evaluate(recommender, task, examples, probabilities=probabilities)
    result = build_result(
        evaluations,
        dataset=task.dataset,
        seed=config.seed,
        config=asdict(config) | {"preset_values": asdict(preset)},
        seconds=progress.seconds | {"test": time.perf_counter() - started},
    )
    result["truncated_prompts"] = dict(num_truncated)
    result["hidden_train_targets"] = int(task.hides_target(train_examples).sum())
    write_result(run.result, result)
    report = write_report(run.path, result, choose_samples(task, examples, evaluations))
    print(f"\n{result_table(result)}\n\nresult: {run.result}\nreport: {report}")
