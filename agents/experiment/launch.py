"""How a run was launched: several processes work by DistributedDataParallel, and by nothing else.

Knows the variables that `accelerate launch` and `torchrun` set; looks at them before anything is
written.
"""

import os
import sys
from pathlib import Path

import torch
from accelerate import Accelerator

from agents.runs.config import TrainConfig

__all__ = ["check_alone", "check_launch", "make_accelerator", "warn_of_missing_processes"]

SHARDED = {
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "a parallelism config",
}
"""What splits one model over processes, by the variable with which it is asked for."""


def check_launch() -> None:
    """Refuse what splits a model over processes.

    Raises:
        ValueError: It was asked for.
    """
    for variable, name in SHARDED.items():
        if (value := os.environ.get(variable, "")).lower() in {"true", "1", "yes", "on"}:
            raise ValueError(
                f"`{variable}` (={value}) asks for {name}, and every process needs the whole model "
                "here: searches, the reference and checkpoints read it. Use plain data-parallel "
                "processes: `torchrun --nproc_per_node N`, or `accelerate launch --multi_gpu` "
                f"without {name}; --peft lora needs the least memory."
            )


def check_alone(algorithm: str) -> None:
    """Refuse several processes for what trains in one.

    Raises:
        ValueError: There are several.
    """
    if (num_processes := int(os.environ.get("WORLD_SIZE", "1"))) > 1:
        raise ValueError(
            f"`algorithm` (={algorithm!r}) trains in one process, and `WORLD_SIZE` is "
            f"{num_processes}: each would train, and write, the same run; launch it without "
            "torchrun or accelerate."
        )


def warn_of_missing_processes(accelerator: Accelerator) -> None:
    """Say on stderr if `accelerate launch` was asked for several processes and started one.

    It starts one on the CPU unless mpirun is there to start more, and says nothing. Its simple
    launcher names an address to meet at (`MASTER_ADDR`) only where several were asked for, and
    `WORLD_SIZE` is what those that are really started get.
    """
    env = os.environ
    asked = "MASTER_ADDR" in env and "ACCELERATE_MIXED_PRECISION" in env
    if asked and "WORLD_SIZE" not in env and accelerator.num_processes == 1:
        print(
            "rere: `accelerate launch` was asked for several processes and started one, on which "
            "this run goes on; use `torchrun --standalone --nproc_per_node N -m agents.cli ...`.",
            file=sys.stderr,
        )


def make_accelerator(config: TrainConfig, project_dir: Path | None = None) -> Accelerator:
    """Return the engine for a device and precision.

    Raises:
        ValueError: `cuda` was asked for and there is none, processes that share one model, or
            processes that do not know of each other.
    """
    check_launch()
    if config.device == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            '`device` (="cuda") needs a CUDA device, and torch sees none; use --device cpu.'
        )
    started = int(os.environ.get("WORLD_SIZE", "1"))
    # Accelerate joins processes on the CPU only if it is told that the CPU is meant.
    is_cpu = config.device == "cpu" or (started > 1 and not torch.cuda.is_available())
    accelerator = Accelerator(
        cpu=is_cpu,
        mixed_precision="bf16" if config.precision == "bf16" else "no",
        log_with=None if project_dir is None else "tensorboard",
        project_dir=project_dir,
    )
    if accelerator.num_processes != started:
        raise ValueError(
            f"`WORLD_SIZE` is {started}, and {accelerator.num_processes} of these processes know "
            "of each other: each would train, and write, the same run; launch them by torchrun, "
            "or one without it."
        )
    return accelerator
