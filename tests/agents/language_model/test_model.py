"""Trees read by Hugging Face decoders, against the same sequences read one by one."""

import numpy as np
import pytest
import torch
from torch import nn
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    PhiConfig,
    PhiForCausalLM,
)

from agents.language_model import LanguageModel
from agents.trees import Edges
from agents.trees.pack import pack
from agents.trees.tensors import TreeTensors

FAMILIES = (
    "qwen2",
    "qwen3",
    "llama",
    "mistral",
    "gemma",
    "gemma2",
    "gemma3",
    "olmo2",
    "phi3",
    "granite",
    "smollm3",
    "gpt2",
)
SLIDING = {  # windows of the tests' models, shorter than their longest sequences
    "mistral": {"all": 6},
    "gemma2": {"full_attention": None, "sliding_attention": 6},
    "gemma3": {"full_attention": None, "sliding_attention": 6},
}
LONG = [3, 5, 7, 2, 1, 8, 8, 3, 9]
SEQUENCES = [LONG, [*LONG, 4, 2], [*LONG, 11], [3, 5, 1], [4, 4], [4, 4, 6, 6], [9]]
ROWS = [0, 0, 0, 0, 1, 1, 1]


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
    """Prompts of unequal length, then two branches of each as queries of one row, then more."""
    lm = lm_of(family, 12)
    prompts = torch.tensor([LONG, [4, *[11] * 8]])  # the second is one token and padding
    hidden, cache = lm.prefill(prompts, torch.tensor([9, 1]))
    after_prompt = lm.next_logprobs(hidden)
    visible = (torch.arange(9) < torch.tensor([9, 1])[:, None])[:, None].expand(2, 3, 9)
    own = torch.tensor([[1, 0, 0], [1, 1, 0], [0, 0, 1]]).bool().expand(2, 3, 3)
    hidden = lm.extend(
        torch.tensor([[2, 6, 8], [2, 6, 8]]),  # branches "2 6" and "8"
        torch.tensor([[9, 10, 9], [1, 2, 1]]),
        torch.cat([visible, own], dim=-1),
        cache,
    )
    after_branch = lm.next_logprobs(hidden[:, 1:].flatten(0, 1))
    twig = torch.tensor([1, 1, 0, 1]).bool().expand(2, 1, 4)  # "2 6", then "5"
    hidden = lm.extend(
        torch.tensor([[5], [5]]),
        torch.tensor([[11], [3]]),
        torch.cat([visible[:, :1], twig], dim=-1),
        cache,
    )
    assert cache.positions.tolist() == [[*range(9), 9, 10, 9, 11], [*range(9), 1, 2, 1, 3]]
    ours = torch.cat([after_prompt, after_branch, lm.next_logprobs(hidden[:, 0])])
    expected = [
        LONG, [4], [*LONG, 2, 6], [*LONG, 8], [4, 2, 6], [4, 8], [*LONG, 2, 6, 5], [4, 2, 6, 5],
    ]  # fmt: skip
    own = torch.stack([next_logprobs(lm.model, sequence) for sequence in expected])
    torch.testing.assert_close(ours, own, atol=3e-5, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_edges_over_the_vocabulary_are_some_of_all(family, lm_of):
    """Their log-probabilities and their gradients, with whatever the family does after its head."""
    lm = lm_of(family, 12, torch.float64)
    trees = TreeTensors(pack([LONG, [3, 6]]), lm.device)
    slots, edges = torch.tensor([1, 8]), edges_of([0, 0, 1, 1, 1], [4, 9, 0, 2, 11])
    some = lm(trees, slots, edges, "vocabulary")
    every = lm(trees, slots)[edges.owner, edges.token]
    torch.testing.assert_close(some.float(), every, atol=2e-5, rtol=0)
    weight = torch.linspace(-1, 1, 5)
    gradients = [
        torch.autograd.grad(value.float() @ weight, list(lm.parameters()), allow_unused=True)
        for value in (some, every)
    ]
    for ours, theirs in zip(*gradients, strict=True):
        if ours is not None:
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


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


@pytest.mark.parametrize("family", FAMILIES)
def test_a_window_slides_where_the_family_says_so(family, lm_of):
    """It limits what a layer sees, not how long a sequence may be."""
    lm = lm_of(family, 12)
    windows = {window for window in lm._windows.values() if window is not None}
    assert lm._windows == SLIDING.get(family, lm._windows)
    assert windows == ({6} if family in SLIDING else set())
    assert lm.max_length == 128


def test_a_window_can_be_switched_off(model_of):
    """Qwen's configuration names a window that its layers do not use."""
    model = model_of("qwen2", 12, use_sliding_window=False, sliding_window=4)
    assert LanguageModel(model)._windows == {"full_attention": None}


def test_a_window_counted_in_slots_is_refused(model_of, monkeypatch):
    """The probe is longer than a short window, so a wrong one shows."""
    model = model_of("mistral", 12)
    wrong = {"all": 3}
    monkeypatch.setattr("agents.language_model.model.layer_windows", lambda _: wrong)
    with pytest.raises(ValueError, match="gives other log-probabilities for a tree"):
        LanguageModel(model)


def test_a_cache_that_forgets_is_refused(model_of, monkeypatch):
    """The probe reads step by step as well as at once."""
    model = model_of("qwen2", 12)
    read = model.model.forward

    def forgetful(*args, past_key_values=None, **kwargs):
        if past_key_values is not None and past_key_values.get_seq_length():
            past_key_values.layers[0].keys.mul_(0.5)
        return read(*args, past_key_values=past_key_values, **kwargs)

    monkeypatch.setattr(model.model, "forward", forgetful)
    with pytest.raises(ValueError, match="gives other log-probabilities for a tree"):
        LanguageModel(model)


def test_an_architecture_without_attention_is_refused():
    """The message names its kind of layers, or what went wrong inside."""
    shape = {"vocab_size": 12, "hidden_size": 32, "pad_token_id": 0, "eos_token_id": 0}
    with pytest.raises(ValueError, match=r"layers of the kinds \['linear_attention'\]"):
        LanguageModel(MambaForCausalLM(MambaConfig(**shape, num_hidden_layers=1)))
    with pytest.raises(ValueError, match=r"cannot read a packed tree .* Use a decoder such as"):
        LanguageModel(BloomForCausalLM(BloomConfig(**shape, n_layer=1, n_head=2)))


@pytest.mark.parametrize("family", ["qwen2", *SLIDING])
def test_a_query_that_sees_nothing_spoils_no_other(family, lm_of):
    """A padding query whose only slot lies outside its window, in bf16 as in float32."""
    lm = lm_of(family, 12)
    found = {}
    for autocast in (False, True):
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            _, cache = lm.prefill(torch.tensor([LONG]), torch.tensor([9]))
            visible = torch.ones(1, 2, 11, dtype=torch.bool)
            visible[0, 1, 1:] = False  # the padding sees slot 0 alone,
            visible[0, 0, 10] = False  # and is seen by nobody
            first = lm.extend(torch.tensor([[4, 0]]), torch.tensor([[9, 9]]), visible, cache)
            visible = torch.cat([visible[:, :1], torch.ones(1, 1, 1, dtype=torch.bool)], dim=-1)
            second = lm.extend(torch.tensor([[2]]), torch.tensor([[10]]), visible, cache)
            hidden = torch.stack([first[:, 0], second[:, 0]])
            found[autocast] = lm.next_logprobs(hidden.flatten(0, 1))
    own = torch.stack([next_logprobs(lm.model, [*LONG, *rest]) for rest in ([4], [4, 2])])
    torch.testing.assert_close(found[False], own, atol=3e-5, rtol=0)
    torch.testing.assert_close(found[True], own, atol=0.3, rtol=0)


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
