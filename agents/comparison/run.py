"""Run the cells of a comparison, several at a time; those that are done are not run again."""

import json
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path

from tqdm.auto import tqdm

from agents.baselines import CoOccurrence, Popularity
from agents.comparison.cell import (
    Plan,
    cell_file,
    evaluate_row,
    read_row,
    row_name,
    write_row,
)
from agents.files import write_json
from agents.language_model import LanguageModel
from agents.lm_recommender import LMRecommender, final_search
from agents.policy import load_backbone
from agents.registry import find_algorithm
from agents.reporting.results import ORACLE
from agents.runs.folder import Stage
from rere_env.data.known import load_data
from rere_env.types import Recommender

__all__ = ["BASELINES", "START", "run_cells"]

START = Stage.SFT.value
"""The row of the checkpoint that language models start from."""

BASELINES = ("popularity", "co_occurrence", START, ORACLE)
"""Rows without training of their own, and so without seeds."""


def run_cells(
    plan: Plan, algorithms: Sequence[str], num_seeds: int, folder: Path, num_workers: int
) -> None:
    """Fill a folder with the cells of all algorithms and seeds.

    Args:
        plan: What all cells share; it must be the folder's, if that has one.
        algorithms: Names, or `module:name`.
        num_seeds: Seeds 0, 1, ...
        folder: Receives a JSON and an NPZ file a cell, and the log of each.
        num_workers: Processes at a time, one thread each; no more than there are free cores.

    Raises:
        ValueError: The folder holds cells of another plan or algorithm, or two algorithms would
            share their cells.
        RuntimeError: A cell has failed; the others are kept.
    """
    for name in algorithms:
        find_algorithm(name)  # what is unknown fails before anything is run
    _check_names(algorithms)
    _check_plan(plan, folder)
    todo = [
        (name, seed)
        for seed in range(num_seeds)
        for name in algorithms
        if not _is_done(folder, name, seed)
    ]
    _write_baselines(plan, folder)
    failed = []
    with (
        ThreadPoolExecutor(num_workers) as pool,
        tqdm(total=len(todo), desc="compare", unit="cell", dynamic_ncols=True) as bar,
    ):
        running = {pool.submit(_cell, plan, *cell, folder): cell for cell in todo}
        for done in as_completed(running):
            name, seed = running[done]
            if not done.result():
                failed.append(cell_file(folder, name, seed).stem)
            bar.update()
    if failed:
        raise RuntimeError(
            f"{len(failed)} cells have failed: {failed}; see their .log files in {folder}, then "
            "run the same command again: what is done stays."
        )


def _cell(plan: Plan, algorithm: str, seed: int, folder: Path) -> bool:
    """Run a cell in a process of its own; say whether it succeeded."""
    if _is_done(folder, algorithm, seed):  # by another command on the same folder, meanwhile
        return True
    arguments = [json.dumps(asdict(plan)), algorithm, str(seed), str(folder)]
    log = cell_file(folder, algorithm, seed).with_suffix(".log")
    with log.open("w", encoding="utf-8") as file:
        done = subprocess.run(
            [sys.executable, "-m", "agents.comparison.cell", *arguments],
            stdout=file,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if done.returncode == 0:
        log.unlink()
    return done.returncode == 0


def _is_done(folder: Path, algorithm: str, seed: int) -> bool:
    file = cell_file(folder, algorithm, seed)
    if not file.is_file():
        return False
    if (known := read_row(file)["name"]) != algorithm:
        raise ValueError(
            f"{file} must be of the algorithm {algorithm!r}, but is of {known!r}; choose another "
            "--folder."
        )
    return True


def _check_names(algorithms: Sequence[str]) -> None:
    taken = dict.fromkeys(BASELINES, "a row of every comparison")
    for algorithm in algorithms:
        name = row_name(algorithm)
        if name in taken:
            raise ValueError(
                f"`algorithms` must have names that differ without their modules, but {name!r} "
                f"stands for {taken[name]} and for {algorithm!r}; rename one, or compare them in "
                "two folders."
            )
        taken[name] = repr(algorithm)


def _check_plan(plan: Plan, folder: Path) -> None:
    file = folder / "plan.json"
    if not file.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        write_json(file, asdict(plan))
    known = json.loads(file.read_text(encoding="utf-8"))
    if known != asdict(plan):
        raise ValueError(
            f"{folder} holds cells of another plan, {known}; choose another folder, or give the "
            "same options."
        )


def _write_baselines(plan: Plan, folder: Path) -> None:
    dataset = load_data(plan.data)
    names = [name for name in BASELINES if name != ORACLE or dataset.oracle is not None]
    if all(cell_file(folder, name, None).is_file() for name in names):
        return
    backbone = load_backbone(plan.start, dataset.catalogue.titles)
    task = backbone.task(dataset)
    rows: dict[str, Recommender] = {
        "popularity": Popularity(task, task.split("train")),
        "co_occurrence": CoOccurrence(task, task.split("train")),
        START: LMRecommender(task, LanguageModel(backbone.model), search=final_search("catalogue")),
    }
    if dataset.oracle is not None:
        rows[ORACLE] = dataset.oracle
    for name, recommender in rows.items():
        done = evaluate_row(recommender, task, plan)
        write_row(folder, name, None, done, {"plan": asdict(plan)})
