"""The compiled moves equal NumPy's, and are chosen as asked."""

import subprocess
import sys

import numpy as np
import pytest

from rere_env import ReReVectorEnv
from rere_env.dynamics import moves
from rere_env.dynamics.moves import NumpyMoves, find_moves

OPTIONS = [
    {},
    {"slate_size": 1},
    {"slate_size": 8},
    {"slate_size": 2, "exclude": "history"},
    {"slate_size": 3, "exclude": ["i0", "i4"]},
    {"on_illegal": "noop", "max_tokens": 9},
    {"token_ids": "model", "reward": "hit"},
]


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_compiled_moves_equal_numpys(tiny_task, mode, options):
    """Observations, rewards, flags, masks and legal tokens of 200 steps, legal and not."""
    options = {"slate_size": 3, "autoreset_mode": mode, **options}
    envs = [
        ReReVectorEnv(7, tiny_task, backend=backend, **options) for backend in ("numpy", "numba")
    ]
    assert type(envs[0].surface.dynamics.moves) is not type(envs[1].surface.dynamics.moves)
    rng = np.random.default_rng(0)
    steps = [env.reset(seed=3) for env in envs]
    for _ in range(200):
        for name in steps[0][0]:
            np.testing.assert_array_equal(steps[0][0][name], steps[1][0][name])
        np.testing.assert_array_equal(steps[0][-1]["action_mask"], steps[1][-1]["action_mask"])
        for ours, theirs in zip(steps[0][1:-1], steps[1][1:-1], strict=True):
            np.testing.assert_array_equal(ours, theirs)
        legal = [env.candidates() for env in envs]
        for ours, theirs in zip(*legal, strict=True):
            np.testing.assert_array_equal(ours, theirs)
        random = rng.integers(-2, envs[0].single_action_space.n + 2, size=7)
        actions = np.where(rng.random(7) < 0.85, legal[0].sample(rng), random)
        steps = [env.step(actions) for env in envs]


def test_auto_compiles_only_where_it_is_worth_it():
    """Few rows stay with NumPy: compiling takes longer than they will ever step."""
    assert find_moves("auto", 1) is NumpyMoves
    assert find_moves("auto", moves.AUTO_ROWS).__name__ == "NumbaMoves"
    assert find_moves("numba", 1).__name__ == "NumbaMoves"


def test_numba_that_is_not_there_is_an_error_only_if_asked_for(monkeypatch):
    """The message names the extra."""
    monkeypatch.setattr(moves, "find_spec", lambda name: None)
    assert find_moves("auto", 4096) is NumpyMoves
    with pytest.raises(ImportError, match=r"rere-env\[fast\]"):
        find_moves("numba", 4096)


def test_an_unknown_backend_is_refused():
    """The message lists those there are."""
    with pytest.raises(ValueError, match=r"`backend` \(='cython'\) must be one of \('auto'"):
        find_moves("cython", 1)


def test_a_single_environment_loads_no_numba():
    """Making and stepping one costs no compiler."""
    code = (
        "import sys, gymnasium as gym, rere_env\n"
        "env = gym.make('ReRe-Games-v0'); env.reset(seed=0); env.step(1)\n"
        "assert 'numba' not in sys.modules"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
