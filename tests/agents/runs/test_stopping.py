"""Signals wait for the end of a step; the second one does not."""

import os
import signal
import subprocess
import sys

import pytest

from agents.runs.stopping import Stopped, Stopping, parse_duration

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.mark.parametrize("signum", SIGNALS)
def test_a_signal_ends_what_does_not_wait(signum):
    """The exit status is the shell's."""
    with Stopping(), pytest.raises(Stopped) as stopped:
        os.kill(os.getpid(), signum)
    assert stopped.value.status == 128 + signum
    assert stopped.value.line() == f"stopped by {signal.Signals(signum).name}"


@pytest.mark.parametrize("signum", SIGNALS)
def test_a_signal_waits_where_it_is_told(signum):
    """Who waits looks for it; if he does not, it ends what comes after."""
    heard = []

    def step(stopping):
        with stopping.waits():
            os.kill(os.getpid(), signum)
            heard.append(stopping.signum)

    with Stopping() as stopping, pytest.raises(Stopped):
        step(stopping)
    assert heard == [signum]


def test_handlers_are_put_back():
    """Those of whoever calls."""
    before = signal.getsignal(signal.SIGTERM)
    with Stopping():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_signal_that_is_ignored_stays_ignored():
    """As under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Stopping() as stopping:
            os.kill(os.getpid(), signal.SIGHUP)
            assert stopping.signum == 0
    finally:
        signal.signal(signal.SIGHUP, before)


TWICE = """
import os, signal
from agents.runs.stopping import Stopping
with Stopping() as stopping, stopping.waits():
    os.kill(os.getpid(), signal.SIGTERM)
    print("waits", flush=True)
    os.kill(os.getpid(), signal.SIGTERM)
    print("never", flush=True)
"""


def test_the_second_signal_ends_at_once():
    """As if nobody had caught it."""
    done = subprocess.run(
        [sys.executable, "-c", TWICE], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, "waits\n")


@pytest.mark.parametrize(("text", "seconds"), [("30s", 30), ("5m", 300), ("0.5h", 1800)])
def test_durations_have_units(text, seconds):
    """Seconds, minutes, hours."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "m", "-1s", "0m", "5 minutes", "nan s"])
def test_other_durations_are_refused(text):
    """Rule, value, remedy."""
    with pytest.raises(ValueError, match=r"`save_every` .* must be .*; write 30s, 5m or 1h"):
        parse_duration(text)
