"""The policy as a value: what it is made of, and how it is evaluated."""

import numpy as np
import pytest

from agents.policy import Policy
from rere_env.prompts import Prompts


@pytest.fixture
def policy(animal_task, lm_of):
    """A random model in the world of animals."""
    return Policy.of(lm_of("qwen2", animal_task.tokenizer.vocab_size), animal_task)


def test_a_policy_knows_the_catalogue_on_both_sides(animal_task, policy):
    """In NumPy and on the device of its model."""
    assert policy.trie.host is animal_task.trie
    assert policy.trie.title_tokens is animal_task.title_tokens
    assert policy.trie.lo.device == policy.lm.device
    assert policy.support == "catalogue"


def test_another_support_is_the_same_model(policy):
    """Nothing is copied."""
    other = policy.under("vocabulary")
    assert (other.support, policy.support) == ("vocabulary", "catalogue")
    assert other.lm is policy.lm
    assert other.trie is policy.trie


def test_a_plan_is_made_for_its_support(policy):
    """Under the vocabulary all tokens of a title are kept, else those that decide."""
    prompts, titles = Prompts([[1, 2]]), np.array([[0, 1]])
    kept = policy.plan(prompts, titles).mask.sum()
    assert 0 < kept < policy.under("vocabulary").plan(prompts, titles).mask.sum()


@pytest.mark.parametrize("training", [True, False])
def test_evaluating_restores_the_mode(policy, training):
    """Also after an error, and for a trainer that knows the model alone."""
    policy.lm.model.train(training)  # not the wrapper

    def fails():
        with policy.evaluating() as lm:
            assert not lm.model.training
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert policy.lm.model.training == training
