"""The token loop through the environment against a plainer loop, and what the benchmark says."""

import numpy as np
import pytest
import torch

from agents.bench.rollout import bench_rollout, token_loop
from agents.language_model import LanguageModel
from rere_env import ReReEnv


@pytest.fixture
def policy(animal_task, lm_of) -> LanguageModel:
    """A random policy in the world of animals."""
    return lm_of("qwen2", animal_task.tokenizer.vocab_size)


@torch.no_grad()
def plain_loop(task, lm, row, slate_size):
    """One user, one token at a time, the whole sequence read anew for each."""
    env = ReReEnv(task, split="test", slate_size=slate_size, mask="lazy")
    env.reset(options={"example": row})
    prompt = task.prompt(task.split("test")[row].history)
    prefix, over = [], False
    while not over:
        legal = env.candidates().tokens
        logits = lm.model(torch.tensor([[*prompt, *prefix]])).logits[0, -1]
        token = legal[int(logits[task.title_tokens.to_model_ids(legal)].argmax())]
        prefix = [] if token == 0 else [*prefix, *task.title_tokens.to_model_ids([token])]
        _, _, over, _, info = env.step(token)
    return info["slate"].tolist()


@pytest.mark.parametrize("slate_size", [1, 3, 8])
def test_the_token_loop_writes_what_a_plain_loop_writes(slate_size, animal_task, policy):
    """Many rows on one cache, slates of distinct titles, rows that finish at different times."""
    slates = token_loop(animal_task, policy, 6, slate_size=slate_size)
    assert slates.shape == (6, slate_size)
    for row, slate in enumerate(slates.tolist()):
        assert slate == plain_loop(animal_task, policy, row, slate_size)


def test_the_benchmark_asserts_equality_and_reports(animal_task, policy):
    """Titles per second for all four, on the machine it names; sizes are cut to what there is."""
    result = bench_rollout(animal_task, policy, num_users=100, slate_size=20, repeats=2)
    assert (result["num_users"], result["slate_size"], result["equal_titles"]) == (6, 8, 6)
    names = {"token_loop_1", "tree_search_1", "token_loop_slate", "tree_search_slate"}
    assert set(result["titles_per_second"]) == set(result["seconds"]) == names
    assert all(len(times) == 2 for times in result["seconds"].values())
    assert all(rate > 0 for rate in result["titles_per_second"].values())
    for spread in result["ratios"].values():
        assert spread["low"] <= spread["median"] <= spread["high"]
    assert result["machine"]["versions"]["torch"] is not None


def test_the_benchmark_refuses_to_time_what_differs(animal_task, policy, monkeypatch):
    """A token loop that writes other titles is no peer."""
    monkeypatch.setattr(
        "agents.bench.rollout.token_loop",
        lambda task, lm, num_users, *, slate_size: np.full((num_users, slate_size), -1),
    )
    with pytest.raises(AssertionError, match="agree for 0 of 6 users"):
        bench_rollout(animal_task, policy, num_users=6, slate_size=2, repeats=1)
