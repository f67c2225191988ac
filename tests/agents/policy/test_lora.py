"""An adapter that learns, the model without it, and the two merged."""

import builtins

import pytest
import torch
from transformers import AutoModelForCausalLM

from agents.language_model import LanguageModel
from agents.policy.lora import add_lora, has_lora, merged, switched_off
from agents.trees.pack import pack
from agents.trees.tensors import TreeTensors

FAMILIES = ("qwen2", "gemma3", "phi3", "gpt2")
IDS = torch.tensor([[3, 5, 7, 2, 8]])


def logits(model):
    """Without gradient."""
    with torch.no_grad():
        return model.eval()(IDS).logits


def learn(model):
    """Give the adapter some weight."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.add_(0.1 * noise)


@pytest.fixture(params=FAMILIES)
def adapted(request, model_of):
    """A model of a family with a fresh adapter, and what it gave before."""
    model = model_of(request.param, 12)
    before = logits(model)
    add_lora(model, rank=2, alpha=8)
    return model, before


def test_a_fresh_adapter_changes_nothing_and_alone_can_learn(adapted):
    """Embeddings and head are frozen with the rest."""
    model, before = adapted
    assert has_lora(model)
    assert (logits(model) == before).all()
    trainable = [name for name, p in model.named_parameters() if p.requires_grad]
    assert trainable
    assert all(".lora_" in name for name in trainable)
    assert not model.get_output_embeddings().weight.requires_grad


def test_switched_off_it_is_the_model_as_it_was(adapted):
    """Afterwards it is on again, and learns."""
    model, before = adapted
    learn(model)
    assert (logits(model) - before).abs().max() > 0.1
    with switched_off(model):
        assert (logits(model) == before).all()
    assert (logits(model) - before).abs().max() > 0.1
    assert any(p.requires_grad for p in model.parameters())


def test_merged_it_loads_like_any_model(adapted, tmp_path):
    """`AutoModelForCausalLM.from_pretrained` gives the adapted log-probabilities; ours stays."""
    model, _ = adapted
    learn(model)
    expected = logits(model)
    merged(model).save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    torch.testing.assert_close(logits(loaded), expected, atol=1e-4, rtol=1e-4)
    assert not has_lora(loaded)
    assert (logits(model) == expected).all()
    names = {name for name, _ in loaded.named_parameters()}
    assert not any("lora" in name or "base_layer" in name for name in names)


def test_a_tree_is_read_through_the_adapter(adapted):
    """Packed sequences give what separate ones do."""
    model, _ = adapted
    learn(model)
    lm = LanguageModel(model)
    ours = lm(TreeTensors(pack([IDS[0].tolist()]), lm.device), torch.tensor([4]))
    torch.testing.assert_close(
        ours[0], torch.log_softmax(logits(model)[0, -1], -1), atol=2e-5, rtol=0
    )


def test_the_adapter_is_a_function_of_the_seed(model_of):
    """The global generator is left alone."""
    weights = []
    for seed in (0, 0, 1):
        model = model_of("qwen2", 12)
        state = torch.get_rng_state()
        add_lora(model, rank=2, alpha=4, seed=seed)
        assert (torch.get_rng_state() == state).all()
        weights.append([p for p in model.parameters() if p.requires_grad])
    same = [all((a == b).all() for a, b in zip(weights[0], w, strict=True)) for w in weights]
    assert same == [True, True, False]


def test_a_rank_below_one_is_refused(model_of):
    """The message names the value."""
    with pytest.raises(ValueError, match=r"`lora_rank` \(=0\)"):
        add_lora(model_of("qwen2", 12), rank=0, alpha=4)


def test_without_peft_the_error_names_the_extra(model_of, monkeypatch):
    """An ImportError that says what to install."""
    real = builtins.__import__

    def without_peft(name, *args, **kwargs):
        if name.partition(".")[0] == "peft":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_peft)
    with pytest.raises(ImportError, match=r"rere-env\[llm\]"):
        add_lora(model_of("qwen2", 12), rank=2, alpha=4)
