"""What importing the packages costs and what it must not pull in."""

import json
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

import agents

HEAVY = ("torch", "transformers", "accelerate", "tyro", "numba", "polars", "matplotlib", "agents")


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `code` in a fresh process of this environment."""
    return subprocess.run(
        [sys.executable, "-P", "-c", code],  # -P: the current folder is not searched
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


def modules_after(statement: str) -> set[str]:
    """Top-level names in `sys.modules` of a fresh process after `statement`."""
    code = f"{statement}\nimport sys, json; print(json.dumps(sorted(sys.modules)))"
    process = run_python(code)
    assert process.returncode == 0, process.stderr
    return {name.partition(".")[0] for name in json.loads(process.stdout)}


def test_rere_env_is_light() -> None:
    """`import rere_env` imports neither torch nor agents nor anything of an extra."""
    assert modules_after("import rere_env").isdisjoint(HEAVY)


def test_making_the_built_in_environment_is_light() -> None:
    """`gym.make` and a step need no extra either."""
    statement = (
        "import gymnasium, rere_env; env = gymnasium.make('ReRe-Games-v0'); "
        "_, info = env.reset(seed=0); env.step(env.action_space.sample(info['action_mask']))"
    )
    assert modules_after(statement).isdisjoint(HEAVY)


def test_rere_env_imports_fast() -> None:
    """`import rere_env` adds at most 0.1 s to `import gymnasium` (median of 5 processes)."""
    code = (
        "import time; import gymnasium; start = time.perf_counter(); import rere_env; "
        "print(time.perf_counter() - start)"
    )
    run_python(code)  # writes the bytecode, which an installed package has
    added_s = [float(run_python(code).stdout) for _ in range(5)]
    assert statistics.median(added_s) <= 0.1, added_s


def test_agents_is_light() -> None:
    """`import agents` imports neither torch nor anything that brings it."""
    heavy = {"torch", "transformers", "accelerate", "tyro", "rere_env"}
    assert modules_after("import agents").isdisjoint(heavy)


def test_agents_has_the_names_of_its_face() -> None:
    """Each is loaded when it is asked for; another is none."""
    assert all(getattr(agents, name) is not None for name in agents.__all__)
    assert set(agents.__all__) <= set(dir(agents))
    with pytest.raises(AttributeError, match="no attribute 'trainer'"):
        agents.trainer  # noqa: B018


@pytest.mark.parametrize("arguments", ["--help", "train --help", "algorithms", "evaluate --help"])
def test_help_is_light(arguments: str) -> None:
    """What only prints loads no torch."""
    statement = f"""
import contextlib, io
from agents.cli import main
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    main({arguments.split()!r})
"""
    assert modules_after(statement).isdisjoint({"torch", "transformers", "accelerate"})


@pytest.mark.parametrize("arguments", ["--help", "algorithms"])
def test_help_is_fast(arguments: str) -> None:
    """It answers within 0.6 s of processor time (the best of five: other tests run beside it)."""
    spent_s = []
    for _ in range(5):
        before = os.times()
        subprocess.run(
            [sys.executable, "-m", "agents.cli", arguments], check=True, stdout=subprocess.DEVNULL
        )
        after = os.times()
        spent_s.append(after.children_user + after.children_system)
        spent_s[-1] -= before.children_user + before.children_system
    assert min(spent_s) <= 0.6, spent_s


def copy_of_agents(folder: Path) -> Path:
    """Copy our `agents/__init__.py` to an importable package under `folder`."""
    package = folder / "agents"
    package.mkdir()
    shutil.copy(str(agents.__file__), package)
    return package


def test_agents_accepts_its_own_files(tmp_path: Path) -> None:
    """A copy of the package imports from elsewhere."""
    copy_of_agents(tmp_path)
    process = run_python("import agents; print(agents.__file__)", PYTHONPATH=str(tmp_path))
    assert process.stdout.startswith(str(tmp_path)), process.stderr


def test_agents_names_the_clash_with_openai_agents(tmp_path: Path) -> None:
    """Files of openai-agents beside ours are an ImportError that names that package."""
    (copy_of_agents(tmp_path) / "guardrail.py").touch()
    process = run_python("import agents", PYTHONPATH=str(tmp_path))
    assert process.returncode != 0
    assert "ImportError: `agents` of rere-env" in process.stderr
    assert "openai-agents" in process.stderr
    assert "guardrail.py" in process.stderr
