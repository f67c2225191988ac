"""The precision that was asked for holds where the policy writes, and not only where it learns."""

import copy

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from agents.language_model import LanguageModel
from agents.rere.agent import ReReAgent
from agents.rere.config import ReReConfig
from agents.search import beam_search


@pytest.fixture
def half():
    """An engine in bf16; its state, one a process, is put back after the test."""
    AcceleratorState._reset_state()
    yield Accelerator(cpu=True, mixed_precision="bf16")
    AcceleratorState._reset_state()


def test_the_sampler_computes_in_the_precision_of_the_run(half, animal_task, model_of):
    """Under autocast, in bf16."""
    seen = []

    def sampler(*args, **kwargs):
        seen.append((torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")))
        return beam_search(*args, **kwargs)

    model = model_of("qwen2", animal_task.tokenizer.vocab_size)
    policy = LanguageModel(model)
    learner, reference = half.prepare(policy), copy.deepcopy(policy)
    config = ReReConfig(group_size=4, sampler=sampler)
    agent = ReReAgent(animal_task, learner, reference, config, half)
    agent.rollout(animal_task.prompts(animal_task.split("train")))
    assert seen == [(True, torch.bfloat16)]
