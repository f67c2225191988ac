"""Agents of Stable-Baselines3: they learn within a budget, recommend, and can be kept."""

import importlib
import random
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from gymnasium import spaces

from agents.adapters.sb3 import (
    A2C,
    DQN,
    PPO,
    EmbeddingExtractor,
    MaskablePPO,
    TrainedAgent,
    load_agent,
)
from agents.adapters.sb3.base import Spending
from agents.budget import Budget
from agents.registry import Algorithm
from agents.testing import check_algorithm
from rere_env.worlds import copy_last, fifty_items, successor

SMALL = {"num_envs": 8, "embedding_dim": 4, "layers": (8,), "beam": 1}
ON_POLICY = {"num_steps": 4}
AGENTS = [
    MaskablePPO(**SMALL, **ON_POLICY, batch_size=32),
    PPO(**SMALL, **ON_POLICY, batch_size=32),
    A2C(**SMALL, **ON_POLICY),
    DQN(**SMALL, learning_starts=16, buffer_size=100, batch_size=8, target_update_interval=16),
]
each_agent = pytest.mark.parametrize("agent", AGENTS, ids=lambda agent: type(agent).__name__)


def play(trained, task):
    """Play every training example once, greedily, by the library's own `predict`.

    Returns the title written for each example, and how many episodes ended illegally.
    """
    rows = task.split("valid")
    env = replace(trained.agent, num_envs=len(rows), **_even(trained.agent)).make_env(task)
    env.set_options([{"example": row} for row in range(len(rows))])
    seen, titles, illegal = env.reset(), np.full(len(rows), -2), 0
    while (titles == -2).any():
        masked = {} if trained.agent.decisions else {"action_masks": env.env.action_masks()}
        actions, _ = trained.policy.predict(seen, deterministic=True, **masked)
        seen, _, dones, infos = env.step(actions)
        for row in np.flatnonzero(dones & (titles == -2)):
            titles[row] = infos[row]["slate"][0]
            illegal += infos[row]["illegal"]
    return titles, illegal


def _even(agent):
    """A batch size that any number of rows allows."""
    return {"batch_size": agent.num_steps} if isinstance(agent, PPO) else {}


def global_states():
    """Where the generators stand that everybody shares."""
    numpy = np.random.get_state()[1].tolist()  # noqa: NPY002
    return random.getstate(), numpy, torch.get_rng_state().tolist()


@each_agent
def test_agents_recommend_legal_titles(agent):
    """A little training ends in lists of distinct titles of the catalogue."""
    task = copy_last().task
    assert isinstance(agent, Algorithm)
    trained = replace(agent, beam=5).train(task, Budget(steps=100), seed=0)
    titles = trained.recommend(task.split("test").take(slice(20)), k=5)
    assert titles.shape == (20, 5)
    assert ((titles >= 0) & (titles < task.catalogue.num_titles)).all()
    assert all(len(set(row)) == 5 for row in titles.tolist())


@pytest.mark.parametrize("agent", [AGENTS[0], AGENTS[3]], ids=["MaskablePPO", "DQN"])
def test_one_beam_is_the_greedy_agent(agent):
    """The recommender writes what the agent would write in the environment."""
    task = successor().task
    trained = agent.train(task, Budget(steps=500), seed=1)
    titles, illegal = play(trained, task)
    assert illegal == 0
    np.testing.assert_array_equal(trained.recommend(task.split("valid"), k=1)[:, 0], titles)


@each_agent
def test_the_seed_decides(agent):
    """Two trainings with one seed agree, one with another differs; no global generator moves."""
    task = copy_last().task
    observations = agent.make_env(task).reset()

    def scores(seed):
        return agent.train(task, Budget(steps=100), seed=seed).scores(observations)

    states = global_states()
    first = scores(0)
    assert global_states() == states
    np.testing.assert_array_equal(first, scores(0))
    assert not np.array_equal(first, scores(1))


@each_agent
def test_a_saved_agent_comes_back(agent, tmp_path):
    """Settings and weights are all there; the files are JSON and safetensors."""
    task = copy_last().task
    trained = agent.train(task, Budget(steps=100), seed=0)
    trained.save(tmp_path / "agent")
    assert {file.suffix for file in (tmp_path / "agent").iterdir()} == {".json", ".safetensors"}
    loaded = load_agent(tmp_path / "agent", task)
    assert loaded.agent == agent
    observations = agent.make_env(task).reset()
    np.testing.assert_array_equal(loaded.scores(observations), trained.scores(observations))


def test_an_agent_knows_its_titles(tmp_path):
    """Weights mean nothing over other titles."""
    task = copy_last().task
    AGENTS[2].train(task, Budget(steps=100), seed=0).save(tmp_path)
    with pytest.raises(ValueError, match="other titles"):
        load_agent(tmp_path, copy_last(num_titles=13).task)
    with pytest.raises(ValueError, match=r"`agent` \(='A2C'\) must be one of \['PPO'\]"):
        PPO.load(tmp_path, task)


def test_an_agent_of_the_old_form_is_to_be_trained_again(tmp_path):
    """It names no library; nothing is guessed."""
    (tmp_path / "agent.json").write_text('{"agent": "A2C", "settings": {}, "trie_hash": ""}')
    with pytest.raises(ValueError, match="train the agent again"):
        load_agent(tmp_path, copy_last().task)


def test_a_folder_without_an_agent_is_named(tmp_path):
    """The error tells which folder to give."""
    with pytest.raises(FileNotFoundError, match=r"agent\.json is missing; give the folder"):
        load_agent(tmp_path, copy_last().task)


def test_training_ends_with_the_time():
    """Seconds end it as steps do, whatever the clock."""
    ticks = iter(range(1000))
    budget = Budget(seconds=20, clock=lambda: float(next(ticks)))
    AGENTS[0].train(copy_last().task, budget, seed=0)
    assert next(ticks) == 21


def test_the_learning_rate_falls_with_the_budget():
    """Half the time, half the rate; the library alone would count steps."""
    now = [0.0]
    spending = Spending(Budget(seconds=10, clock=lambda: now[0]).start(), progress_bar=False)
    agent = AGENTS[2]
    spending.init_callback(agent.make_model(agent.make_env(copy_last().task), seed=0))
    rate = spending.schedule(lambda left: 0.1 * left)
    assert rate(1.0) == pytest.approx(0.1)
    now[0] = 5.0
    assert spending.on_step()
    assert rate(1.0) == pytest.approx(0.05)
    now[0] = 11.0
    assert not spending.on_step()
    assert rate(1.0) == 0.0


def test_the_last_rollout_is_learnt_from():
    """A budget of exactly one rollout makes an update."""
    agent, task = AGENTS[0], copy_last().task
    observations = agent.make_env(task).reset()
    model = agent.make_model(agent.make_env(task), seed=0)
    untrained = TrainedAgent(agent, task, model.policy).scores(observations)
    trained = agent.train(task, Budget(steps=agent.first_update), seed=0)
    assert not np.array_equal(trained.scores(observations), untrained)


@each_agent
def test_agents_keep_the_protocol(agent):
    """Seeds, lists, budgets: the checks that anybody's algorithm can be put to."""
    check_algorithm(replace(agent, beam=5), budget=Budget(steps=256), seconds=0.3)


def test_a_budget_without_an_update_is_refused():
    """An agent that never learns would be no agent."""
    with pytest.raises(ValueError, match="first time"):
        MaskablePPO().train(copy_last().task, Budget(steps=2_000), seed=0)


def test_batches_must_come_out_even():
    """The library would only warn, and take a smaller one."""
    with pytest.raises(ValueError, match="must divide"):
        PPO(num_envs=10, num_steps=10, batch_size=64)


def test_embeddings_stand_side_by_side():
    """Each place has its own; empty ones are zeros, and the last item is always in one place."""
    space = successor().task.trie.num_titles
    ids = spaces.Dict(
        {
            "history": spaces.Box(0, space, (3,), np.int64),
            "slate": spaces.Box(0, space, (2,), np.int64),
            "prefix": spaces.Box(0, 9, (4,), np.int64),
        }
    )
    extractor = EmbeddingExtractor(ids, embedding_dim=5)
    features = extractor(
        {
            "history": torch.tensor([[7.0, 2.0, 0.0]]),
            "slate": torch.tensor([[2.0, 0.0]]),
            "prefix": torch.tensor([[9.0, 1.0, 0.0, 0.0]]),
        }
    )
    title, token, empty = extractor.ids.titles.weight, extractor.ids.tokens.weight, torch.zeros(5)
    expected = [empty, title[7], title[2], title[2], empty, token[9], token[1], empty, empty]
    torch.testing.assert_close(features, torch.cat(expected)[None])
    assert extractor.features_dim == features.shape[1]


def test_only_ids_are_embedded():
    """One-hot observations have no ids to look up."""
    with pytest.raises(TypeError, match="history"):
        EmbeddingExtractor(spaces.Box(0, 1, (4,)))


@pytest.mark.parametrize("library", ["stable_baselines3", "sb3_contrib", "safetensors.torch"])
def test_a_missing_library_names_the_extra(library, monkeypatch):
    """Using the adapter without it says what to install."""
    ours = ("agents.adapters.sb3", "agents.adapters.saved")
    for name in [name for name in sys.modules if name.startswith(ours)]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ImportError, match=r'pip install "rere-env\[sb3\]"'):
        importlib.import_module("agents.adapters.sb3")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("agent", "num_steps"),
    [(MaskablePPO(), 100_000), (PPO(), 120_000), (DQN(), 80_000), (A2C(), 150_000)],
    ids=["MaskablePPO", "PPO", "DQN", "A2C"],
)
def test_fifty_titles_are_learnt(agent, num_steps):
    """The greedy agent finds most successors of its training users, in legal episodes only."""
    task = fifty_items().task
    hits = []
    for seed in range(3):
        titles, illegal = play(agent.train(task, Budget(steps=num_steps), seed=seed), task)
        assert illegal == 0
        hits.append((titles == task.split("valid").target_title).mean())
    assert min(hits) >= 0.5, hits
    assert np.mean(hits) >= 0.6, hits
