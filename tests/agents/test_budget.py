"""Budgets: whichever limit comes first."""

import pytest

from agents.budget import Budget


class Clock:
    """A clock that is set by hand."""

    now = 100.0

    def __call__(self):
        """Seconds."""
        return self.now


def test_steps_and_seconds_share_one_budget():
    """The larger share counts, and paused time does not."""
    clock = Clock()
    meter = Budget(seconds=10, steps=100, clock=clock).start()
    assert meter.used(0) == 0
    clock.now += 4
    assert meter.used(10) == pytest.approx(0.4)
    assert meter.used(70) == pytest.approx(0.7)
    meter.without(3)
    assert meter.used(0) == pytest.approx(0.1)
    assert not meter.over(99)
    assert meter.over(100)
    clock.now += 9
    assert meter.over(0)


def test_training_must_end():
    """No limit, or one that is none, is refused."""
    with pytest.raises(ValueError, match="`seconds` or `steps`"):
        Budget()
    with pytest.raises(ValueError, match=r"`steps` \(=0\)"):
        Budget(steps=0)
