"""`rere bench`: every part takes the flags that it reads, and no others."""

import json

import pytest

from agents.bench.engine import run as engine
from agents.bench.env import report as env
from agents.cli import main


@pytest.mark.parametrize(
    "arguments",
    [
        ["rollout", "--quick"],
        ["rollout", "--growth"],
        ["env", "--model", "scratch:nano"],
        ["env", "--half-b"],
        ["search", "--num-users", "3"],
        ["step", "--growth"],
    ],
)
def test_a_flag_of_another_part_is_refused(arguments, capsys):
    """It was taken, and ignored."""
    with pytest.raises(SystemExit) as stopped:
        main(["bench", *arguments])
    assert stopped.value.code == 2
    assert arguments[1] in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "asked"),
    [
        ([], {"quick": False, "rounds": None, "half_b": True}),
        (["--quick", "--repeats", "3"], {"quick": True, "rounds": 3, "half_b": True}),
        (["--no-half-b"], {"quick": False, "rounds": None, "half_b": False}),
    ],
)
@pytest.mark.parametrize("what", ["search", "update", "step"])
def test_the_engine_is_asked_for_what_the_flags_say(what, flags, asked, monkeypatch, capsys):
    """Growth where there is any."""
    seen = {}

    def bench_engine(part, **options):
        seen[part] = options
        return {}

    monkeypatch.setattr(engine, "bench_engine", bench_engine)
    assert main(["bench", what, *flags, "--json"]) == 0
    assert seen == {what: asked | {"data": None, "growth": what != "step"}}
    assert json.loads(capsys.readouterr().out).keys() == {"command"}


def test_the_environment_is_measured_in_five_rounds(monkeypatch, capsys, tmp_path):
    """Unless another number is asked for."""
    seen = []

    def bench_env(**options):
        seen.append(options)
        return {"ratios": {}, "limits": {}}

    monkeypatch.setattr(env, "bench_env", bench_env)
    assert main(["bench", "env", "--quick", "--json"]) == 0
    assert main(["bench", "env", "--repeats", "2", "--data", str(tmp_path), "--json"]) == 0
    assert seen == [
        {"data": None, "quick": True, "repeats": 5},
        {"data": tmp_path, "quick": False, "repeats": 2},
    ]


def test_no_rounds_are_an_error(capsys):
    """Nothing would be measured."""
    with pytest.raises(SystemExit) as stopped:
        main(["bench", "env", "--repeats", "0"])
    assert stopped.value.code == 2
    assert "`repeats` (=0) must be at least 1" in capsys.readouterr().err
