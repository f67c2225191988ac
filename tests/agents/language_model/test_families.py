"""What configurations say, as plain values."""

from types import SimpleNamespace

import pytest

from agents.language_model.families import after_head, layer_windows


@pytest.mark.parametrize(
    ("config", "windows"),
    [
        ({}, {"all": None}),
        ({"sliding_window": 4}, {"all": 4}),
        ({"sliding_window": 4, "use_sliding_window": False}, {"all": None}),
        (
            {"sliding_window": 4, "layer_types": ["full_attention"]},
            {"full_attention": None},
        ),
        (
            {"sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"] * 2},
            {"full_attention": None, "sliding_attention": 4},
        ),
    ],
)
def test_each_kind_of_layer_has_its_window(config, windows):
    """Only sliding layers that are switched on have one."""
    assert layer_windows(SimpleNamespace(**config)) == windows


def test_other_layers_are_refused():
    """A recurrent layer cannot skip what is no ancestor."""
    config = SimpleNamespace(model_type="zebra", layer_types=["full_attention", "linear_attention"])
    with pytest.raises(ValueError, match=r"a zebra model has layers .*\['linear_attention'\]"):
        layer_windows(config)


def test_scales_multiply_and_divide():
    """Cohere multiplies, Granite divides, Gemma 2 caps; most do nothing."""
    assert after_head(SimpleNamespace(logit_scale=3.0)).scale == 3.0
    assert after_head(SimpleNamespace(logits_scaling=4.0)).scale == 0.25
    assert after_head(SimpleNamespace(final_logit_softcapping=30.0)).cap == 30.0
    assert after_head(SimpleNamespace()) == after_head(SimpleNamespace(logit_scale=None))
