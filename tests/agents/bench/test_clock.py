"""Timing: what is put aside, what a ratio is, and memory at its worst moment."""

import time

import pytest
import torch

from agents.bench.clock import Aside, Lap, Race, Side, one_thread, provenance, race
from agents.bench.engine.peak import peak_bytes


def burn(seconds: float) -> None:
    """Keep the processor busy."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_what_is_done_aside_is_taken_off():
    """A side that spends 60 ms for the benchmark and 20 ms for itself has used 20 ms."""
    aside = Aside()

    def run() -> None:
        burn(0.02)
        with aside:
            burn(0.06)

    side = Side(run=run, users=1, warm=False)
    done = race({"side": side}, 1, aside=aside, check=lambda _: None, label="")
    [[lap]] = done.laps["side"]
    assert lap.cpu_s == pytest.approx(0.02, abs=0.015)
    assert lap.aside_s == pytest.approx(0.06, abs=0.015)


def test_every_side_runs_as_often_as_it_should():
    """Twice a round for one, in the first round alone for another, once before the race."""
    counts = {"often": 0, "once": 0}

    def count(name: str) -> None:
        counts[name] += 1

    sides = {
        "often": Side(run=lambda: count("often"), users=1, times=2),
        "once": Side(run=lambda: count("once"), users=1, max_rounds=1, warm=False),
    }
    done = race(sides, 3, aside=Aside(), check=lambda _: None, label="")
    assert counts == {"often": 1 + 6, "once": 1}
    assert [len(laps) for laps in done.laps["often"]] == [2, 2, 2]
    assert len(done.laps["once"]) == 1


def test_results_of_the_first_round_are_checked_before_the_second():
    """Sides that differ are not timed on."""
    runs = []

    def check(results: dict[str, int]) -> None:
        assert results == {"side": 1}
        raise AssertionError("they differ")

    def run() -> int:
        runs.append(None)
        return len(runs)

    side = Side(run=run, users=1, warm=False)
    with pytest.raises(AssertionError, match="they differ"):
        race({"side": side}, 5, aside=Aside(), check=check, label="")
    assert len(runs) == 1


def laps(*cpu_s: float) -> list[Lap]:
    """Runs of these CPU seconds, twice as long by the clock on the wall."""
    return [Lap(cpu_s=cpu, wall_s=2 * cpu * cpu, aside_s=0.0) for cpu in cpu_s]


def test_a_ratio_is_taken_per_user_and_round_by_round():
    """Medians within a round, then the median and the extremes over the rounds that both ran."""
    done = Race(
        laps={"slow": [laps(8.0), laps(12.0)], "fast": [laps(1, 2, 9), laps(1, 1, 1), laps(5)]},
        users={"slow": 4, "fast": 2},
    )
    assert done.ratio("slow", "fast") == {"median": 4.0, "low": 2.0, "high": 6.0}
    assert done.ratio("slow", "fast", wall=True)["low"] == 8.0
    assert done.as_dict()["fast"]["cpu_s"] == [1, 2, 9, 1, 1, 1, 5]


def test_threads_are_given_back():
    """One thread inside, as many as before outside."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    with one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)


def test_provenance_names_machine_versions_and_commit():
    """What a number was taken on."""
    found = provenance()
    assert found["machine"]["processor"]
    assert found["versions"]["torch"] == torch.__version__
    assert "git_commit" in found


def test_the_peak_is_what_is_held_at_one_moment():
    """Two tensors of 4 MB at once, then one after the other."""

    def both() -> None:
        a = torch.zeros(1_000_000)
        b = torch.zeros(1_000_000)
        del a, b

    def one_by_one() -> None:
        for _ in range(3):
            torch.zeros(1_000_000)

    assert peak_bytes(both) == 8_000_000
    assert peak_bytes(one_by_one) == 4_000_000


def test_the_peak_counts_what_the_backward_pass_holds():
    """At least the output of a layer and its gradient, at most those of its square too."""
    weight = torch.ones(100, 100, requires_grad=True)
    rows = torch.ones(1000, 100)
    weight.grad = torch.zeros_like(weight)
    peak = peak_bytes(lambda: (rows @ weight).square().sum().backward())
    assert 2 * 400_000 <= peak <= 4 * 400_000 + 100
