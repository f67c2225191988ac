"""Timing two sides fairly: interleaved repeats, median and spread of the ratio."""

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from agents.reporting.provenance import package_versions

__all__ = ["interleave", "machine", "ratio"]


def interleave(
    sides: Mapping[str, Callable[[], object]],
    repeats: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Time each side `repeats` times, round by round; seconds of the clock by side."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, run in sides.items():
            started = clock()
            run()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            seconds[name].append(clock() - started)
    return seconds


def ratio(ours: list[float], theirs: list[float]) -> dict[str, float]:
    """Return how many times faster ours is: median, lowest and highest over the rounds."""
    ratios = sorted(t / o for o, t in zip(ours, theirs, strict=True))
    return {"median": statistics.median(ratios), "low": ratios[0], "high": ratios[-1]}


def machine() -> dict[str, Any]:
    """Say what the numbers were taken on."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "threads": torch.get_num_threads(),
        "versions": package_versions(),
    }


def _processor() -> str:
    """Return the model of the CPU, where the system tells."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
