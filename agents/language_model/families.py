"""What a decoder's configuration says about its layers and its head. No model names.

The rest a probe finds out: see `agents.language_model`.
"""

from typing import Any

from agents.language_model.head import AfterHead

__all__ = ["CHECKED", "after_head", "layer_windows"]

CHECKED = "Use a decoder such as Qwen, Llama, Mistral, Gemma, Phi, OLMo, Granite, SmolLM or GPT-2."
"""The remedy where a model is refused."""


def layer_windows(config: Any) -> dict[str, int | None]:  # noqa: ANN401 - a transformers config
    """Return how many positions back each kind of layer sees, itself included; None: everything.

    Raises:
        ValueError: A kind of layer is neither full nor sliding attention.
    """
    window: int | None = getattr(config, "sliding_window", None)
    if getattr(config, "use_sliding_window", True) is False:
        window = None
    kinds = set(getattr(config, "layer_types", None) or ())
    if unknown := kinds - {"full_attention", "sliding_attention"}:
        raise ValueError(
            f"a {config.model_type} model has layers of the kinds {sorted(unknown)}; only full and "
            f"sliding attention can read a tree. {CHECKED}"
        )
    if not kinds:
        return {"all": window}
    return {kind: window if kind == "sliding_attention" else None for kind in sorted(kinds)}


def after_head(config: Any) -> AfterHead:  # noqa: ANN401 - a transformers config
    """Return what the family does after the head (Gemma 2 caps, Granite and Cohere scale)."""
    scale = getattr(config, "logit_scale", None) or 1.0
    scale /= getattr(config, "logits_scaling", None) or 1.0
    return AfterHead(scale=scale, cap=getattr(config, "final_logit_softcapping", None))
