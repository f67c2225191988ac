"""The end of a run: everything on the test split, once; result.json, report.html, a table."""

import time
from collections.abc import Mapping
from dataclasses import asdict

from agents.baselines import CoOccurrence, Filtered, Popularity
from agents.evaluation import Evaluation, Probabilities, evaluate
from agents.reporting import (
    build_result,
    choose_samples,
    result_table,
    write_report,
    write_result,
)
from agents.reporting.results import ORACLE
from agents.runs.config import TrainConfig
from agents.runs.folder import Progress, RunFolder
from rere_env.task import Task
from rere_env.types import Batch, Recommender

__all__ = ["finish"]


def finish(
    run: RunFolder,
    task: Task,
    learnt: Mapping[str, Recommender],
    *,
    train_examples: Batch,
    config: TrainConfig,
    progress: Progress,
    num_truncated: Mapping[str, int],
    writes: bool = True,
) -> None:
    """Evaluate baselines, what was learnt, and the oracle where it is known; write and print it.

    Args:
        run: Receives result.json and report.html.
        task: Catalogue, filter and test split.
        learnt: By name, in the order of training.
        train_examples: What the baselines count.
        config: What was asked for.
        progress: Seconds by stage.
        num_truncated: Prompts that lost their oldest items, by split.
        writes: False on a process that only helps to search.
    """
    started, numbers = time.perf_counter(), config.numbers()
    examples = task.split("test")
    if numbers.test_rows is not None:
        examples = examples.take(slice(numbers.test_rows))
    recommenders: dict[str, Recommender] = {
        "popularity": Popularity(task, train_examples),
        "co_occurrence": CoOccurrence(task, train_examples),
    }
    recommenders |= learnt
    probabilities: Probabilities | None = None
    if (oracle := task.dataset.oracle) is not None:
        recommenders[ORACLE] = Filtered(oracle, task)
        probabilities = oracle.probabilities

    evaluations: dict[str, Evaluation] = {}
    for name, recommender in recommenders.items():
        if writes:
            print(f"test split, {len(examples)} rows: {name}", flush=True)
        evaluations[name] = evaluate(
            recommender, task, examples, probabilities=probabilities, progress=writes
        )
    if not writes:
        return
    result = build_result(
        evaluations,
        dataset=task.dataset,
        seed=config.seed,
        config=asdict(config) | {"preset_values": asdict(numbers)},
        seconds=progress.seconds | {"test": time.perf_counter() - started},
    )
    result["truncated_prompts"] = dict(num_truncated)
    result["hidden_train_targets"] = int(task.hides_target(train_examples).sum())
    write_result(run.result, result)
    report = write_report(run.path, result, choose_samples(task, examples, evaluations))
    print(f"\n{result_table(result)}\n\nresult: {run.result}\nreport: {report}")
