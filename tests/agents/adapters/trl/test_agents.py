"""TRL on our tasks: the same prompts, the same rewards, the same titles."""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from agents.budget import Budget
from agents.evaluation import evaluate
from agents.language_model import LanguageModel
from agents.lm_recommender import LMRecommender
from agents.policy import load_backbone
from rere_env import NO_TITLE, HFTokenizer, ReReVectorEnv, hit

trl = pytest.importorskip("trl")
adapter = pytest.importorskip("agents.adapters.trl")

G = 4

# TRL 1.16 asks a model for a property that transformers 5.23 renamed.
old_name = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")


@pytest.fixture(scope="module")
def backbone(successor):
    """A random model with a tokenizer of Hugging Face; its weights must not change."""
    return load_backbone("scratch:nano", successor.catalogue.titles)


@pytest.fixture(scope="module")
def task(successor, backbone):
    """Twenty titles, one of which follows each."""
    return backbone.task(successor)


def columns_of(dataset, rows):
    """Columns as a trainer hands them over: G neighbours an example."""
    return {
        name: [value for value in dataset[rows][name] for _ in range(G)]
        for name in dataset.column_names
    }


def grouped_env(task, titles, scores, example):
    """Write titles (`NO_TITLE`: an illegal token) in grouped rows; return the rewards [G]."""
    env = ReReVectorEnv(G, task, split="train", group_size=G, autoreset_mode="Disabled")
    env.reset(seed=0, options={"example": example})
    env.set_scores(np.arange(G), scores)
    tokens = [[0] if title == NO_TITLE else task.title_tokens[title].tolist() for title in titles]
    for step in range(max(map(len, tokens))):
        action = [row[step] if step < len(row) else 0 for row in tokens]
        _, reward, terminated, _, _ = env.step(np.array(action))
    assert terminated.all()
    return reward


@pytest.mark.parametrize("by", ["ids", "text", "conversation"])
def test_rewards_are_those_of_grouped_rows(by, task):
    """Of hits, misses and what is no title, ranked by likelihood."""
    rng = np.random.default_rng(0)
    dataset = adapter.prompt_dataset(task)
    examples = [3, 8, 11]
    columns = columns_of(dataset, examples)
    titles = rng.integers(-1, 20, (3, G))
    titles[:2, 1] = dataset[examples]["target_title"][:2]
    scores = rng.normal(size=(3, G))
    texts = ["red red" if t == NO_TITLE else task.decode_title(t) for t in titles.ravel()]
    ids = [
        [1] if t == NO_TITLE else task.title_tokens.to_model_ids(task.title_tokens[t]).tolist()
        for t in titles.ravel()
    ]
    completions = {
        "ids": ["unread"] * (3 * G),
        "text": texts,
        "conversation": [[{"role": "assistant", "content": text}] for text in texts],
    }[by]
    prompts = columns.pop("prompt")
    rewards = adapter.reward_function(task, G)(
        prompts=prompts,
        completions=completions,
        completion_ids=ids if by == "ids" else None,
        title_logprob=scores.ravel().tolist(),
        trainer_state=None,
        **columns,
    )
    for group, example in enumerate(examples):
        expected = grouped_env(task, titles[group], scores[group], example)
        np.testing.assert_allclose(rewards[group * G : group * G + G], expected, atol=1e-6)


def test_without_likelihoods_rows_are_ranked_as_they_come(task):
    """The first miss of a group that holds the target pays most."""
    columns = columns_of(adapter.prompt_dataset(task), [0])
    target = columns["target_title"][0]
    others = [title for title in range(20) if title != target][:2]
    texts = [task.decode_title(title) for title in (others[0], target, others[1])]
    first, hit, last, illegal = adapter.reward_function(task, G)(
        columns.pop("prompt"), [*texts, "no such title"], **columns
    )
    assert illegal == -1
    assert first < last < 0
    assert hit == 1


def test_texts_match_bare_and_in_the_template_of_the_tokenizer(task):
    """Exactly: a space more is another text."""
    tokenizer = HFTokenizer(task.tokenizer.tokenizer, completion_template='"{title}"\n')
    columns = columns_of(adapter.prompt_dataset(task), [0])
    title = task.decode_title(columns["target_title"][0])
    texts = [title, f'"{title}"\n', f"{title} ", f'"{title}"']
    reward = adapter.reward_function(replace(task, tokenizer=tokenizer, reward=hit), G)
    assert reward(columns.pop("prompt"), texts, **columns) == [1, 1, -1, -1]


def test_terms_and_illegal_rate_are_logged(task):
    """One value a batch, as a trainer takes them."""
    logged = {}
    columns = columns_of(adapter.prompt_dataset(task), [0])
    texts = [task.decode_title(columns["target_title"][0]), "x", "y", "z"]
    adapter.reward_function(task, G)(
        columns.pop("prompt"), texts, log_metric=logged.__setitem__, **columns
    )
    assert logged["rollout/illegal_rate"] == 0.75
    assert logged["reward/hit"] == 1


def test_hidden_titles_are_no_prompts_and_no_hits(task):
    """Their rows are left out of the data set, and writing one is illegal."""
    hiding = task.with_exclude("history")
    dataset = adapter.prompt_dataset(hiding)
    columns = columns_of(dataset, [0])
    seen = int(task.catalogue.item_title[columns["history"][0][0]])
    texts = [task.decode_title(seen)] * G
    prompts = columns.pop("prompt")
    assert adapter.reward_function(hiding, G)(prompts, texts, **columns) == [-1] * G
    stock = task.with_exclude([task.catalogue.item_keys[task.split("train")[0].target]])
    assert len(adapter.prompt_dataset(stock)) == len(task.split("train")) - 1


def test_prompts_as_text_give_their_tokens_again(task, backbone):
    """What the trainer tokenises is what we would have read."""
    dataset = adapter.prompt_dataset(task, "test")
    ids = backbone.tokenizer.tokenizer(dataset["prompt"][:])["input_ids"]
    assert ids == [task.prompt(example.history) for example in task.split("test")]
    assert dataset["history"][:] == [list(example.history) for example in task.split("test")]


def test_rows_that_are_no_groups_are_refused(task):
    """The error says what must be whole; missing columns are named."""
    reward = adapter.reward_function(task, G)
    with pytest.raises(ValueError, match="groups of 4"):
        reward(["a"] * 5, ["b"] * 5)
    with pytest.raises(ValueError, match="groups of 4"):
        reward(["a", "a", "a", "b"], ["b"] * 4)
    with pytest.raises(ValueError, match="target_title"):
        reward(["a"] * 4, ["b"] * 4)


def test_a_task_of_words_is_refused(animal_task):
    """TRL has no use for our own tokenizer."""
    with pytest.raises(ValueError, match="WordTokenizer"):
        adapter.prompt_dataset(animal_task)


class Trainer:
    """What a rollout function needs of a GRPOTrainer."""

    def __init__(self, model, accelerator, num_generations):
        self.model, self.accelerator = model, accelerator
        self.num_generations = self.num_generations_eval = num_generations


@pytest.mark.parametrize("exclude", [None, "history"])
def test_rollouts_are_the_beams_of_our_search(exclude, task, backbone, accelerator):
    """Their tokens, their order, and what the model thinks of every token."""
    task = task.with_exclude(exclude)
    prompts = adapter.prompt_dataset(task.with_exclude(None))["prompt"][:3]
    trainer = Trainer(backbone.model.train(), accelerator, G)
    rows = [prompt for prompt in prompts for _ in range(G)]
    out = adapter.rollout_function(task)(rows, trainer)
    assert trainer.model.training
    backbone.model.eval()
    examples = task.split("train").take(np.arange(3))
    recommender = LMRecommender(
        task, LanguageModel(backbone.model), beam=G, support="vocabulary", search="beam"
    )
    found = recommender.search(examples, G)
    ids = [
        task.title_tokens.to_model_ids(task.title_tokens[title]).tolist()
        for title in found.titles.ravel()
    ]
    assert out["completion_ids"] == ids
    assert out["prompt_ids"] == [task.prompt(e.history) for e in examples for _ in range(G)]
    np.testing.assert_allclose(out["title_logprob"], found.logprobs.ravel(), atol=1e-5)
    for prompt, completion, logprobs in zip(
        out["prompt_ids"], out["completion_ids"], out["logprobs"], strict=True
    ):
        with torch.no_grad():
            logits = backbone.model(torch.tensor([prompt + completion])).logits[0]
        expected = torch.log_softmax(logits[len(prompt) - 1 : -1], -1)
        expected = expected.gather(1, torch.tensor(completion)[:, None])[:, 0]
        np.testing.assert_allclose(logprobs, expected.numpy(), atol=1e-4)


def test_a_group_larger_than_the_catalogue_is_an_error(task, backbone, accelerator):
    """TRL has no empty completions."""
    prompt = adapter.prompt_dataset(task)["prompt"][0]
    trainer = Trainer(backbone.model.eval(), accelerator, 21)
    with pytest.raises(ValueError, match=r"`num_generations` \(=21\)"):
        adapter.rollout_function(task)([prompt] * 21, trainer)


def test_a_prompt_of_nobody_is_an_error_where_titles_are_hidden(task, backbone, accelerator):
    """What it may not be shown cannot be known."""
    trainer = Trainer(backbone.model.eval(), accelerator, G)
    with pytest.raises(ValueError, match="of no example"):
        adapter.rollout_function(task.with_exclude("history"))(["red sea"] * G, trainer)


@old_name
def test_a_trainer_makes_steps_from_a_saved_model(successor, tmp_path, monkeypatch):
    """Offline: weights move, all completions are titles, and it ends in a recommender."""
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    backbone = load_backbone("scratch:nano", successor.catalogue.titles, seed=1)
    backbone.save(tmp_path / "model")
    task = backbone.task(successor)
    seen = []
    reward = adapter.reward_function(task, G)

    def watched(completion_ids, **rows):
        seen.extend(completion_ids)
        return reward(completion_ids=completion_ids, **rows)

    trainer = trl.GRPOTrainer(
        AutoModelForCausalLM.from_pretrained(tmp_path / "model"),
        reward_funcs=watched,
        rollout_func=adapter.rollout_function(task),
        train_dataset=adapter.prompt_dataset(task),
        processing_class=backbone.tokenizer.tokenizer,
        args=trl.GRPOConfig(
            output_dir=str(tmp_path / "out"),
            num_generations=G,
            per_device_train_batch_size=20 * G,
            max_steps=2,
            learning_rate=1e-3,
            beta=0.01,
            bf16=False,
            gradient_checkpointing=None,
            use_cpu=True,
            report_to="none",
            save_strategy="no",
            logging_steps=1,
            disable_tqdm=True,
        ),
    )
    trainer.train()
    titles = {
        tuple(task.title_tokens.to_model_ids(task.title_tokens[title]).tolist())
        for title in range(20)
    }
    assert len(seen) == 2 * 20 * G
    assert {tuple(ids) for ids in seen} <= titles
    logs = [row for row in trainer.state.log_history if "rollout/illegal_rate" in row]
    assert [row["rollout/illegal_rate"] for row in logs] == [0, 0]
    moved = [
        not torch.equal(ours, theirs)
        for ours, theirs in zip(
            trainer.model.parameters(), backbone.model.parameters(), strict=True
        )
    ]
    assert any(moved)
    done = evaluate(
        LMRecommender(task, LanguageModel(trainer.model.eval()), beam=20),
        task,
        task.split("test"),
        ks=(1, 10),
        progress=False,
    )
    assert done.illegal_rate == 0


@old_name
def test_the_agent_trains_within_its_budget(successor, task, monkeypatch):
    """Two optimiser steps; a list of distinct titles for every example."""
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    agent = adapter.TRLGRPO(group_size=G, num_prompts=4)
    recommender = agent.train(task, Budget(steps=2), seed=0)
    lists = recommender.recommend(task.split("test"), 5)
    assert lists.shape == (20, 5)
    assert all(len(set(row)) == 5 for row in lists.tolist())
    clock = iter([0.0, 1.0, 5.0, 9.0]).__next__
    agent.train(task, Budget(seconds=4, clock=clock), seed=0)
    assert clock() == 9.0  # started at 0, and stopped after the step that ended at 5


def test_without_trl_the_error_names_the_extra():
    """What needs TRL is refused by what to install; the reward functions need none."""
    code = (
        "import sys; sys.modules['trl'] = None; sys.modules['datasets'] = None\n"
        "from agents.adapters.trl import from_trl_reward, reward_function\n"
        "from agents.adapters.trl import TRLGRPO"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode != 0
    assert 'ImportError: agents.adapters.trl needs TRL: pip install "rere-env[trl]"' in done.stderr
