"""Algorithms by name: built in, registered, of another package, or anywhere at all."""

from dataclasses import dataclass

import numpy as np
import pytest

from agents import registry
from agents.budget import Budget
from agents.registry import algorithms, find_algorithm, register_algorithm
from agents.rere.config import ReReConfig
from agents.training.budgeted import as_algorithm

POLICIES = [name for name, info in algorithms().items() if info.kind == "policy"]


class Popular:
    """Recommends the first titles."""

    def train(self, task, budget, *, seed):
        """Learn nothing."""
        return self

    def recommend(self, examples, k):
        """The same for all."""
        return np.tile(np.arange(k), (len(examples), 1))


class Thing:
    """No algorithm."""


@dataclass
class Tuned(Popular):
    """Has an option."""

    depth: int = 1


def my_policy(kl_weight=0.5):
    """Train a language model in my way."""
    return ReReConfig(group_size=7)


@pytest.fixture
def clean(monkeypatch):
    """Forget what a test registers."""
    monkeypatch.setattr(registry, "_REGISTERED", {})


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_loads_and_says_where_it_is_from(name):
    """It makes choices, and its line in the list is not empty."""
    info = algorithms()[name]
    assert isinstance(info.load(), ReReConfig)
    assert info.summary
    assert len(info.summary) < 60


def test_policies_with_a_ratio_make_inner_steps():
    """With one step on a rollout all of them would be GRPO."""
    for name in ("grpo", "dapo", "gspo", "dr_grpo", "cispo"):
        assert find_algorithm(name).load().inner_steps == 2


def test_a_registered_class_is_found_and_trains(clean):
    """By its name, as whatever it was registered for."""
    register_algorithm("popular-one", summary="the first titles", paper="none")(Popular)
    info = find_algorithm("popular-one")
    assert (info.kind, info.summary, info.paper) == ("agent", "the first titles", "none")
    assert "popular-one" in algorithms()
    assert as_algorithm(info).train(None, Budget(steps=1), seed=0).recommend([0, 1], 2).shape == (
        2,
        2,
    )


def test_a_registered_function_makes_choices(clean):
    """A policy of one's own is trained like the built-in ones."""
    register_algorithm("mine", summary="my way")(my_policy)
    info = find_algorithm("mine")
    assert info.kind == "policy"
    assert as_algorithm(info).config.group_size == 7


def test_module_and_name_need_no_registration(clean):
    """The first line of the docstring is the summary."""
    info = find_algorithm(f"{__name__}:Popular")
    assert (info.kind, info.summary) == ("agent", "Recommends the first titles.")


def test_what_importing_registers_keeps_its_name(clean):
    """`module:name` of something registered is that."""
    register_algorithm("popular-two", summary="the first titles")(Popular)
    assert find_algorithm(f"{__name__}:Popular").name == "popular-two"


def test_options_reach_the_algorithm():
    """Those that it has; others are named with what there is."""
    info = find_algorithm(f"{__name__}:Tuned")
    assert info.load(depth=3).depth == 3
    with pytest.raises(ValueError, match=r"`width` .* is no option .* \['depth'\]"):
        info.load(width=3)


def test_other_packages_offer_theirs(monkeypatch):
    """Through the entry-point group."""

    class Point:
        name, value = "theirs", f"{__name__}:Popular"

        def load(self):
            return Popular

    monkeypatch.setattr(
        registry, "entry_points", lambda group: [Point()] * (group == registry.GROUP)
    )
    assert find_algorithm("theirs").load().recommend([0], 1).tolist() == [[0]]


def test_unknown_names_list_the_known():
    """And name the command that explains them."""
    with pytest.raises(ValueError, match=r"'rere'.*`rere algorithms`"):
        find_algorithm("nothing")


@pytest.mark.parametrize("name", ["Upper", "with space", "", "-x"])
def test_names_are_plain(name):
    """What a shell and a file name can bear."""
    with pytest.raises(ValueError, match="`name`"):
        register_algorithm(name, summary="")


def test_a_taken_name_is_refused(clean):
    """The message says by whom."""
    with pytest.raises(ValueError, match=r"by agents\.algorithms:rere"):
        register_algorithm("rere", summary="")(Popular)
    register_algorithm("again", summary="")(Popular)
    register_algorithm("again", summary="")(Popular)  # a reloaded module


def test_what_is_no_algorithm_is_refused():
    """Neither choices nor something that trains."""
    with pytest.raises(TypeError, match="makes a Thing"):
        find_algorithm(f"{__name__}:Thing").load()
    with pytest.raises(ValueError, match="nothing named 'Nobody'"):
        find_algorithm(f"{__name__}:Nobody")
