"""Trees read by Hugging Face decoders, against the same sequences read one by one."""

import numpy as np
import pytest
import torch
from torch import nn
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PhiConfig,
    PhiForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from agents.language_model import LanguageModel, TreeTensors
from agents.torch_trie import Edges
from agents.tree import pack

FAMILIES = ("qwen2", "llama", "gemma", "gpt2")
SEQUENCES = [[3, 5, 7, 2, 1], [3, 5, 7], [3, 5, 1], [4, 4], [4, 4, 6, 6], [9]]
ROWS = [0, 0, 0, 1, 1, 1]


def next_logprobs(model, sequence):
    """The model's own answer for one sequence."""
    return torch.log_softmax(model(torch.tensor([sequence])).logits[0, -1].float(), -1)


def edges_of(owner, token):
    """Edges whose children do not matter."""
    owner, token = torch.tensor(owner), torch.tensor(token)
    return Edges(owner=owner, token=token, child=owner, first=owner)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_packed_tree_reads_like_separate_sequences(family, lm_of):
    """Two trees of unequal size: the next token's log-probabilities after each sequence."""
    lm = lm_of(family, 12)
    packed = pack(SEQUENCES, ROWS)
    width = packed.tokens.shape[1]
    last = [packed.slots[i, len(s) - 1] + ROWS[i] * width for i, s in enumerate(SEQUENCES)]
    ours = lm(TreeTensors(packed, lm.device), torch.tensor(last))
    own = torch.stack([next_logprobs(lm.model, s) for s in SEQUENCES])
    torch.testing.assert_close(ours, own, atol=2e-5, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_growing_cache_reads_like_whole_sequences(family, lm_of):
    """Prompts of unequal length, then two branches of each as queries of one row."""
    lm = lm_of(family, 12)
    prompts = torch.tensor([[3, 5, 7], [4, 11, 11]])  # the second is one token and padding
    hidden, cache = lm.prefill(prompts, torch.tensor([3, 1]))
    after_prompt = lm.next_logprobs(hidden, None)
    visible = torch.tensor([[[1, 1, 1]] * 3, [[1, 0, 0]] * 3]).bool()
    own = torch.tensor([[1, 0, 0], [1, 1, 0], [0, 0, 1]]).bool().expand(2, 3, 3)
    hidden = lm.extend(
        torch.tensor([[2, 6, 8], [2, 6, 8]]),  # branches "2 6" and "8"
        torch.tensor([[3, 4, 3], [1, 2, 1]]),
        torch.cat([visible, own], dim=-1),
        cache,
    )
    after_branch = lm.next_logprobs(hidden[:, 1:].flatten(0, 1), None)
    expected = [[3, 5, 7, 2, 6], [3, 5, 7, 8], [4, 2, 6], [4, 8]]
    for ours, sequence in zip(after_branch, expected, strict=True):
        torch.testing.assert_close(ours, next_logprobs(lm.model, sequence), atol=2e-5, rtol=0)
    for ours, sequence in zip(after_prompt, [[3, 5, 7], [4]], strict=True):
        torch.testing.assert_close(ours, next_logprobs(lm.model, sequence), atol=2e-5, rtol=0)


def special_models():
    """Families whose head does more than multiply."""
    shape = {
        "vocab_size": 12,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "initializer_range": 0.5,
        "pad_token_id": 0,
        "bos_token_id": 0,
        "eos_token_id": 0,
    }
    yield Gemma2ForCausalLM(
        Gemma2Config(**shape, head_dim=8, final_logit_softcapping=3.0, attn_implementation="eager")
    )
    yield GraniteForCausalLM(GraniteConfig(**shape, logits_scaling=4.0))
    yield CohereForCausalLM(CohereConfig(**shape, logit_scale=0.25))
    yield PhiForCausalLM(PhiConfig(**{**shape, "num_key_value_heads": 4}))  # a head with bias


def test_a_head_of_any_kind_gives_the_same_over_few_tokens_as_over_all():
    """Caps, scales and biases after the head are those of the model itself."""
    for model in special_models():
        if model.get_output_embeddings().bias is not None:
            nn.init.normal_(model.get_output_embeddings().bias)
        lm = LanguageModel(model.eval())
        packed = pack([[3, 5, 7]])
        trees = TreeTensors(packed, lm.device)
        own = model(torch.tensor([[3, 5, 7]])).logits[0]
        everything = lm(trees, torch.tensor([1, 2]))
        torch.testing.assert_close(everything, torch.log_softmax(own[1:], -1), atol=2e-5, rtol=0)
        some = lm(trees, torch.tensor([1, 2]), edges_of([0, 0, 1, 1, 1], [4, 9, 0, 2, 11]))
        expected = [
            torch.log_softmax(own[1, [4, 9]], -1),
            torch.log_softmax(own[2, [0, 2, 11]], -1),
        ]
        torch.testing.assert_close(some, torch.cat(expected), atol=2e-5, rtol=0)


def test_a_model_that_ignores_the_mask_is_refused(model_of, monkeypatch):
    """The probe at construction sees that branches read each other."""
    model = model_of("qwen2", 12)
    read = model.model.forward

    def deaf(*args, attention_mask=None, **kwargs):
        return read(*args, attention_mask=None, **kwargs)

    monkeypatch.setattr(model.model, "forward", deaf)
    with pytest.raises(ValueError, match="does not honour a 4-D attention mask"):
        LanguageModel(model)


def test_a_model_that_ignores_positions_is_refused(model_of, monkeypatch):
    """A branch stands at its depth, not at its slot."""
    model = model_of("llama", 12)
    read = model.model.forward

    def deaf(*args, position_ids=None, **kwargs):
        return read(*args, **kwargs)

    monkeypatch.setattr(model.model, "forward", deaf)
    with pytest.raises(ValueError, match="4-D attention mask with position_ids"):
        LanguageModel(model)


def test_a_model_without_a_head_is_refused(model_of):
    """Only a causal LM can write."""
    with pytest.raises(ValueError, match="Qwen2Model has no output embeddings"):
        LanguageModel(model_of("qwen2", 12).model)


def test_the_probe_leaves_the_mode_as_it_was(model_of):
    """A model in training mode stays there."""
    assert LanguageModel(model_of("gpt2", 12).train()).training
    assert not LanguageModel(model_of("gpt2", 12).eval()).training


@pytest.mark.parametrize("family", FAMILIES)
def test_a_sequence_beyond_the_limit_is_refused(family, model_of):
    """The message names the length and the limit."""
    lm = LanguageModel(model_of(family, 12, max_length=8))
    assert lm.max_length == 8
    nine = pack([[1] * 9])
    with pytest.raises(ValueError, match="sequence of 9 tokens exceeds the model's limit of 8"):
        lm(TreeTensors(nine, lm.device), torch.tensor([8]))
    with pytest.raises(ValueError, match="limit of 8"):
        lm.prefill(torch.ones(1, 9, dtype=torch.int64), torch.tensor([9]))
    eight = pack([[1] * 8, [1, 1, 2]])  # ten nodes, but no sequence is longer than 8
    assert lm(TreeTensors(eight, lm.device), torch.tensor([7])).shape == (1, 12)


def test_a_sliding_window_counts_as_the_limit():
    """Inside its window a sliding layer is a full one; beyond it the packed mask would be wrong."""
    shape = {
        "vocab_size": 12,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
        "pad_token_id": 0,
        "bos_token_id": 0,
        "eos_token_id": 0,
    }
    mistral = MistralForCausalLM(MistralConfig(**shape, sliding_window=10))
    assert LanguageModel(mistral).max_length == 10
    switched_off = Qwen2Config(**shape, use_sliding_window=False, sliding_window=10)
    assert LanguageModel(Qwen2ForCausalLM(switched_off)).max_length == 64


def test_gradients_do_not_depend_on_the_packing(lm_of):
    """The head over some tokens and the head over all give one gradient for one quantity."""
    lm = lm_of("qwen2", 12, torch.float64)
    trees = TreeTensors(pack([[3, 5, 7], [3, 6]]), lm.device)
    slots = torch.tensor([1, 2])
    every = torch.arange(12).repeat(2).tolist()
    over_edges = lm(trees, slots, edges_of(np.repeat([0, 1], 12).tolist(), every))
    over_all = lm(trees, slots).flatten()
    weight = torch.linspace(-1, 1, 24)
    gradients = [
        torch.autograd.grad(value @ weight, list(lm.parameters()), allow_unused=True)
        for value in (over_edges, over_all)
    ]
    for ours, theirs in zip(*gradients, strict=True):
        if ours is not None:
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
