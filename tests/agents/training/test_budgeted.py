"""A policy trained within a budget: what ends it, what is kept, what repeats."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from agents.algorithms import rere, rloo
from agents.budget import Budget
from agents.policy import load_backbone
from agents.testing import check_algorithm
from agents.training.budgeted import PolicyAlgorithm, train_policy
from rere_env.testing import check_recommender
from rere_env.worlds import copy_last, successor

WORLD = copy_last()


def fresh(seed=0):
    """An untrained policy and its task."""
    backbone = load_backbone("scratch:nano", WORLD.task.catalogue.titles, seed=seed)
    return backbone, backbone.task(WORLD.task.dataset)


def trained(budget, *, algorithm=rere, seed=0, **options):
    """Train a little; return policy and recommender."""
    backbone, task = fresh()
    config = replace(algorithm(), group_size=4)
    done = train_policy(
        task, backbone, config, budget, seed=seed, learning_rate=1e-3, prompts_per_step=4, **options
    )
    return done.lm, done


def weights(lm):
    """All weights in one row."""
    return torch.cat([parameter.detach().flatten() for parameter in lm.parameters()])


class Clock:
    """A clock that goes on by a second whenever it is looked at."""

    now = 0.0

    def __call__(self):
        """Seconds."""
        self.now += 1.0
        return self.now


def test_the_same_seed_learns_the_same():
    """Samplers included; another seed learns something else."""
    a, b, c = (weights(trained(Budget(steps=3), algorithm=rloo, seed=s)[0]) for s in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_seconds_end_it_too():
    """By the budget's own clock."""
    clock = Clock()
    trained(Budget(seconds=20, clock=clock))
    assert 20 <= clock.now <= 30


def test_the_best_policy_is_returned():
    """Where every validation is worse than the first, nothing has been learnt."""
    values = iter([0.5, 0.4, 0.3, 0.2])
    kept, _ = trained(Budget(steps=6), validate=lambda _: next(values))
    backbone, _ = fresh()
    assert torch.equal(weights(kept), torch.cat([p.flatten() for p in backbone.model.parameters()]))
    assert next(values, None) is None  # one before, three on the way
    last, _ = trained(Budget(steps=6))
    assert not torch.equal(weights(kept), weights(last))


def test_validation_costs_no_budget():
    """Three validations of a thousand seconds leave the steps as they are."""
    steps = []
    for slow in (0.0, 1000.0):
        clock = Clock()
        seen = []

        def validate(policy, clock=clock, slow=slow, seen=seen):
            clock.now += slow
            seen.append(weights(policy.lm))
            return float(len(seen))

        lm, _ = trained(Budget(seconds=40, clock=clock), validate=validate)
        steps.append(weights(lm))
    torch.testing.assert_close(steps[0], steps[1], atol=1e-3, rtol=0)


def test_its_recommender_keeps_the_rules():
    """Asked about the task it was trained for."""
    _, done = trained(Budget(steps=2))
    check_recommender(done, WORLD.task, k=5)


@pytest.mark.slow
def test_choices_pass_the_conformance_checks():
    """A config, an algorithm's name, and an algorithm of one's own making."""
    config = replace(rere(), group_size=4)
    small = PolicyAlgorithm(config=config, prompts_per_step=4)
    check_algorithm(small, budget=Budget(steps=4), slates_per_step=4)
    check_algorithm(config, budget=Budget(steps=2), slates_per_step=32)


def test_a_policy_algorithm_has_a_task_of_its_own():
    """It hides what the given task hides."""
    task = successor().task.with_exclude("history")
    algorithm = PolicyAlgorithm(config=replace(rere(), group_size=3), prompts_per_step=4)
    done = algorithm.train(task, Budget(steps=1), seed=0)
    rows = task.split("test").take(np.arange(5))
    titles = done.recommend(rows, 5)
    assert not task.hidden(rows).marks(titles, task.catalogue.num_titles).any()


def test_where_every_target_is_hidden_nothing_can_be_learnt():
    """Users who want what they had last, and are never shown it."""
    algorithm = PolicyAlgorithm(config=replace(rere(), group_size=3))
    with pytest.raises(ValueError, match="hides every target"):
        algorithm.train(WORLD.task.with_exclude("history"), Budget(steps=1), seed=0)


def test_a_budget_is_spent_by_one_process():
    """Seconds would end on each of several at another step."""
    two = SimpleNamespace(num_processes=2)
    with pytest.raises(ValueError, match="a budget is spent by one process, and there are 2"):
        trained(Budget(steps=1), accelerator=two)
