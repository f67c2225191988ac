"""What a step can do besides: inner steps, refills, repair, seeds, rollouts in parts."""

import copy

import numpy as np
import pytest
import torch

from agents.language_model import LanguageModel
from agents.losses import grpo
from agents.rere.agent import ReReAgent
from agents.rere.config import ReReConfig
from agents.search import beam_search, sample
from rere_env.rewards import hit
from rere_env.types import Batch


@pytest.fixture
def agent_of(animal_task, model_of, accelerator):
    """Make an agent in the world of animals."""

    def make(*, task=animal_task, seed=0, **config):
        policy = LanguageModel(model_of("qwen2", task.tokenizer.vocab_size))
        reference = copy.deepcopy(policy)
        config = ReReConfig(**{"group_size": 4, **config})
        return ReReAgent(
            task, accelerator.prepare(policy), reference, config, accelerator, seed=seed
        )

    return make


def sgd(agent, rate=0.0):
    """Plain gradient descent."""
    return torch.optim.SGD(agent.learner.parameters(), lr=rate)


class Seen:
    """A loss that remembers its inputs."""

    def __init__(self):
        """Nothing seen."""
        self.inputs, self._loss = [], grpo()

    def __call__(self, inputs):
        """GRPO."""
        self.inputs.append(inputs)
        return self._loss(inputs)


def test_old_logprobs_are_those_of_the_policy_that_wrote(animal_task, agent_of):
    """They equal the policy's in the first inner step and stay there while it moves."""
    seen = Seen()
    agent = agent_of(loss=seen, inner_steps=3, max_tokens=10**6, max_grad_norm=1e9)
    agent.update(animal_task.split("train"), sgd(agent, 0.1), 0)
    # The groups of similar length form a part; every inner step sees the same parts.
    parts = len(seen.inputs) // 3
    for part in range(parts):
        first, second, third = seen.inputs[part::parts]
        torch.testing.assert_close(first.old_logprobs, first.logprobs.detach())
        for later in (second, third):
            torch.testing.assert_close(later.old_logprobs, first.old_logprobs)
            assert not torch.allclose(later.logprobs, first.logprobs)
            torch.testing.assert_close(later.ref_logprobs, first.ref_logprobs)


def test_two_inner_steps_are_two_steps_on_the_same_rollout(animal_task, agent_of):
    """GRPO looks at no ratio: its inner steps are those of a sampler that repeats itself."""
    batch = animal_task.split("train")
    inner, outer = agent_of(inner_steps=2), agent_of()
    inner.update(batch, sgd(inner, 0.05), 0)
    first = outer.rollout(outer.task.prompts(batch))
    repeat = agent_of(sampler=lambda *_, **__: first)
    for step in range(2):
        repeat.update(batch, sgd(repeat, 0.05), step)
    for a, b in zip(inner.learner.parameters(), repeat.learner.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def lucky(users):
    """Pay hits of some users only."""

    def reward(titles, batch: Batch):
        return hit(titles, batch) * np.isin(batch.user, users)[:, None].astype(np.float32)

    return reward


def test_refills_replace_groups_without_signal(animal_task, agent_of):
    """A batch of silent users ends as groups of those who had something to say."""
    train = animal_task.split("train")
    user = int(train.user[0])
    seen, asked = Seen(), []
    agent = agent_of(
        task=animal_task.with_reward(lucky([user])), loss=seen, group_size=8, max_refills=3
    )
    silent = train.take(np.flatnonzero(train.user != user)[:2])
    speaking = train.take(np.flatnonzero(train.user == user)[:1])

    def more(refill):
        asked.append(refill)
        return speaking

    metrics = agent.update(silent, sgd(agent), 0, more)
    assert asked == [0, 1]
    assert metrics["rollout/refills"] == 2
    assert sum(len(inputs.rewards) for inputs in seen.inputs) == 2
    assert all(inputs.totals.num_groups == 2 for inputs in seen.inputs)


def test_refills_end_and_silent_groups_stay_in_the_mean(animal_task, agent_of):
    """Where nobody speaks, the step is counted as one without signal."""
    agent = agent_of(task=animal_task.with_reward(lucky([])), max_refills=2)
    train = animal_task.split("train")
    metrics = agent.update(train.take(slice(3)), sgd(agent), 0, lambda _: train.take(slice(3)))
    assert metrics["rollout/refills"] == 2
    assert metrics["rollout/updated"] == 0


def test_refills_need_a_source(animal_task, agent_of):
    """Without new prompts the choice is refused."""
    agent = agent_of(max_refills=1)
    with pytest.raises(ValueError, match="needs `more`"):
        agent.update(animal_task.split("train"), sgd(agent), 0)


def test_repair_gives_silent_groups_their_target_and_a_share(animal_task, agent_of):
    """Every group then holds its target; those repaired have a tenth of the usual advantages."""
    train = animal_task.split("train")
    found = {}
    for weight in (0.0, 0.1, 1.0):
        seen = Seen()
        agent = agent_of(loss=seen, group_size=4, repair_weight=weight, max_tokens=10**6)
        agent.update(train, sgd(agent), 0)
        found[weight] = torch.cat([inputs.advantages.abs().amax(1) for inputs in seen.inputs])
        targets = torch.cat([inputs.is_target.any(1) for inputs in seen.inputs])
        assert targets.all()
    assert len(found[0.0]) < len(found[0.1]) == len(train)
    full = found[1.0].max()
    is_repaired = found[0.1] < 0.5 * full
    assert int(is_repaired.sum()) == len(train) - len(found[0.0])
    torch.testing.assert_close(found[0.1][is_repaired], 0.1 * found[1.0][is_repaired])


def test_all_groups_get_the_kl_if_asked_to(animal_task, agent_of):
    """As released: groups without signal are in the loss too."""
    train, counts = animal_task.split("train"), []
    for groups in ("signal", "all"):
        seen = Seen()
        agent = agent_of(loss=seen, group_size=4, kl_groups=groups)
        agent.update(train, sgd(agent), 0)
        counts.append(sum(len(inputs.rewards) for inputs in seen.inputs))
    assert counts[0] < counts[1] == len(train)


def test_what_is_drawn_depends_on_seed_and_step_alone(animal_task, agent_of):
    """Whatever was drawn before, from wherever."""
    train = animal_task.split("train")

    def drawn(seed, step, noise):
        titles = []

        def sampler(*args, **kwargs):
            titles.append(sample(*args, **kwargs).titles)
            return beam_search(*args, **kwargs)

        agent = agent_of(seed=seed, sampler=sampler)
        torch.rand(noise)
        agent.update(train, sgd(agent), step)
        return titles[0]

    np.testing.assert_array_equal(drawn(0, 5, 0), drawn(0, 5, 17))
    assert not np.array_equal(drawn(0, 5, 0), drawn(0, 6, 0))
    assert not np.array_equal(drawn(0, 5, 0), drawn(1, 5, 0))


def test_a_rollout_in_parts_is_the_rollout(animal_task, agent_of):
    """Prompts that do not fit together are searched one after the other."""
    prompts = animal_task.prompts(animal_task.split("train"))
    whole = agent_of().rollout(prompts)
    parts = agent_of(max_rollout_tokens=1).rollout(prompts)
    np.testing.assert_array_equal(whole.titles, parts.titles)
    np.testing.assert_allclose(whole.logprobs, parts.logprobs, atol=1e-5)


def test_a_full_device_splits_the_rollout(animal_task, agent_of):
    """It is halved once, says so, and goes on."""
    calls = []

    def crowded(policy, prompts, *args, **kwargs):
        calls.append(len(prompts))
        if len(calls) == 1:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return beam_search(policy, prompts, *args, **kwargs)

    prompts = animal_task.prompts(animal_task.split("train"))
    whole = agent_of().rollout(prompts)
    with pytest.warns(RuntimeWarning, match="half as many"):
        found = agent_of(sampler=crowded).rollout(prompts)
    np.testing.assert_array_equal(found.titles, whole.titles)
    assert max(calls[1:]) < calls[0]


def test_entropy_and_log_ratios_are_logged(animal_task, agent_of):
    """Percentiles ascend, and a fresh policy is its reference."""
    agent = agent_of()
    metrics = agent.update(animal_task.split("train"), sgd(agent), 0)
    assert metrics["policy/entropy"] > 0
    assert metrics["ratio/log_p50"] <= metrics["ratio/log_p99"] <= metrics["ratio/log_max"] < 1e-5
    share = 1 - metrics["rollout/signal_share"]
    assert metrics["rollout/frac_reward_zero_std"] == pytest.approx(share)


def test_impossible_numbers_are_refused():
    """Each is named."""
    for wrong in ({"inner_steps": 0}, {"max_refills": -1}, {"repair_weight": -0.1}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            ReReConfig(**wrong)
