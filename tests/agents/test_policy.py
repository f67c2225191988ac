"""On a CUDA device: the same titles, log-probabilities and gradients as on the CPU."""

import copy

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from agents.language_model import LanguageModel
from agents.losses import grpo
from agents.policy import Policy
from agents.rere.agent import ReReAgent
from agents.rere.config import ReReConfig
from agents.scoring import score_groups
from agents.search import beam_search
from agents.trees import TorchTrie
from agents.trees.groups import plan_groups
from rere_env.prompts import Prompts

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not torch.cuda.is_available(), reason="needs a CUDA device, and torch sees none"
    ),
]

SUPPORTS = ("catalogue", "vocabulary")
FAMILIES = ("qwen2", "gemma3", "gpt2")


@pytest.fixture
def both(request, model_of, many_titles):
    """One model on both devices."""

    def make(family, **changes):
        model = model_of(family, many_titles.vocab_size, **changes)
        return LanguageModel(model), LanguageModel(copy.deepcopy(model).to("cuda"))

    return make


@pytest.mark.parametrize("support", SUPPORTS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_search_finds_the_same_titles(family, support, both, many_titles):
    """In the same order, but for scores within 1e-4 of each other."""
    prompts = many_titles.prompts(2, 9, 5, 12)
    cpu, gpu = (
        beam_search(
            Policy(
                lm=lm,
                trie=TorchTrie.build(many_titles.trie, many_titles.tokens, lm.device),
                support=support,
            ),
            Prompts(prompts),
            16,
        )
        for lm in both(family)
    )
    np.testing.assert_allclose(gpu.logprobs, cpu.logprobs, atol=1e-4)
    for row, column in zip(*np.nonzero(gpu.titles != cpu.titles), strict=True):
        others = np.delete(cpu.logprobs[row], column)
        assert np.abs(others - cpu.logprobs[row, column]).min() < 1e-4


@pytest.mark.parametrize("support", SUPPORTS)
@pytest.mark.parametrize("family", FAMILIES)
def test_scores_and_gradients_are_the_same(family, support, both, many_titles):
    """Of every weight, within float32."""
    titles = np.random.default_rng(1).integers(0, 200, (3, 5))
    plan = plan_groups(
        many_titles.trie, many_titles.tokens, Prompts(many_titles.prompts(2, 9, 5)), titles, support
    )
    found = []
    for lm in both(family):
        logprobs = score_groups(lm, plan, lm.device).logprobs.sum(-1)
        logprobs.square().sum().backward()
        found.append((logprobs.cpu(), [p.grad.cpu() for p in lm.parameters()]))
    (expected, theirs), (ours, gradients) = found
    torch.testing.assert_close(ours, expected, atol=1e-3, rtol=1e-4)
    for a, b in zip(gradients, theirs, strict=True):
        assert (a - b).norm() <= 1e-3 * b.norm() + 1e-5


@pytest.mark.parametrize("precision", ["no", "bf16"])
@pytest.mark.parametrize("support", SUPPORTS)
def test_a_step_learns_in_either_precision(precision, support, animal_task, model_of):
    """Its loss and gradient norm are those of the CPU, roughly so in bf16."""
    found = []
    for cpu in (True, False):
        AcceleratorState._reset_state(reset_partial_state=True)
        accelerator = Accelerator(cpu=cpu, mixed_precision="no" if cpu else precision)
        policy = LanguageModel(model_of("qwen2", animal_task.tokenizer.vocab_size))
        policy.to(accelerator.device)
        reference = copy.deepcopy(policy)
        config = ReReConfig(group_size=8, support=support, loss=grpo(kl="k3"), max_grad_norm=1e9)
        agent = ReReAgent(animal_task, accelerator.prepare(policy), reference, config, accelerator)
        optimizer = torch.optim.SGD(policy.parameters(), lr=0.0)
        found.append(agent.update(animal_task.split("train"), optimizer, 0))
    AcceleratorState._reset_state(reset_partial_state=True)
    expected, ours = found
    assert ours["loss/kl"] == pytest.approx(0.0, abs=1e-6)
    assert ours["loss/grad_norm"] == pytest.approx(
        expected["loss/grad_norm"], rel=1e-3 if precision == "no" else 0.2
    )
