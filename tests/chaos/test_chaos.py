"""`make chaos`, in small: whatever happens to a run, it ends equal or in one line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")

REPOSITORY = Path(__file__).resolve().parents[2]


def chaos(*flags: str) -> subprocess.CompletedProcess[str]:
    """Run it in a process that may fork."""
    return subprocess.run(
        [sys.executable, "-m", "tests.chaos", *flags],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_one_case_of_each_kind() -> None:
    """The table counts them."""
    done = chaos("--kills", "1", "--renames", "1", "--damages", "1", "--disks", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    table = done.stdout.splitlines()[-4:]
    assert [int(row[24:31]) for row in table] == [1, 1, 1, 1]


@pytest.mark.slow
@pytest.mark.parametrize("seed", ["1", "2"])
def test_a_few_of_each_kind(seed: str) -> None:
    """As many as `make chaos` replays."""
    done = chaos("--seed", seed)
    assert done.returncode == 0, done.stdout + done.stderr
