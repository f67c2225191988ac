"""Every example runs in its smoke form, as `make smoke` runs it."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).resolve().parents[1] / "examples").glob("*.py"))


@pytest.mark.slow
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs(example):
    """It ends well and prints something; an example that has not learnt says so and fails."""
    process = subprocess.run(
        [sys.executable, str(example), "--smoke"], capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stdout + process.stderr
    assert process.stdout


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_teaches_by_its_help(example):
    """`--help` begins with what the file says of itself."""
    process = subprocess.run(
        [sys.executable, str(example), "--help"], capture_output=True, text=True, check=True
    )
    first = example.read_text("utf-8").split('"""')[1].splitlines()[0]
    assert first in process.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["your_algorithm:MonteCarlo", "masked_ppo:MaskedPPO", "grouped_grpo:GRPO"]
)
def test_an_algorithm_of_an_example_keeps_the_rules(name):
    """It passes the conformance check under the name that `--algorithm` takes."""
    code = f"from agents.testing import check_algorithm; check_algorithm({name!r}, seconds=0.2)"
    process = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=EXAMPLES[0].parent,
    )
    assert process.returncode == 0, process.stderr
