"""What a user sees is what was recorded before the modules moved into packages.

To record again, where a number has to change: `python -m tests.recorded.record --help`; say in the
commit which and why.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.recorded.record import (
    BUILT_IN,
    ENV_FORMS,
    REAL_DATA,
    RUNS,
    data_at,
    differences,
    env_digest,
    machine,
    record_run,
    stand_ins,
    trl_weights,
)

RECORDED = json.loads(Path(__file__).with_name("recorded.json").read_text(encoding="utf-8"))
SAME_MACHINE = machine() == RECORDED["machine"]

STAND_INS = ("ReRe-Toys-v0", "ReRe-Yelp-v0")
RERUN = (
    "default-0",
    *(name for name in RUNS if name.startswith(("shop_", "sb3", "tianshou", "trl"))),
)
REAL = [name for name, forms in RECORDED["environments"].items() if forms and "/" not in name]


@pytest.mark.parametrize("form", ENV_FORMS)
def test_the_built_in_environment_plays_as_recorded(form: str) -> None:
    """2,000 steps: observations, rewards, ends and infos, byte for byte."""
    assert env_digest(BUILT_IN, form) == RECORDED["environments"][BUILT_IN][form]


@pytest.mark.parametrize("form", ENV_FORMS)
@pytest.mark.parametrize("name", STAND_INS)
def test_environments_of_files_play_as_recorded(name: str, form: str) -> None:
    """On a small shop in the place of the data."""
    with stand_ins() as root, data_at(root):
        assert env_digest(name, form) == RECORDED["environments"][f"stand-in/{name}"][form]


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in REAL if name != BUILT_IN])
def test_environments_of_real_data_play_as_recorded(name: str, shared_data: Path) -> None:
    """Where the data are at hand."""
    with data_at(REAL_DATA):
        for form in ENV_FORMS:
            assert env_digest(name, form) == RECORDED["environments"][name][form]


def losses(curves: list[dict[str, Any]]) -> Iterator[tuple[str, float]]:
    """The measures of a learning curve that depend on the numbers of a model smoothly."""
    for line in curves:
        for name in ("loss/total", "loss/grad_norm"):
            if line["stage"] == "sft" and name in line:
                yield f"{name} of step {line['step']}", line[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", RERUN)
def test_a_smoke_run_is_as_recorded(name: str) -> None:
    """Bit for bit on the machine that recorded it; its first stage to a per mille elsewhere."""
    found, recorded = record_run(name), RECORDED["runs"][name]
    if SAME_MACHINE:
        assert list(differences(recorded, found)) == []
    assert found["weights"].keys() == recorded["weights"].keys()
    assert found["scores"]["recommenders"].keys() == recorded["scores"]["recommenders"].keys()
    assert dict(losses(found["curves"])) == pytest.approx(
        dict(losses(recorded["curves"])), rel=1e-3
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_trl_learns_the_recorded_weights() -> None:
    """A run keeps no weights of TRL's."""
    if not SAME_MACHINE:
        pytest.skip("recorded on another processor or with other versions: last bits differ")
    assert trl_weights() == RECORDED["trl_weights"]
