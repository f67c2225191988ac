"""Functions of a test file run in several processes: `python conftest.py FILE FUNCTION FOLDER`."""

import importlib.util
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator

TIMEOUT_S = 120.0

Job = Callable[..., dict[str, Any]]
"""`(accelerator, **arguments) -> measures`: at the top of a test file, plain values and tensors."""


@pytest.fixture(scope="session")
def in_processes(tmp_path_factory) -> Callable[..., list[dict[str, Any]]]:
    """Run a job in processes that gloo joins, one thread each; return what each returned."""

    def run(job: Job, num_processes: int = 2, **arguments: Any) -> list[dict[str, Any]]:
        folder = tmp_path_factory.mktemp("processes")
        torch.save(arguments, folder / "arguments.pt")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        joined = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, __file__, job.__code__.co_filename, job.__name__, str(folder)]
        running = []
        for rank in range(num_processes):
            place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": num_processes}
            env = {**os.environ, **joined, **{name: str(value) for name, value in place.items()}}
            with (folder / f"{rank}.log").open("w") as log:
                running.append(subprocess.Popen(command, env=env, stdout=log, stderr=log))
        _wait(running)
        logs = [f"process {r}:\n" + (folder / f"{r}.log").read_text() for r in range(num_processes)]
        assert [process.returncode for process in running] == [0] * num_processes, "\n".join(logs)
        return [torch.load(folder / f"{rank}.pt") for rank in range(num_processes)]

    return run


def _wait(running: list[subprocess.Popen[bytes]]) -> None:
    """Wait until all have ended; one that fails, or the time, ends the others."""
    deadline = time.monotonic() + TIMEOUT_S
    while any(process.poll() is None for process in running):
        if time.monotonic() > deadline or any(process.returncode for process in running):
            for process in running:
                process.kill()
                process.wait()
        time.sleep(0.02)


def _child(file: str, function: str, folder: Path) -> None:
    torch.set_num_threads(1)
    accelerator = Accelerator(cpu=True)
    spec = importlib.util.spec_from_file_location("jobs", file)
    jobs = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(jobs)
    done = getattr(jobs, function)(accelerator, **torch.load(folder / "arguments.pt"))
    torch.save(done, folder / f"{accelerator.process_index}.pt")
    if torch.distributed.is_initialized():  # a job may have ended it
        torch.distributed.barrier()  # none leaves while another still speaks
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    _child(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
