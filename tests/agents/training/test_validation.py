"""The validation rows of a training are the same wherever it runs."""

from dataclasses import replace

import numpy as np

from agents.algorithms import rere
from agents.baselines import Popularity
from agents.budget import Budget
from agents.training import budgeted
from agents.training.budgeted import PolicyAlgorithm
from agents.training.validation import SELECT_BY, validate, validation_rows
from rere_env.worlds import noisy_successor

TASK = noisy_successor().task


def test_the_rows_are_fixed_and_in_file_order():
    """Those that `rere train` has always drawn."""
    valid = TASK.split("valid")
    expected = np.sort(np.random.default_rng(0).choice(len(valid), 9, replace=False))
    assert validation_rows(TASK, 9).user.tolist() == valid.user[expected].tolist()


def test_the_measures_are_those_of_the_learning_curve():
    """The one that policies are chosen by among them."""
    rows = validation_rows(TASK, 30)
    measured = validate(Popularity(TASK, TASK.split("train")), TASK, rows)
    assert set(measured) == {"valid/ndcg@10", "valid/hit_rate@1", "valid/hit_rate@10"}
    assert SELECT_BY in measured


def test_a_budgeted_policy_is_chosen_by_the_same_rows(monkeypatch):
    """Once before training, and three times on the way."""
    seen = []

    def spy(recommender, task, examples):
        seen.append(examples.user.tolist())
        return {SELECT_BY: 0.0}

    monkeypatch.setattr(budgeted, "validate", spy)
    config = replace(rere(), group_size=3)
    algorithm = PolicyAlgorithm(config=config, prompts_per_step=4, valid_rows=9)
    algorithm.train(TASK, Budget(steps=3), seed=0)
    assert seen == [validation_rows(TASK, 9).user.tolist()] * 4


def test_untrained_weights_may_be_the_same_for_every_seed():
    """Or the seed's own."""
    algorithm = PolicyAlgorithm(config=replace(rere(), group_size=3), prompts_per_step=4)
    algorithm = replace(algorithm, learning_rate=1e-9)  # what is left of the start

    def start(seed, model_seed):
        done = replace(algorithm, model_seed=model_seed).train(TASK, Budget(steps=1), seed=seed)
        return next(iter(done.lm.parameters())).detach().numpy()

    np.testing.assert_allclose(start(1, 0), start(2, 0), atol=1e-6)
    assert np.abs(start(1, None) - start(2, None)).max() > 1e-3


def test_the_seed_of_a_training_reaches_its_prompts():
    """One start, two seeds, other weights."""
    algorithm = PolicyAlgorithm(
        config=replace(rere(), group_size=3), prompts_per_step=4, model_seed=0, learning_rate=1e-2
    )
    first, second = (
        next(iter(algorithm.train(TASK, Budget(steps=3), seed=seed).lm.parameters()))
        for seed in (1, 2)
    )
    assert np.abs((first - second).detach().numpy()).max() > 1e-4
