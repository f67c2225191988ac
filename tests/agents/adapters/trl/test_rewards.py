"""Reward functions in TRL's form, on groups of title ids."""

import pickle

import numpy as np
import pytest

from agents.adapters.trl.rewards import from_trl_reward
from agents.policy import load_backbone
from rere_env import NO_TITLE
from rere_env.rewards import pay


def length(prompts, completions, **kwargs):
    """A reward as TRL's documentation has it."""
    return [float(len(text)) for text in completions]


def test_candidates_are_shown_as_text(animal_task):
    """A flat list, the candidates of a prompt together, with prompt, target and token ids."""
    shown = {}

    def spy(**columns):
        shown.update(columns)
        return [1.0, 2.0, 3.0]

    batch = animal_task.split("train").take(np.array([0, 1]))
    titles = np.array([[2, 7], [4, NO_TITLE]])
    paid = from_trl_reward(spy, animal_task)(titles, batch)
    np.testing.assert_array_equal(paid, np.array([[1.0, 2.0], [3.0, 0.0]], np.float32))
    assert paid.dtype == np.float32
    assert shown["completions"] == ["red owl", "owl", "blue fox"]
    assert shown["prompts"] == ["red fox\nred fox runs"] * 2 + ["blue"]
    assert shown["target"] == ["red owl", "red owl", "blue fox"]
    decode = animal_task.tokenizer.decode_completion
    assert [decode(ids) for ids in shown["completion_ids"]] == shown["completions"]
    assert all(ids[-1] == animal_task.tokenizer.eos_id for ids in shown["completion_ids"])


def test_an_instruction_is_shown_whole(successor):
    """The prompt of a pre-trained model is its text."""
    backbone = load_backbone("scratch:nano", successor.catalogue.titles)
    words = backbone.task(successor)
    batch = words.split("train").take(np.array([0]))
    seen = []
    reward = from_trl_reward(lambda prompts, **_: seen.extend(prompts) or [0.0], words)
    reward(np.array([[1]]), batch)
    assert seen == [words.decode_title(int(batch.history[0, 0]))]


def test_it_is_a_reward_like_any_other(animal_task):
    """It is logged by its name, and pickled with the environments that hold it."""
    reward = from_trl_reward(length, animal_task)
    batch = animal_task.split("train").take(np.array([0]))
    values, terms = pay(reward, np.array([[0, 3]]), batch)
    assert list(terms) == ["length"]
    assert values.tolist() == [[7.0, 4.0]]
    again = pickle.loads(pickle.dumps(from_trl_reward(length, animal_task, name="short")))
    assert again.__name__ == "short"


def test_an_empty_group_asks_nothing(animal_task):
    """Where there is no title there is nothing to show."""
    reward = from_trl_reward(lambda **_: pytest.fail("called"), animal_task)
    batch = animal_task.split("train").take(np.array([0]))
    assert reward(np.array([[NO_TITLE]]), batch).tolist() == [[0.0]]


def test_none_is_an_error_unless_allowed(animal_task):
    """TRL lets a function pass; here what that pays must be said."""
    batch = animal_task.split("train").take(np.array([0]))
    titles = np.array([[0, 1]])
    with pytest.raises(ValueError, match=r"none_as=0\.0"):
        from_trl_reward(lambda **_: [1.0, None], animal_task)(titles, batch)
    paid = from_trl_reward(lambda **_: [1.0, None], animal_task, none_as=-0.5)(titles, batch)
    assert paid.tolist() == [[1.0, -0.5]]


@pytest.mark.parametrize("answer", [[1.0], 3.0])
def test_a_wrong_answer_is_named(animal_task, answer):
    """One number a completion, no more, no less."""
    batch = animal_task.split("train").take(np.array([0]))
    reward = from_trl_reward(lambda **_: answer, animal_task, name="mine")
    with pytest.raises(ValueError, match="mine must return a list of 2 numbers"):
        reward(np.array([[0, 1]]), batch)


def test_coroutines_are_refused(animal_task):
    """The remedy is in the error."""

    async def slow(**_):
        return []

    with pytest.raises(TypeError, match="slow is a coroutine function"):
        from_trl_reward(slow, animal_task)
