"""One cell of a comparison: one algorithm, one seed, trained, evaluated, written down.

Run as `python -m agents.comparison.cell PLAN ALGORITHM SEED FOLDER`, a process of its own: what
one algorithm leaves behind cannot reach another.
"""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from accelerate.utils import set_seed
from transformers.utils.logging import disable_progress_bar

from agents.budget import Budget
from agents.evaluation import Evaluation, evaluate
from agents.files import write_json
from agents.registry import find_algorithm
from agents.reporting.provenance import git_commit, package_versions
from agents.rere.config import ReReConfig
from agents.training.budgeted import PolicyAlgorithm, as_algorithm
from rere_env.data.known import GAMES, load_data
from rere_env.task import Task
from rere_env.types import Recommender

__all__ = [
    "KS",
    "METRICS",
    "Plan",
    "cell_file",
    "evaluate_row",
    "read_row",
    "row_name",
    "run_cell",
    "write_row",
]

KS = (1, 10)
METRICS = ("ndcg@10", "expected_ndcg@10", "hit_rate@1", "hit_rate@10")
"""What is kept row by row, where it is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What all cells share.

    Attributes:
        start: The SFT checkpoint that language models start from.
        data: As `rere train` takes it.
        seconds: CPU seconds of training on one thread: validation and evaluation do not count.
        learning_rate: Peak, of language models.
        prompts_per_step: B, of language models.
        group_size: G, of language models.
        valid_rows: Rows that choose among the policies of one training.
        split: What is evaluated; `valid` is for choosing a learning rate.
        test_rows: Rows of it; None: all.
    """

    start: str
    data: str = GAMES
    seconds: float = 90.0
    learning_rate: float = 1e-4
    prompts_per_step: int = 64
    group_size: int = 16
    valid_rows: int = 512
    split: Literal["valid", "test"] = "test"
    test_rows: int | None = None

    def __post_init__(self) -> None:
        """Check what a cell would not notice: at a rate of 0 it learns nothing, in silence."""
        if self.learning_rate <= 0:
            raise ValueError(f"`learning_rate` (={self.learning_rate}) must be positive.")


def run_cell(plan: Plan, algorithm: str, seed: int, folder: Path) -> None:
    """Train, evaluate, and write the files of the cell."""
    torch.set_num_threads(1)
    set_seed(seed)
    disable_progress_bar()
    task = Task.build(load_data(plan.data))
    started, cpu_started = time.perf_counter(), time.process_time()
    info = find_algorithm(algorithm)
    learner = as_algorithm(info, lambda config: _from_start(plan, config, task))
    budget = Budget(seconds=plan.seconds, clock=time.process_time)
    recommender = learner.train(task, budget, seed=seed)
    seconds = {
        "train_wall_s": time.perf_counter() - started,
        "train_cpu_s": time.process_time() - cpu_started,
    }
    started = time.perf_counter()
    done = evaluate_row(recommender, task, plan)
    seconds["evaluation_wall_s"] = time.perf_counter() - started
    about = {"algorithm": asdict(info), "plan": asdict(plan), "seconds": seconds}
    write_row(folder, algorithm, seed, done, about)


def row_name(algorithm: str) -> str:
    """Return what an algorithm is called in files and tables: its name without the module."""
    return algorithm.rpartition(":")[2]


def cell_file(folder: Path, algorithm: str, seed: int | None) -> Path:
    """Return the JSON file of a cell; None: what is not trained has no seed."""
    name = row_name(algorithm)
    return folder / (f"{name}.json" if seed is None else f"{name}-{seed}.json")


def evaluate_row(recommender: Recommender, task: Task, plan: Plan) -> Evaluation:
    """Evaluate on the plan's split."""
    examples = task.split(plan.split)
    if plan.test_rows is not None:
        examples = examples.take(slice(plan.test_rows))
    oracle = task.dataset.oracle
    return evaluate(
        recommender,
        task,
        examples,
        ks=KS,
        probabilities=None if oracle is None else oracle.probabilities,
        num_resamples=0,
        progress=False,
    )


def write_row(
    folder: Path, algorithm: str, seed: int | None, done: Evaluation, about: dict[str, Any]
) -> None:
    """Write what was measured; the JSON comes last and says that all is there, and whose it is."""
    folder.mkdir(parents=True, exist_ok=True)
    file = cell_file(folder, algorithm, seed)
    rows = {metric: done.rows[metric] for metric in METRICS if metric in done.rows}
    arrays: dict[str, Any] = {"target_title": done.target_title, "user": done.user, **rows}
    np.savez_compressed(file.with_suffix(".npz"), **arrays)
    write_json(
        file,
        about
        | {
            "name": algorithm,
            "seed": seed,
            "metrics": {metric: float(values.mean()) for metric, values in rows.items()},
            "illegal_rate": done.illegal_rate,
            "duplicate_rate": done.duplicate_rate,
            "versions": package_versions(),
            "git_commit": git_commit(),
        },
    )


def read_row(file: Path) -> dict[str, Any]:
    """Return what the JSON of a cell says.

    Raises:
        ValueError: It does not say whose it is.
    """
    row: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    if "name" not in row:
        raise ValueError(
            f"{file} must say by `name` whose cell it is, but was written by an older version; "
            "choose another --folder."
        )
    return row


def _from_start(plan: Plan, config: ReReConfig, task: Task) -> PolicyAlgorithm:
    """Return a policy's choices as an algorithm that starts where all of them start."""
    group_size = min(plan.group_size, task.catalogue.num_titles)
    return PolicyAlgorithm(
        config=replace(config, group_size=group_size),
        model=plan.start,
        model_seed=0,
        learning_rate=plan.learning_rate,
        prompts_per_step=plan.prompts_per_step,
        valid_rows=plan.valid_rows,
    )


def main(arguments: Sequence[str]) -> None:
    """Run one cell."""
    plan, algorithm, seed, folder = arguments
    run_cell(Plan(**json.loads(plan)), algorithm, int(seed), Path(folder))


if __name__ == "__main__":
    main(sys.argv[1:])
