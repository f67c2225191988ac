"""Rewards written as text."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.rewards.names import MADE, make_reward, parse_reward
from rere_env import Batch
from rere_env.rewards import REWARDS, pay

BATCH = Batch(
    user=np.array([0]),
    history=np.zeros((1, 1), np.int32),
    target=np.array([0]),
    target_title=np.array([0]),
)
EMBEDDINGS = np.array([[1.0, 0.0], [0.6, 0.8]])
SCORES = np.log([[1.0, 3.0]])
NAMES = [*REWARDS, *MADE]


def make(text: str):
    """The reward of a text over two titles."""
    return make_reward(text, lambda: EMBEDDINGS, lambda: lambda _: SCORES)


def never() -> None:
    """A part that must not be asked for."""
    raise AssertionError("made what no term needs")


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("rere", [(1.0, "rere")]),
        ("rere+semantic", [(1.0, "rere"), (1.0, "semantic")]),
        ("hit+0.5*semantic", [(1.0, "hit"), (0.5, "semantic")]),
        (" 2 * hit - .25*rank ", [(2.0, "hit"), (-0.25, "rank")]),
        ("-hit", [(-1.0, "hit")]),
        ("1e-3*collaborative", [(0.001, "collaborative")]),
    ],
)
def test_a_sum_is_read(text, terms):
    """Weights are optional, signs and spaces are allowed."""
    assert parse_reward(text) == terms


@given(
    st.lists(
        st.tuples(st.floats(-1e6, 1e6, allow_nan=False), st.sampled_from(NAMES)),
        min_size=1,
        max_size=5,
    )
)
def test_what_is_written_is_read(terms):
    """Any sum, written with Python's numbers, comes back as it was."""
    text = " + ".join(f"{weight!r}*{name}" for weight, name in terms).replace("+ -", "- ")
    assert parse_reward(text) == terms


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ndcg", r"'ndcg' must be one of \['hit', 'rank', 'rank_literal', 'rere', 'semantic'"),
        ("hit+0.5*cosine", "'cosine' must be one of"),
        ("", "not understood from ''"),
        ("hit+", r"not understood from '\+' on"),
        ("hit rank", "not understood from 'rank' on"),
        ("hit*0.5", r"not understood from '\*0.5' on"),
        ("0.5", "not understood from '0.5' on"),
        ("hit+(rank)", "not understood"),
        ("1e999*hit", "the weight 1e999 is too large"),
        ("__import__('os')", "'__import__' must be one of"),
    ],
)
def test_a_bad_sum_is_explained(text, message):
    """The error says from where on it is not understood, or which names there are."""
    with pytest.raises(ValueError, match=message):
        parse_reward(text)


@pytest.mark.parametrize("name", sorted(REWARDS))
def test_a_name_alone_is_the_reward_itself(name):
    """No wrapper, nothing made."""
    assert make_reward(name, never, never) is REWARDS[name]


def test_a_sum_pays_and_logs_its_terms():
    """Hit + rank + half the cosine, each under its own name."""
    titles = np.array([[1, 0]])
    total, terms = pay(make("rere+0.5*semantic"), titles, BATCH)
    assert list(terms) == ["hit", "rank", "semantic"]
    np.testing.assert_allclose(terms["semantic"], [[0.6, 1.0]], atol=1e-6)
    np.testing.assert_allclose(total - 0.5 * terms["semantic"], [[-0.613, 1.0]], atol=1e-3)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("collaborative", [[np.log(3), 0.0]]),
        ("collaborative_softmax", [[0.75, 0.25]]),
        ("collaborative_min_max", [[1.0, 0.0]]),
    ],
)
def test_a_sequence_model_pays_on_the_scale_of_its_name(name, expected):
    """Raw, a probability, or a place in the group; logged by the very name."""
    total, terms = pay(make(name), np.array([[1, 0]]), BATCH)
    assert list(terms) == [name]
    np.testing.assert_allclose(total, expected, atol=1e-6)


def test_a_sequence_model_is_made_once():
    """Two scales share one model; no embedding is asked for."""
    made = []
    make_reward("collaborative_softmax+collaborative_min_max", never, lambda: made.append(1) or len)
    assert made == [1]
