"""`rere bench search | update | step`: from a command's options to one result.

Small model first, then the shape of Qwen2-0.5B, then how cost grows. Everything runs on one thread
of the CPU.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

from agents.bench.clock import one_thread, provenance
from agents.bench.engine.growth import search_growth, update_growth
from agents.bench.engine.models import make_model
from agents.bench.engine.search import measure_search
from agents.bench.engine.step import measure_step
from agents.bench.engine.update import measure_update
from agents.bench.engine.workload import (
    Measured,
    Setting,
    Workload,
    describe,
    make_task,
    make_workload,
)

__all__ = ["FULL", "HALF_B", "QUICK", "Subject", "bench_engine"]

Subject = Literal["search", "update", "step"]

MEASURES: dict[Subject, Callable[[Workload, Setting], Measured]] = {
    "search": measure_search,
    "update": measure_update,
    "step": measure_step,
}
GROWTH: dict[Subject, Callable[[], Any]] = {"search": search_growth, "update": update_growth}
NEEDED_GIB: dict[Subject, int] = {"search": 8, "update": 20, "step": 14}
"""Free memory that a subject needs in the shape of Qwen2-0.5B."""

FULL = Setting()
QUICK: dict[Subject, Setting] = {
    "search": Setting(rounds=2, times=2),
    "update": Setting(num_users=4, rounds=2, times=2, num_checked=(1, 16), num_weighed=2),
    "step": Setting(num_users=4, rounds=2, times=2, num_checked=(1, 16)),
}
HALF_B = Setting(
    shape="half_b",
    num_users=4,
    num_users_wide=1,
    rounds=1,
    times=1,
    rows_per_pass=4,
    num_checked=(1, 4),
    num_weighed=1,
)


def bench_engine(
    what: Subject,
    *,
    quick: bool = False,
    rounds: int | None = None,
    data: Path | None = None,
    half_b: bool = True,
    growth: bool = True,
) -> dict[str, Any]:
    """Measure; return what `--json` prints.

    Args:
        what: The subject.
        quick: The small model only, fewer users and rounds, no growth: under two minutes.
        rounds: Of the races on the small model; None: 5, or 2 where it is quick.
        data: A folder with an `items` file; None: the synthetic catalogue.
        half_b: Also measure in the shape of Qwen2-0.5B.
        growth: Also measure how cost grows.
    """
    started, cpu_started = time.perf_counter(), time.process_time()
    small = QUICK[what] if quick else FULL
    settings = [small if rounds is None else replace(small, rounds=rounds)]
    left_out = {}
    if half_b and not quick:
        free = _free_gib()
        if free is None or free >= NEEDED_GIB[what]:
            settings.append(HALF_B)
        else:
            left_out["half_b"] = f"needs {NEEDED_GIB[what]} GiB of free memory; {free:.0f} are free"
    result: dict[str, Any] = {
        "what": what,
        "ratios": {},
        "wall_ratios": {},
        "beside": {},
        "facts": {},
        "seconds": {},
        "settings": {},
    }
    with one_thread():
        for setting in settings:
            _add(result, setting, *_measure(what, setting, data))
        if growth and not quick and what in GROWTH:
            result["growth"] = GROWTH[what]()
    total = {
        "cpu_s": time.process_time() - cpu_started,
        "wall_s": time.perf_counter() - started,
    }
    return result | {"left_out": left_out, "total": total} | provenance()


def _measure(
    what: Subject, setting: Setting, data: Path | None
) -> tuple[Measured, dict[str, int | float | str]]:
    task = make_task(data, shape=setting.shape)
    model = make_model(setting.shape, task.tokenizer.eos_id)
    length = setting.prompt_length if what == "search" else setting.prompt_length_update
    workload = make_workload(task, model, setting.num_users, length)
    figures = describe(task) | {"parameters": sum(p.numel() for p in model.parameters())}
    return MEASURES[what](workload, setting), figures


def _add(
    result: dict[str, Any],
    setting: Setting,
    measured: Measured,
    figures: dict[str, int | float | str],
) -> None:
    """Write down what one model has shown; names end with the setting's suffix."""
    for part in ("ratios", "wall_ratios", "beside", "facts", "seconds"):
        named = getattr(measured, part)
        result[part] |= {f"{name}{setting.suffix}": value for name, value in named.items()}
    result["settings"][setting.shape] = asdict(setting) | {"workload": figures}


def _free_gib() -> float | None:
    """Return the memory that is free for use; None where the system does not tell."""
    info = Path("/proc/meminfo")
    if not info.is_file():
        return None
    for line in info.read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) / 2**20
    return None
