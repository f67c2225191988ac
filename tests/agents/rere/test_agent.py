"""One ReRe step: the group it writes, what it is paid, what it learns."""

import copy
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from agents.language_model import LanguageModel
from agents.losses import grpo
from agents.policy import load_backbone
from agents.policy.lora import add_lora
from agents.rere.agent import ReReAgent
from agents.rere.config import ReReConfig
from agents.runs.numbers import StageSettings
from agents.scoring import score_groups
from agents.search import beam_search, sample_distinct, with_target
from agents.training.learners import ReReLearner
from rere_env import NO_TITLE, ReReEnv, ReReVectorEnv, rere
from rere_env.prompts import Prompts
from rere_env.types import Batch


class Recorder:
    """A sampler and a loss that remember what passes through them."""

    def __init__(self, loss=None):
        """Wrap the default functions."""
        self.candidates, self.inputs = [], []
        self._loss = loss or grpo()

    def sample(self, *args, **kwargs):
        """Beam search."""
        self.candidates.append(beam_search(*args, **kwargs))
        return self.candidates[-1]

    def loss(self, inputs):
        """GRPO."""
        self.inputs.append(inputs)
        return self._loss(inputs)


def make_agent(task, model, accelerator, **config):
    """An agent whose reference is a copy of its policy."""
    policy = LanguageModel(model)
    reference = copy.deepcopy(policy)
    policy = accelerator.prepare(policy)
    return ReReAgent(task, policy, reference, ReReConfig(**config), accelerator)


@pytest.fixture
def agent_of(animal_task, model_of, accelerator):
    """Make an agent in the world of animals."""

    def make(*, task=animal_task, family="qwen2", **config):
        model = model_of(family, task.tokenizer.vocab_size)
        return make_agent(task, model, accelerator, **config)

    return make


def sgd(agent, rate=0.0):
    """Plain gradient descent; by default one that stays where it is."""
    return torch.optim.SGD(agent.learner.parameters(), lr=rate)


def weights(module):
    """A copy of all weights."""
    return [parameter.detach().clone() for parameter in module.parameters()]


@pytest.mark.parametrize("support", ["catalogue", "vocabulary"])
@pytest.mark.parametrize("group_size", [4, 8])
def test_the_environment_pays_what_the_agent_trained_on(animal_task, agent_of, support, group_size):
    """The slate of a beam search, written token by token in `ReReEnv`."""
    recorder = Recorder(grpo(kl="k3"))
    agent = agent_of(
        group_size=group_size, support=support, sampler=recorder.sample, loss=recorder.loss
    )
    batch = animal_task.split("train")
    agent.update(batch, sgd(agent), 0)
    titles = recorder.candidates[0].titles
    trained = np.concatenate([inputs.rewards.numpy() for inputs in recorder.inputs])
    trained_rows = []
    env = ReReEnv(animal_task, slate_size=group_size, mask="lazy")
    for row, slate in enumerate(titles):
        env.reset(seed=0, options={"example": row})
        for title in slate:
            for token in animal_task.title_tokens[title]:
                _, reward, terminated, truncated, info = env.step(token)
        assert terminated
        assert not truncated
        assert info["slate"].tolist() == slate.tolist()
        assert reward == pytest.approx(info["item_rewards"].sum())
        if info["hit"]:
            trained_rows.append(info["item_rewards"])
        else:
            assert (info["item_rewards"] == 0).all()
    assert len(trained_rows) > 0
    order = np.lexsort(trained.T)  # the parts of a step may come in another order
    expected = np.array(trained_rows)
    assert (trained[order] == expected[np.lexsort(expected.T)]).all()


@pytest.mark.parametrize("support", ["catalogue", "vocabulary"])
def test_hidden_titles_are_neither_written_nor_probable(animal_task, agent_of, support):
    """With the history hidden, search and loss agree on what is left and on its probability."""
    task = animal_task.with_exclude("history")
    recorder = Recorder(grpo(kl="k3"))
    agent = agent_of(
        task=task, group_size=5, support=support, sampler=recorder.sample, loss=recorder.loss
    )
    batch = task.split("train")
    agent.update(batch, sgd(agent), 0)
    [found] = recorder.candidates
    assert not task.hidden(batch).marks(found.titles, 8).any()
    scored = torch.cat([inputs.logprobs.sum(-1) for inputs in recorder.inputs]).detach().numpy()
    has_signal = (found.titles == batch.target_title[:, None]).any(axis=1)
    searched = found.logprobs[has_signal]
    np.testing.assert_allclose(
        scored[np.lexsort(scored.T)], searched[np.lexsort(searched.T)], atol=1e-4
    )


@pytest.mark.parametrize("sampler", [sample_distinct, with_target(beam_search)])
def test_samplers_that_look_for_the_target_are_told_it(animal_task, agent_of, sampler):
    """Each is one of the choices of an agent."""
    recorder = Recorder(grpo())
    agent = agent_of(group_size=3, sampler=sampler, loss=recorder.loss)
    metrics = agent.update(animal_task.split("train"), sgd(agent), 0)
    if sampler is not sample_distinct:
        assert metrics["rollout/hit_rate"] == 1.0


def test_equal_histories_keep_their_own_targets(animal_task, agent_of):
    """Two users who saw the same and chose differently are paid for their own choice."""
    recorder = Recorder()
    agent = agent_of(group_size=8, sampler=recorder.sample, loss=recorder.loss)
    twins = animal_task.split("train").take(np.array([2, 3]))
    assert twins.history[0].tolist() == twins.history[1].tolist()
    agent.update(twins, sgd(agent), 0)
    titles = recorder.candidates[0].titles
    assert titles[0].tolist() == titles[1].tolist()
    hits = np.concatenate([inputs.is_target.numpy() for inputs in recorder.inputs])
    assert sorted(titles[0][hits.argmax(axis=1)].tolist()) == [1, 7]
    assert hits.sum(axis=1).tolist() == [1, 1]


def no_reward(titles, batch: Batch):
    """Nobody is ever paid."""
    return np.zeros(titles.shape, np.float32)


def test_a_step_without_signal_changes_no_weight_and_is_counted(animal_task, agent_of):
    """Not even a weight decay or a momentum moves."""
    agent = agent_of(task=animal_task.with_reward(no_reward), group_size=4)
    before = weights(agent.learner)
    optimizer = torch.optim.AdamW(agent.learner.parameters(), lr=1.0, weight_decay=0.5)
    metrics = agent.update(animal_task.split("train"), optimizer, 0)
    assert metrics["rollout/updated"] == 0.0
    assert metrics["rollout/signal_share"] == 0.0
    assert all(torch.equal(a, b) for a, b in zip(before, agent.learner.parameters(), strict=True))
    assert not optimizer.state


def test_the_reference_follows_the_policy(animal_task, agent_of):
    """Every two steps: 0.6 policy + 0.4 reference, whether or not the step had a signal."""
    silent = animal_task.with_reward(no_reward)
    agent = agent_of(task=silent, group_size=4, reference_sync_steps=2, reference_mix=0.6)
    with torch.no_grad():
        for parameter in agent.learner.parameters():
            parameter.add_(1.0)
    policy, reference = weights(agent.learner), weights(agent.reference)
    batch = silent.split("train")
    agent.update(batch, sgd(agent), 0)
    assert all(torch.equal(a, b) for a, b in zip(reference, weights(agent.reference), strict=True))
    agent.update(batch, sgd(agent), 1)
    for ours, old, new in zip(policy, reference, weights(agent.reference), strict=True):
        torch.testing.assert_close(new, 0.6 * ours + 0.4 * old)


def test_the_reference_follows_after_a_step_with_signal(animal_task, agent_of):
    """The mix takes the updated policy, and the reference itself takes no gradient."""
    agent = agent_of(group_size=8, reference_sync_steps=1, reference_mix=1.0)
    agent.update(animal_task.split("train"), sgd(agent, 0.1), 0)
    for ours, theirs in zip(weights(agent.learner), weights(agent.reference), strict=True):
        torch.testing.assert_close(ours, theirs)
    assert not any(parameter.requires_grad for parameter in agent.reference.parameters())


def test_a_catalogue_smaller_than_the_group_trains_on_what_there_is(animal_task, agent_of):
    """Eight titles in a group of 16: the same rewards, advantages and loss as a group of 8."""
    found = {}
    for group_size in (8, 16):
        recorder = Recorder()
        agent = agent_of(group_size=group_size, sampler=recorder.sample, loss=recorder.loss)
        metrics = agent.update(animal_task.split("train"), sgd(agent), 0)
        assert (recorder.candidates[0].titles[:, 8:] == NO_TITLE).all()
        inputs = recorder.inputs[0]
        assert not inputs.mask[:, 8:].any()
        assert inputs.totals.num_candidates == 6 * 8
        found[group_size] = (metrics, inputs)
    eight, sixteen = found[8][1], found[16][1]
    for name in ("rewards", "advantages", "logprobs"):
        torch.testing.assert_close(getattr(sixteen, name)[:, :8], getattr(eight, name))
    for name, value in found[8][0].items():
        assert found[16][0][name] == pytest.approx(value, abs=1e-5), name


def test_the_mean_is_over_all_candidates_rolled_out(animal_task, agent_of):
    """Groups without signal are not read again, and still count in the denominator."""
    recorder = Recorder()
    agent = agent_of(group_size=5, sampler=recorder.sample, loss=recorder.loss)
    metrics = agent.update(animal_task.split("train"), sgd(agent), 0)
    trained = sum(len(inputs.rewards) for inputs in recorder.inputs)
    assert 0 < trained < 6
    assert metrics["rollout/signal_share"] == pytest.approx(trained / 6)
    assert all(inputs.totals.num_candidates == 30 for inputs in recorder.inputs)
    assert all((inputs.advantages != 0).any(-1).all() for inputs in recorder.inputs)


@pytest.mark.parametrize("support", ["catalogue", "vocabulary"])
def test_micro_batches_give_the_gradient_of_one_batch(animal_task, agent_of, support):
    """However a step is split, gradients and losses add up to the same."""
    found = []
    for max_tokens in (1, 80, 10**6):
        agent = agent_of(
            group_size=8,
            support=support,
            loss=grpo(beta=0.1, kl="exact" if support == "catalogue" else "k3"),
            max_tokens=max_tokens,
            max_grad_norm=1e9,
        )
        with torch.no_grad():
            for parameter in agent.reference.parameters():
                parameter.mul_(0.9)
        metrics = agent.update(animal_task.split("train"), sgd(agent), 0)
        found.append((metrics, [p.grad.clone() for p in agent.learner.parameters()]))
    for metrics, gradients in found[1:]:
        for name in ("loss/total", "loss/policy", "loss/kl", "loss/grad_norm"):
            assert metrics[name] == pytest.approx(found[0][0][name], rel=1e-4, abs=1e-7), name
        for ours, theirs in zip(gradients, found[0][1], strict=True):
            assert (ours - theirs).norm() <= 1e-4 * theirs.norm() + 1e-7


def test_a_full_device_repeats_the_gradient_in_smaller_parts(animal_task, agent_of, monkeypatch):
    """The second part of three fails once; the step is that of an undisturbed one."""
    found = []
    for disturbed in (False, True):
        agent = agent_of(group_size=8, max_tokens=40, max_grad_norm=1e9)
        calls = []

        def score(*args, calls=calls, disturbed=disturbed):
            calls.append(args)
            if disturbed and len(calls) == 4:  # reference, policy, reference, policy
                raise torch.cuda.OutOfMemoryError("CUDA out of memory")
            return score_groups(*args)

        monkeypatch.setattr("agents.rere.gradients.score_groups", score)
        says = pytest.warns(RuntimeWarning, match="at most 20 tokens")
        with says if disturbed else nullcontext():
            metrics = agent.update(animal_task.split("train"), sgd(agent), 0)
        assert agent.budget.max_tokens == (20 if disturbed else 40)
        found.append((metrics, [p.grad.clone() for p in agent.learner.parameters()]))
    (calm, expected), (metrics, gradients) = found
    assert metrics["loss/total"] == pytest.approx(calm["loss/total"], abs=1e-6)
    assert metrics["loss/grad_norm"] == pytest.approx(calm["loss/grad_norm"], rel=1e-4)
    for ours, theirs in zip(gradients, expected, strict=True):
        assert (ours - theirs).norm() <= 1e-4 * theirs.norm() + 1e-7


@pytest.mark.parametrize("support", ["catalogue", "vocabulary"])
def test_an_adapter_switched_off_is_a_reference(animal_task, model_of, accelerator, support):
    """Loss and gradients are those of a copy made before the adapter learnt, with no copy."""
    found = []
    for copied in (False, True):
        model = model_of("qwen2", animal_task.tokenizer.vocab_size)
        reference = LanguageModel(copy.deepcopy(model)) if copied else None
        add_lora(model, rank=2, alpha=8)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.05 * parameter.requires_grad)
        config = ReReConfig(
            group_size=8,
            support=support,
            loss=grpo(beta=1.0, kl="exact" if support == "catalogue" else "k3"),
            reference_sync_steps=None,
            max_grad_norm=1e9,
        )
        policy = accelerator.prepare(LanguageModel(model))
        agent = ReReAgent(animal_task, policy, reference, config, accelerator)
        metrics = agent.update(animal_task.split("train"), sgd(agent), 0)
        found.append((metrics, [p.grad for p in policy.parameters() if p.requires_grad]))
    (ours, gradients), (expected, theirs) = found
    assert ours["loss/kl"] > 1e-3
    for name, value in expected.items():
        assert ours[name] == pytest.approx(value, rel=1e-4, abs=1e-6), name
    for a, b in zip(gradients, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_an_adapters_reference_cannot_be_synced(animal_task, model_of, accelerator):
    """The error names both; without an adapter there is no reference either."""
    model = model_of("qwen2", animal_task.tokenizer.vocab_size)
    policy = LanguageModel(model)
    with pytest.raises(ValueError, match=r"`reference` \(=None\) needs .* adapter"):
        ReReAgent(animal_task, policy, None, ReReConfig(), accelerator)
    add_lora(model, rank=2, alpha=4)
    with pytest.raises(
        ValueError, match=r"`reference_sync_steps` \(=512\) cannot sync `reference` \(=None\)"
    ):
        ReReAgent(animal_task, policy, None, ReReConfig(reference_sync_steps=512), accelerator)
    assert ReReAgent(animal_task, policy, None, ReReConfig(), accelerator).reference is None


def test_a_reference_is_synced_every_512_steps_by_default(animal_task, agent_of):
    """Where it is a copy; and not before."""
    agent = agent_of(group_size=8, reference_mix=1.0)
    for step, is_synced in ((510, False), (511, True)):
        agent.update(animal_task.split("train"), sgd(agent, 0.1), step)
        pairs = zip(weights(agent.learner), weights(agent.reference), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs) == is_synced


def test_a_reference_without_syncs_stays(animal_task, agent_of):
    """None means never, whatever the step."""
    agent = agent_of(group_size=8, reference_sync_steps=None)
    before = weights(agent.reference)
    agent.update(animal_task.split("train"), sgd(agent, 0.1), 511)
    assert all(torch.equal(a, b) for a, b in zip(before, weights(agent.reference), strict=True))


def test_the_gradient_is_clipped(animal_task, agent_of):
    """Its norm is logged as it was, and applied at most at `max_grad_norm`."""
    agent = agent_of(group_size=8, max_grad_norm=0.01)
    metrics = agent.update(animal_task.split("train"), sgd(agent), 0)
    assert metrics["loss/grad_norm"] > 0.01
    norm = torch.stack([p.grad.norm() for p in agent.learner.parameters()]).norm()
    assert norm.item() == pytest.approx(0.01, rel=1e-3)


def test_a_rollout_is_not_disturbed_by_dropout(animal_task, agent_of):
    """The policy writes in eval mode and learns in training mode."""
    agent = agent_of(family="gpt2", group_size=8)  # dropout 0.1
    agent.learner.train()
    prompts = Prompts([animal_task.prompt((0, 1))])
    first, second = agent.rollout(prompts), agent.rollout(prompts)
    assert (first.logprobs == second.logprobs).all()
    agent.update(animal_task.split("train"), sgd(agent), 0)
    assert agent.learner.training
    assert not agent.reference.training


@pytest.fixture(params=["no", "bf16"])
def engine(request):
    """An accelerator in either precision, which accelerate fixes once for a process."""
    AcceleratorState._reset_state()
    yield Accelerator(cpu=True, mixed_precision=request.param)
    AcceleratorState._reset_state()


def test_policy_and_reference_begin_as_one(successor, engine):
    """The KL of the first step is 0, also where both compute in bf16."""
    backbone = load_backbone("scratch:nano", successor.catalogue.titles)
    task = backbone.task(successor)
    learner = ReReLearner(
        task,
        task.split("train"),
        backbone,
        StageSettings(learning_rate=0.1),
        engine,
        config=ReReConfig(group_size=16),
        num_steps=2,
        prompts_per_step=20,
        seed=0,
    )
    first, second = learner.update(0), learner.update(1)
    assert first["loss/kl"] == pytest.approx(0.0, abs=1e-7)
    assert second["loss/kl"] > 1e-3


def test_impossible_choices_are_refused():
    """Each message names the value."""
    with pytest.raises(ValueError, match=r"`group_size` \(=1\)"):
        ReReConfig(group_size=1)
    with pytest.raises(ValueError, match=r"`reference_mix` \(=0\)"):
        replace(ReReConfig(), reference_mix=0)


class Counted:
    """A reward that counts its calls."""

    def __init__(self):
        """None so far."""
        self.calls = 0

    def __call__(self, titles, batch):
        """Hit and rank."""
        self.calls += 1
        return rere(titles, batch)


def test_a_reward_is_called_once_a_step(animal_task, agent_of):
    """By the agent for all its groups, whatever is logged; by the environment for all that end."""
    reward = Counted()
    agent = agent_of(task=animal_task.with_reward(reward), group_size=4, inner_steps=2)
    for step in range(3):
        agent.update(animal_task.split("train"), sgd(agent), step)
        assert reward.calls == step + 1

    reward = Counted()
    envs = ReReVectorEnv(
        4, animal_task.with_reward(reward), slate_size=1, mask="lazy", autoreset_mode="Disabled"
    )
    envs.reset(seed=0)
    moves = [animal_task.title_tokens[0]] * 4  # all rows write the same title, and end together
    for tokens in np.array(moves).T:
        assert reward.calls == 0
        envs.step(tokens)
    assert reward.calls == 1
