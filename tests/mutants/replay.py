"""Replay known mistakes, one at a time, in a copy of the tree: each must turn a test red.

    make mutants
    python -m tests.mutants.replay --only trains_on_test

Not part of `make test`: it proves the tests, which takes minutes. The tree itself is never written.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Mutant", "main", "mutated", "replay"]

REPOSITORY = Path(__file__).resolve().parents[2]
COPIED = ("rere_env", "agents", "tests", "examples", "pyproject.toml")

PASSED, FAILED = 0, 1
"""Exit statuses of pytest; any other says that no test was run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One mistake.

    Attributes:
        name: What goes wrong.
        file: Where, from the root.
        old: What stands there, once.
        new: What the mistake makes of it.
        test: The test that must fail, as pytest names it.
    """

    name: str
    file: str
    old: str
    new: str
    test: str


def mutated(mutant: Mutant, text: str) -> str:
    """Return a file's text with the mistake in it.

    Raises:
        ValueError: The place is not found, or is not the only one.
    """
    if (count := text.count(mutant.old)) != 1:
        raise ValueError(
            f"the mutant {mutant.name!r} must find its `old` text once in {mutant.file}, and finds "
            f"it {count} times; bring tests/mutants/table.py up to date: {mutant.old!r}"
        )
    return text.replace(mutant.old, mutant.new)


def replay(mutant: Mutant, root: Path) -> bool:
    """Say whether the mutant's test fails in a copy of the tree, which is put right again.

    Args:
        mutant: What to break.
        root: Of the copy.

    Raises:
        ValueError: The mutant does not fit the tree.
        RuntimeError: Its test could not be run.
    """
    file = root / mutant.file
    right = file.read_text(encoding="utf-8")
    file.write_text(mutated(mutant, right), encoding="utf-8")
    try:
        status, output = _pytest(mutant.test, root)
    finally:
        file.write_text(right, encoding="utf-8")
    if status not in (PASSED, FAILED):
        raise RuntimeError(f"the test of {mutant.name!r}, {mutant.test}, did not run:\n{output}")
    return status == FAILED


def _pytest(test: str, root: Path) -> tuple[int, str]:
    flags = ["-q", "-x", "-p", "no:cacheprovider", "--no-header", "-n", "0"]
    done = subprocess.run(
        [sys.executable, "-B", "-m", "pytest", *flags, test],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout[-2_000:]


def main(arguments: Sequence[str] | None = None) -> int:
    """Replay the table; 1 if a mutant survived or does not fit any more."""
    from tests.mutants.table import MUTANTS

    parser = argparse.ArgumentParser(prog="python -m tests.mutants.replay", description=__doc__)
    parser.add_argument("--only", nargs="*", choices=[mutant.name for mutant in MUTANTS])
    only = parser.parse_args(arguments).only
    good = True
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name in COPIED:
            _copy(REPOSITORY / name, root / name)
        for mutant in MUTANTS:
            if only and mutant.name not in only:
                continue
            try:
                word = "killed" if replay(mutant, root) else "SURVIVED"
            except (ValueError, RuntimeError) as error:
                word = f"REFUSED: {error}"
            good &= word == "killed"
            print(f"{mutant.name:44} {word}", flush=True)
    return 0 if good else 1


def _copy(source: Path, destination: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, destination, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, destination)


if __name__ == "__main__":
    sys.exit(main())
