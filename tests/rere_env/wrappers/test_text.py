"""`EpisodeText`: the words behind the ids."""

import pickle

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.wrappers import FlattenObservation, RecordEpisodeStatistics, TimeLimit
from stable_baselines3.common.env_checker import check_env as sb3_check_env

from rere_env import DecisionActions, EpisodeText, ReReEnv, ReReVectorEnv, Task, VectorEpisodeText
from rere_env.prompts import instruction_prompt


def test_the_info_says_in_words_what_the_observation_says_in_ids(tiny_task):
    """History and slate as titles, the title being written, and the prompt of the episode."""
    env = EpisodeText(ReReEnv(tiny_task, slate_size=2))
    _, info = env.reset(options={"example": 4})
    history = ["Moon Racer Deluxe Edition", "Dog Show"]
    assert info["text"] == {"history": history, "slate": [], "prefix": ""}
    assert info["prompt_ids"] == tiny_task.prompt((4, 5))
    assert info["prompt"] == "Moon Racer Deluxe Edition Dog Show"

    for token in (*tiny_task.title_tokens[3], *tiny_task.title_tokens[1][:2]):
        *_, info = env.step(int(token))
    assert info["text"] == {"history": history, "slate": ["Moon Racer"], "prefix": "Star Quest"}
    assert "prompt" not in info

    *_, info = env.step(0)
    assert info["text"]["slate"] == ["Moon Racer", "Star Quest"]
    assert info["text"]["prefix"] == ""
    assert info["slate"].tolist() == [3, 0]


def test_a_prompt_in_words_is_shown_in_words(dataset_of):
    """The prompt is whatever the task makes of a history."""
    from rere_env import WordTokenizer
    from rere_env.prompts import InstructionTemplate

    template = InstructionTemplate(text="after {history} comes", item="{title}", separator=" ")
    words = ["after", "comes", *WordTokenizer.from_titles(dataset_of().catalogue.titles).words[1:]]
    task = Task.build(
        dataset_of(),
        tokenizer=WordTokenizer(words),
        prompt=lambda catalogue, _, tokenizer: instruction_prompt(catalogue, tokenizer, template),
    )
    _, info = EpisodeText(ReReEnv(task, slate_size=1)).reset(options={"example": 5})
    assert info["prompt"] == "after Dog Show Pinball comes"
    assert task.tokenizer.decode_completion(info["prompt_ids"]) == info["prompt"]


@pytest.mark.parametrize("token_ids", ["local", "model"])
def test_around_decisions_it_shows_what_was_written_unasked(tiny_task, token_ids):
    """The prefix includes forced tokens."""
    env = EpisodeText(DecisionActions(ReReEnv(tiny_task, slate_size=2, token_ids=token_ids)))
    env.reset(seed=0)
    assert env.step(1)[4]["text"]["prefix"] == "Moon Racer"


# Gymnasium says this of every wrapped environment.
@pytest.mark.filterwarnings("ignore:.*is different from the unwrapped version")
def test_both_checkers_pass_with_other_wrappers_around(tiny_task):
    """The text travels in the info."""
    env = EpisodeText(ReReEnv(tiny_task, slate_size=3))
    check_env(env, skip_render_check=True)
    sb3_check_env(env)
    stack = TimeLimit(
        FlattenObservation(RecordEpisodeStatistics(pickle.loads(pickle.dumps(env)))), 2
    )
    sb3_check_env(stack)
    assert stack.reset(seed=0)[1]["text"] == env.reset(seed=0)[1]["text"]


def test_the_last_text_of_a_finished_row_is_kept(tiny_task):
    """Under SAME_STEP the text shows the new episode, `final_info` the old one."""
    env = VectorEpisodeText(ReReVectorEnv(2, tiny_task, slate_size=1, autoreset_mode="SameStep"))
    _, infos = env.reset(options={"example": [0, 4]})
    assert infos["prompt"].tolist() == [
        "Star Quest Star Quest II",
        "Moon Racer Deluxe Edition Dog Show",
    ]
    for token in tiny_task.title_tokens[5]:
        *_, infos = env.step(np.array([token, token]))
    assert infos["final_info"]["text"]["slate"].tolist() == [["Dog Show"], ["Dog Show"]]
    assert infos["text"]["slate"].tolist() == [[], []]
    assert infos["_prompt"].tolist() == [True, True]


def test_misuse_is_an_error(tiny_task):
    """Rule, value and remedy."""
    with pytest.raises(TypeError, match=r"`EpisodeText` reads .*; got Box.*Put the wrapper"):
        EpisodeText(FlattenObservation(ReReEnv(tiny_task, slate_size=1)))
    with pytest.raises(TypeError, match="is a view of a ReReEnv"):
        EpisodeText(gym.make("CartPole-v1"))
