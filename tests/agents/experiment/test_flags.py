"""From flags to choices."""

from dataclasses import fields, replace

import pytest

from agents.advantages import ADVANTAGES, leave_one_out
from agents.algorithms import gspo, rere
from agents.experiment.flags import CHOICES, NOT_FLAGS, check_flags, choose
from agents.rere.config import ReReConfig
from agents.runs.config import TrainConfig
from agents.search import radix_search


def test_without_flags_it_is_the_algorithm():
    """Group size and support are the run's."""
    chosen = choose(TrainConfig(algorithm="gspo"), 8)
    assert (chosen.group_size, chosen.inner_steps) == (8, gspo().inner_steps)
    assert chosen.sampler is gspo().sampler
    assert chosen.advantage is gspo().advantage
    assert chosen.reference_sync_steps == rere().reference_sync_steps


def test_flags_replace_choices():
    """Each on its own."""
    config = TrainConfig(
        algorithm="rere",
        sampler="radix",
        advantage="leave_one_out",
        inner_steps=3,
        max_refills=2,
        repair_weight=0.1,
        kl_groups="all",
    )
    chosen = choose(config, 4)
    assert chosen.sampler is radix_search
    assert chosen.advantage is leave_one_out
    assert (chosen.inner_steps, chosen.max_refills) == (3, 2)
    assert (chosen.repair_weight, chosen.kl_groups) == (0.1, "all")


def test_zero_is_a_choice():
    """It is not mistaken for a flag that was not given."""
    assert choose(TrainConfig(algorithm="dapo", max_refills=0), 4).max_refills == 0


def eager():
    """Return choices that ask for the default's number of steps in words."""
    return ReReConfig(reference_sync_steps=512)


def test_an_adapter_changes_no_choice():
    """What asks for 512 under LoRA gets the agent's error, what asks for nothing is `auto`."""
    assert choose(TrainConfig(peft="lora"), 4).reference_sync_steps == "auto"
    asks = f"{__name__}:eager"
    assert choose(TrainConfig(peft="lora", algorithm=asks), 4).reference_sync_steps == 512


def test_a_kl_where_there_is_none_is_refused():
    """DPO's reference has another weight."""
    assert choose(TrainConfig(algorithm="rere", kl_weight=0.0), 4)
    with pytest.raises(ValueError, match=r"`kl_weight` .* is no option of 'dpo'"):
        choose(TrainConfig(algorithm="dpo", kl_weight=0.1), 4)


def test_agents_have_no_such_choices():
    """They train no language model."""
    config = TrainConfig(algorithm="examples.your_algorithm:MonteCarlo")
    with pytest.raises(ValueError, match="trains no language model"):
        choose(config, 4)


def test_every_name_has_a_function():
    """The names of the flags are those of the tables."""
    from typing import get_args

    from agents.types import AdvantageName

    assert set(ADVANTAGES) == set(get_args(AdvantageName))


def test_every_choice_is_a_flag_or_said_not_to_be():
    """A new one that is neither is ignored by `rere train` without anybody having decided so."""
    assert {choice.name for choice in fields(ReReConfig)} == {*CHOICES, *NOT_FLAGS}
    assert not set(CHOICES) & set(NOT_FLAGS)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("model", "scratch:nano"), ("precision", "bf16"), ("support", "vocabulary")],
        *[("max_tokens", 1), ("gradient_checkpointing", True), ("peft", "lora")],
        *[("lora_rank", 1), ("lora_alpha", 1), ("on_long_prompt", "truncate"), ("kl_weight", 0.0)],
    ],
)
def test_flags_of_language_models_are_refused_for_agents(name, value):
    """Where they say something else than the default, zero included."""
    config = TrainConfig(algorithm="sb3_ppo")
    check_flags(config, "agent")
    check_flags(replace(config, **{name: value}), "policy")
    with pytest.raises(ValueError, match=rf"`{name}` \(={value!r}\) is about language models"):
        check_flags(replace(config, **{name: value}), "agent")


@pytest.mark.parametrize("name", ["train_seconds", "train_steps"])
def test_flags_of_agents_are_refused_for_language_models(name):
    """A language model is limited by its steps."""
    config = TrainConfig(**{name: 3})
    check_flags(config, "agent")
    with pytest.raises(ValueError, match=rf"`{name}` \(=3\) limits agents; .* use --rl-steps"):
        check_flags(config, "policy")
