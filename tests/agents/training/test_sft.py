"""The supervised stage: one tree a user against one sequence an example."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from agents.language_model import LanguageModel
from agents.policy import load_backbone
from agents.policy.device import PassLimit
from agents.runs.numbers import StageSettings
from agents.training.learners import SFTLearner
from agents.training.sft import sft_loss, sft_update
from agents.trees.users import plan_completions, plan_users, user_batches
from rere_env import Task

TITLES = ["red fox", "red fox runs", "red owl", "blue", "blue fox", "elk", "elk at night", "owl"]
# User 0 bought 0 1 2 3 4 (histories of at most 3: the last two windows have slid), user 1
# bought 5 and then 6 or 7, user 2 came once.
ROWS = [
    ((0,), 1),
    ((0, 1), 2),
    ((5,), 6),
    ((0, 1, 2), 3),
    ((1, 2, 3), 4),
    ((5,), 7),
    ((5, 6), 0),
    ((7, 7), 7),
]
USERS = [0, 0, 1, 0, 0, 1, 1, 2]


@pytest.fixture
def sliding_task(dataset_of):
    """Three users, one with a history that slides."""
    return Task.build(dataset_of(TITLES, ROWS, USERS))


def separate_loss(model, task, batch):
    """One forward pass an example: the mean over all completion tokens."""
    losses = []
    for example in batch:
        prompt = task.prompt(example.history)
        title = task.title_tokens.to_model_ids(task.title_tokens[example.target_title]).tolist()
        logits = model(torch.tensor([[*prompt, *title]])).logits[0]
        predicted = logits[len(prompt) - 1 : -1]
        losses.append(torch.nn.functional.cross_entropy(predicted, torch.tensor(title),
                                                        reduction="none"))  # fmt: skip
    return torch.cat(losses).mean()


@pytest.mark.parametrize("max_tokens", [1, 40, 10**6])
@pytest.mark.parametrize("family", ["qwen2", "gpt2"])
def test_user_trees_learn_like_separate_sequences(
    family, max_tokens, sliding_task, model_of, accelerator
):
    """Loss and gradients, in one part or many, with users whose history has slid."""
    model = model_of(family, sliding_task.tokenizer.vocab_size, dtype=torch.float64)
    batch = sliding_task.split("train")
    slow = separate_loss(model, sliding_task, batch)
    slow.backward()
    expected = [parameter.grad.clone() for parameter in model.parameters()]
    if family == "gpt2":  # the comparison is of one function: no dropout
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
    lm = accelerator.prepare(LanguageModel(model))
    metrics = sft_update(
        sliding_task,
        lm,
        batch,
        torch.optim.SGD(lm.parameters(), lr=0.0),
        accelerator,
        max_grad_norm=1e9,
        budget=PassLimit(max_tokens),
    )
    assert metrics["loss/total"] == pytest.approx(slow.item(), rel=1e-5)
    assert metrics["sft/tokens"] == sum(len(TITLES[target].split()) + 1 for _, target in ROWS)
    for ours, theirs in zip(lm.parameters(), expected, strict=True):
        assert (ours.grad - theirs).norm() <= 1e-5 * theirs.norm() + 1e-9


def test_a_growing_history_is_read_once(sliding_task):
    """The windows of a user are prefixes of each other, the completions included."""
    batch = sliding_task.split("train")
    rows = [0, 1, 3]  # user 0 before the history slides
    prompts = [sliding_task.prompt(batch[row].history) for row in rows]
    completions = [
        sliding_task.title_tokens.to_model_ids(sliding_task.title_tokens[batch[row].target_title])
        for row in rows
    ]
    planned = plan_completions(prompts, completions, [0, 0, 0])
    longest = [*prompts[2], *completions[2][:-1]]
    assert planned.trees.tokens.tolist() == [longest]
    assert len(planned.tokens) == sum(len(completion) for completion in completions)


def separate_tokens(task, batch):
    """Tokens that one sequence an example would read: prompt and title, less the last."""
    prompts = [len(task.prompt(example.history)) for example in batch]
    return sum(prompts) + sum(len(task.title_tokens[t]) - 1 for t in batch.target_title)


def test_the_windows_of_a_user_share_their_trunk(sliding_task):
    """User 0 needs two trunks (the last window has slid), users 1 and 2 one each."""
    batch = sliding_task.split("train")
    planned = plan_users(sliding_task, batch)
    assert len(planned.trees.sizes) == 4
    # User 0: 0 1 2 3 and 1 2 3 4; user 1: 5, then 6 0 or 7; user 2: 7 7 7. EOS first, none last.
    words = [len(title.split()) + 1 for title in TITLES]
    trunks = [
        [0, 1, 2, 3],
        [1, 2, 3, 4],
        [5, 6, 0],
        [7, 7, 7],
    ]
    sizes = [sum(words[title] for title in trunk) for trunk in trunks]
    sizes[2] += words[7] - 1
    assert sorted(planned.trees.sizes.tolist()) == sorted(sizes)
    assert planned.trees.sizes.sum() == 40
    assert separate_tokens(sliding_task, batch) == 66


@pytest.mark.parametrize("max_tokens", [1, 11, 12, 24, 30, 48, 1000])
def test_parts_hold_every_token_once(sliding_task, max_tokens):
    """Each is still predicted from the node before it, and no part exceeds the budget."""
    planned = plan_users(sliding_task, sliding_task.split("train"))

    def predictions(part):
        nodes = list(zip(part.row, part.slots, strict=True))
        path = [
            [j for j in range(slot + 1) if slot < part.trees.ends[row, j]] for row, slot in nodes
        ]
        return sorted(
            (tuple(part.trees.tokens[row, own]), token)
            for (row, _), own, token in zip(nodes, path, part.tokens, strict=True)
        )

    parts = planned.parts(max_tokens)
    assert sorted(p for part in parts for p in predictions(part)) == predictions(planned)
    for part in parts:
        assert len(part.trees.sizes) == 1 or part.trees.tokens.size <= max_tokens


def test_a_full_device_repeats_the_step_in_smaller_parts(
    sliding_task, model_of, accelerator, monkeypatch
):
    """The second pass fails once; loss and gradients are those of an undisturbed step."""
    found = []
    for disturbed in (False, True):
        lm = accelerator.prepare(
            LanguageModel(model_of("qwen2", sliding_task.tokenizer.vocab_size))
        )
        budget, calls = PassLimit(20), []

        def loss(*args, calls=calls, disturbed=disturbed):
            calls.append(args)
            if disturbed and len(calls) == 2:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory")
            return sft_loss(*args)

        monkeypatch.setattr("agents.training.sft.sft_loss", loss)
        with (
            pytest.warns(RuntimeWarning, match="at most 10 tokens") if disturbed else nullcontext()
        ):
            metrics = sft_update(
                sliding_task,
                lm,
                sliding_task.split("train"),
                torch.optim.SGD(lm.parameters(), lr=0.0),
                accelerator,
                max_grad_norm=1e9,
                budget=budget,
            )
        found.append((metrics, [p.grad.clone() for p in lm.parameters()]))
        assert budget.max_tokens == (10 if disturbed else 20)
    (calm, expected), (metrics, gradients) = found
    assert metrics["loss/total"] == pytest.approx(calm["loss/total"], rel=1e-5)
    for ours, theirs in zip(gradients, expected, strict=True):
        assert (ours - theirs).norm() <= 1e-5 * theirs.norm() + 1e-7


def test_a_token_predicted_twice_counts_twice(model_of, accelerator):
    """Two rows of one user with the same history and target are two examples."""
    lm = LanguageModel(model_of("qwen2", 12))
    once = sft_loss(lm, plan_completions([[1, 2], [3]], [[4, 0], [5, 0]], [0, 0]), lm.device)
    twice = sft_loss(
        lm, plan_completions([[1, 2], [1, 2], [3]], [[4, 0]] * 2 + [[5, 0]], [0, 0, 0]), lm.device
    )
    first = sft_loss(lm, plan_completions([[1, 2]], [[4, 0]], [0]), lm.device)
    torch.testing.assert_close(twice, (2 * once + first) / 3)


@given(st.lists(st.integers(0, 6), min_size=1, max_size=60), st.integers(1, 20), st.integers(0, 5))
def test_every_example_is_seen_once_an_epoch(users, batch_size, seed):
    """Users are shuffled and stay whole; a batch overshoots by less than one user."""
    users = np.array(users)
    batches = user_batches(users, batch_size, np.random.default_rng(seed))
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(users)))
    owners = [set(users[batch].tolist()) for batch in batches]
    assert sum(len(owner) for owner in owners) == len(set(users.tolist()))
    largest = np.bincount(users).max()
    assert all(len(batch) < batch_size + largest for batch in batches)


def test_batches_are_a_function_of_the_seed():
    """The same seed gives the same batches, another seed others."""
    users = np.repeat(np.arange(20), 3)
    first, again, other = (
        [b.tolist() for b in user_batches(users, 7, np.random.default_rng(seed))]
        for seed in (0, 0, 1)
    )
    assert first == again
    assert first != other


def test_an_epoch_of_the_learner_is_every_example(sliding_task, nano, accelerator):
    """Each epoch in another order."""
    learner = SFTLearner(
        sliding_task,
        sliding_task.split("train"),
        nano(sliding_task),
        StageSettings(learning_rate=1e-3),
        accelerator,
        epochs=2,
        batch_size=4,
        seed=0,
    )
    seen = [learner._batches[step].tolist() for step in range(learner.num_steps)]
    flat = [row for rows in seen for row in rows]
    assert sorted(flat) == sorted([*range(8), *range(8)])


@pytest.fixture
def nano():
    """Make the smallest scratch policy for the titles of a task."""
    return lambda task: load_backbone("scratch:nano", task.catalogue.titles)
