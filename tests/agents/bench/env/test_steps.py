"""`rere bench env` on small settings: every name is there, and unequal sides are refused."""

import numpy as np
import pytest

from agents.bench.env import steps as bench
from agents.bench.env.peers import DictTrieEnv
from agents.bench.env.report import markdown
from agents.bench.env.tasks import WIDE, catalogue_task, widened
from rere_env import ReReVectorEnv

NAMES = {
    "masked_151936_numpy",
    "masked_151936_numba",
    "ragged_151936_numpy",
    "ragged_151936_numba",
    "dense_151936_numpy",
    "dense_151936_numba",
    "unmasked_numpy",
    "unmasked_numba",
    "cartpole_numpy",
    "cartpole_numba",
    "million_titles",
    "million_titles_csr",
}


@pytest.fixture(scope="module")
def task():
    """Three hundred synthetic titles."""
    return catalogue_task(300)


def test_every_name_has_a_ratio_and_its_spread(task):
    """Equal results first, then the median between the lowest and the highest round."""
    ratios = bench.named_ratios(
        task, catalogue_task(400), num_envs=8, num_steps=12, peer_steps=6, repeats=2
    )
    assert set(ratios) == NAMES
    for ratio in ratios.values():
        assert 0 < ratio["low"] <= ratio["median"] <= ratio["high"]
    assert "| unmasked_numba |" in markdown({"ratios": ratios, "limits": {"a": 1.0}})


@pytest.mark.parametrize(
    ("mask", "wide"), [("dense", True), ("dense", False), ("ragged", True), ("none", False)]
)
def test_plain_python_plays_the_same_game(task, mask, wide):
    """Observations, rewards, ends and legal actions of 60 steps, ends of episodes among them."""
    world = widened(task) if wide else task
    drawn = bench.draw_actions(task, 5, 60).actions
    actions = world.title_tokens.local_model[drawn] if wide else drawn
    ours = ReReVectorEnv(
        5, world, slate_size=1, mask="lazy", token_ids="model" if wide else "local"
    )
    bench.assert_equal(ours, bench.sync_peer(world, 5, mask=mask, wide=wide), actions)


def test_unequal_sides_are_refused(task):
    """Nothing is timed that does not do the same."""
    ours = ReReVectorEnv(4, task, slate_size=1, mask="lazy")
    other = bench.sync_peer(catalogue_task(301), 4, mask="dense", wide=False)
    actions = bench.draw_actions(task, 4, 30).actions
    with pytest.raises(AssertionError):
        bench.assert_equal(ours, other, actions)


def test_unequal_lists_are_refused(task, monkeypatch):
    """A legal action less is not the same."""
    ours = ReReVectorEnv(4, task, slate_size=1, mask="lazy")
    other = bench.sync_peer(task, 4, mask="ragged", wide=False)
    legal = DictTrieEnv.legal
    monkeypatch.setattr(DictTrieEnv, "legal", lambda env: legal(env)[1:] or [0])
    with pytest.raises(AssertionError, match="lists differ"):
        bench.assert_equal(ours, other, bench.draw_actions(task, 4, 5).actions)


def test_forced_tokens_are_no_decisions(task):
    """Each title is closed once, and every rate follows from the steps."""
    drawn = bench.draw_actions(task, 16, 50)
    assert 0 < drawn.titles < drawn.decisions < 1
    rates = bench.step_rates(task, drawn, slate_size=1, backend="numpy", masks="csr", repeats=1)
    assert rates.decisions == pytest.approx(rates.steps * drawn.decisions)
    assert rates.titles == pytest.approx(rates.steps * drawn.titles)


def test_a_wide_vocabulary_is_the_same_catalogue(task):
    """The tokens are spread over the ids of a large model, EOS stays 0."""
    wide = widened(task)
    assert wide.tokenizer.vocab_size == WIDE
    assert wide.title_tokens.local_model[0] == 0
    assert (np.diff(wide.title_tokens.local_model) > 0).all()
