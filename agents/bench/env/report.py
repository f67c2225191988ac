"""The whole benchmark of the environment: ratios, a grid of rates, limits; a table and a plot."""

import json
import time
import tracemalloc
from collections.abc import Iterator
from functools import partial
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np

from agents.bench.env.peers import DictTrieEnv, dict_trie
from agents.bench.env.steps import (
    BACKENDS,
    SEED,
    Actions,
    Masks,
    draw_actions,
    named_ratios,
    replay,
    step_rates,
)
from agents.bench.env.tasks import WIDE, catalogue_task, items_task
from agents.bench.timing import machine
from rere_env.envs import ReReVectorEnv
from rere_env.task import Task, load_task
from rere_env.trie import Trie

__all__ = ["bench_env", "markdown", "write_env_report"]

NUM_TITLES = 11_252
MILLION = 1_000_000
NUM_ENVS = 1_024
GRID_ENVS = (1, 16, 256, 1_024, 4_096)
GRID_MASKS: tuple[Masks, ...] = ("none", "csr", "dense")


def bench_env(*, data: Path | None, quick: bool, repeats: int) -> dict[str, Any]:
    """Measure; `quick` answers with the named ratios and the limits of a million titles alone.

    Args:
        data: A folder whose `items` take the place of the synthetic 11 thousand titles.
        quick: Fewer steps and rounds, no grid.
        repeats: Rounds of every comparison.
    """
    task = catalogue_task(NUM_TITLES) if data is None else items_task(data)
    million, limits = _million()
    steps = {"num_steps": 40, "peer_steps": 3} if quick else {"num_steps": 60, "peer_steps": 8}
    result: dict[str, Any] = {
        "ratios": named_ratios(task, million, num_envs=NUM_ENVS, repeats=repeats, **steps),
        "setting": {
            "catalogue": task.dataset.name,
            "titles": task.trie.num_titles,
            "tokens": task.trie.num_tokens,
            "num_envs": NUM_ENVS,
            "slate_size": 1,
            "ours_masks": "candidates() at every step (CSR)",
            "peer_masks": f"dense int8 [N, {WIDE}] in info",
            "clock": "process CPU time, one thread",
            "repeats": repeats,
            **steps,
        },
        "limits": limits | _mask_limit() | _row_memory(task),
        "machine": machine(),
    }
    if not quick:
        worlds = {"games": load_task(), task.dataset.name: task}
        worlds["synthetic-100000"] = catalogue_task(100_000)
        result["grid"] = list(_grid(worlds | {"synthetic-1000000": million}, repeats))
        result["libraries"] = _libraries(task)
    return result


def _million() -> tuple[Task, dict[str, float]]:
    """Return a task of a million titles, and what its trie costs."""
    task = catalogue_task(MILLION)
    tokens = task.title_tokens
    started = time.process_time()
    trie = Trie.from_sequences(tokens.indptr, tokens.tokens, tokens.num_tokens)
    seconds = time.process_time() - started
    return task, {
        "million_trie_build_s": seconds,
        "million_trie_nodes": trie.num_nodes,
        "trie_bytes_per_node": trie.nbytes / trie.num_nodes,
    }


def _mask_limit() -> dict[str, float]:
    """Return the steps per second of an environment that only cleared its dense masks."""
    mask = np.ones((NUM_ENVS, WIDE), np.int8)
    seconds = []
    for _ in range(5):
        started = time.process_time()
        mask.fill(0)
        seconds.append(time.process_time() - started)
    return {"dense_151936_memset_steps_per_s": NUM_ENVS / float(np.median(seconds))}


def _row_memory(task: Task) -> dict[str, float]:
    """Return the bytes that an environment holds for each row, less those of its observation."""
    tracemalloc.start()
    env = ReReVectorEnv(NUM_ENVS, task, slate_size=1, mask="lazy")
    env.reset(seed=SEED)
    few = tracemalloc.get_traced_memory()[0]
    more = ReReVectorEnv(3 * NUM_ENVS, task, slate_size=1, mask="lazy")
    observation, _ = more.reset(seed=SEED)
    grown = tracemalloc.get_traced_memory()[0] - few
    tracemalloc.stop()
    shown = sum(values.nbytes for values in observation.values())
    # The observation is held twice: as the state, and as the fresh copy that was returned.
    return {"row_bytes_beyond_observation": (grown - 2 * shown) / (3 * NUM_ENVS)}


def _grid(worlds: dict[str, Task], repeats: int) -> Iterator[dict[str, Any]]:
    """Yield our rates over catalogues, N, slate sizes, backends and masks."""
    from tqdm import tqdm

    cases = list(product(worlds, GRID_ENVS, (1, 16)))
    for world, num_envs, slate_size in tqdm(cases, desc="grid", unit="case"):
        steps = max(20, min(200, 60_000 // num_envs))
        drawn: Actions = draw_actions(worlds[world], num_envs, steps, slate_size=slate_size)
        for backend, masks in product(BACKENDS, GRID_MASKS):
            rates = step_rates(
                worlds[world],
                drawn,
                slate_size=slate_size,
                backend=backend,
                masks=masks,
                repeats=min(repeats, 3),
            )
            yield {
                "catalogue": world,
                "num_envs": num_envs,
                "slate_size": slate_size,
                "backend": backend,
                "masks": masks,
                "steps_per_s": rates.steps,
                "decisions_per_s": rates.decisions,
                "titles_per_s": rates.titles,
            }


def _libraries(task: Task, num_envs: int = 256, num_steps: int = 8) -> dict[str, Any]:
    """Return steps per second of the plain-Python environment under other libraries' vectors."""
    drawn = draw_actions(task, num_envs, num_steps)
    root = dict_trie(task)
    rates: dict[str, Any] = {"num_envs": num_envs}
    for name in ("sb3", "tianshou"):
        try:
            peer = import_module(f"agents.bench.env.peer_{name}")
        except ImportError as error:
            rates[name] = f"skipped: {error.name} is not installed"
            continue
        make = partial(DictTrieEnv, task, root, slate_size=1, mask=peer.MASK)
        step = peer.stepper(make, num_envs)
        started = time.process_time()
        for row in drawn.actions:
            step(row)
        seconds = time.process_time() - started
        rates[f"{name}_dummy_with_masks"] = num_steps * num_envs / seconds
    ours = ReReVectorEnv(num_envs, task, slate_size=1, mask="lazy")
    ours.reset(seed=SEED)
    replay(ours, drawn.actions, "csr")  # compiles
    ours.reset(seed=SEED)
    started = time.process_time()
    replay(ours, drawn.actions, "csr")
    rates["ours_with_csr"] = num_steps * num_envs / (time.process_time() - started)
    return rates


def markdown(result: dict[str, Any]) -> str:
    """Return the result as Markdown tables."""
    lines = ["| ratio | median | low | high |", "|---|---|---|---|"]
    lines += [
        f"| {name} | {r['median']:.2f} | {r['low']:.2f} | {r['high']:.2f} |"
        for name, r in result["ratios"].items()
    ]
    lines += ["", "| limit | value |", "|---|---|"]
    lines += [f"| {name} | {value:,.1f} |" for name, value in result["limits"].items()]
    if "grid" in result:
        lines += [
            "",
            "| catalogue | N | K | backend | masks | token steps/s | decisions/s | titles/s |",
            "|---|---|---|---|---|---|---|---|",
        ]
        lines += [
            f"| {g['catalogue']} | {g['num_envs']} | {g['slate_size']} | {g['backend']} "
            f"| {g['masks']} | {g['steps_per_s']:,.0f} | {g['decisions_per_s']:,.0f} "
            f"| {g['titles_per_s']:,.0f} |"
            for g in result["grid"]
        ]
    return "\n".join(lines) + "\n"


def write_env_report(result: dict[str, Any], folder: Path) -> None:
    """Write env.json, env.md and, of a full run, env.png."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result, indent=2, allow_nan=False) + "\n"
    (folder / "env.json").write_text(text, encoding="utf-8")
    (folder / "env.md").write_text(markdown(result), encoding="utf-8")
    if "grid" in result:
        _plot(result, folder / "env.png")


def _plot(result: dict[str, Any], path: Path) -> None:
    """Draw token steps per second by N, one line a catalogue and backend, masks as CSR."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    style: dict[str, Literal["-", "--"]] = {"numba": "-", "numpy": "--"}
    catalogues = list(dict.fromkeys(g["catalogue"] for g in result["grid"]))
    for (i, catalogue), backend in product(enumerate(catalogues), BACKENDS):
        rows = [
            g
            for g in result["grid"]
            if (g["catalogue"], g["backend"], g["masks"], g["slate_size"])
            == (catalogue, backend, "csr", 1)
        ]
        axes.loglog(
            [g["num_envs"] for g in rows],
            [g["steps_per_s"] for g in rows],
            style[backend],
            color=f"C{i}",
            marker="o",
            label=f"{catalogue}, {backend}",
        )
    axes.set_xlabel("environments")
    axes.set_ylabel("token steps per second of one core, legal actions included")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=120)
