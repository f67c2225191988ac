"""What a run was asked for."""

from dataclasses import fields

import pytest

from agents.runs.config import READ_BY, TrainConfig


@pytest.mark.parametrize("flag", fields(TrainConfig), ids=lambda flag: flag.name)
def test_every_flag_says_who_reads_it(flag):
    """Else the other kind of algorithm would ignore it in silence."""
    assert flag.metadata.get(READ_BY) in ("policy", "agent", "both")


def test_what_is_ignored_is_what_was_given_and_is_the_others():
    """Neither defaults nor what both read."""
    config = TrainConfig(seed=3, max_refills=0, train_steps=5, model="scratch:tiny")
    assert config.ignored_by("agent") == {"max_refills": 0}
    assert config.ignored_by("policy") == {"train_steps": 5}
