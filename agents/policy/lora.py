"""LoRA through peft: a small adapter learns, and the model with it switched off is the reference.

The only file that imports peft. Everything goes through public interfaces of transformers and peft;
a saved policy has its adapter merged, so it loads like any other model.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from agents.randomness import own_generators

__all__ = ["add_lora", "has_lora", "merged", "switched_off"]


def add_lora(model: PreTrainedModel, *, rank: int, alpha: int, seed: int = 0) -> None:
    """Freeze a model and put an adapter on every linear layer but the head.

    Args:
        model: Changed in place; its log-probabilities stay what they are until the adapter learns.
        rank: Of the adapter's matrices.
        alpha: The adapter's output is scaled by alpha / rank.
        seed: Of the adapter's weights.

    Raises:
        ImportError: peft is not installed.
        ValueError: The rank is below 1.
    """
    try:
        from peft import LoraConfig
    except ImportError as error:
        raise ImportError(
            'a LoRA adapter needs peft; install it with `pip install "rere-env[llm]"`.'
        ) from error
    if rank < 1:
        raise ValueError(f"`lora_rank` (={rank}) must be at least 1; 8 to 64 are usual.")
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        target_modules="all-linear",
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),  # GPT-2
        task_type="CAUSAL_LM",
    )
    with own_generators(seed):
        model.add_adapter(config)


def has_lora(model: PreTrainedModel) -> bool:
    """Say whether `add_lora` was here."""
    return hasattr(model, "peft_config")


@contextmanager
def switched_off(model: PreTrainedModel) -> Iterator[None]:
    """Let the model compute without its adapter."""
    model.disable_adapters()
    try:
        yield
    finally:
        model.enable_adapters()


def merged(model: PreTrainedModel) -> PreTrainedModel:
    """Return a plain model with the adapter added into its weights; the given one is unchanged.

    Weights without an adapter are shared with the given model, not copied.
    """
    from peft.tuners.lora import LoraLayer

    state: dict[str, Tensor] = {}
    layers = {name: m for name, m in model.named_modules() if isinstance(m, LoraLayer)}
    for name, value in model.state_dict().items():
        owner, _, rest = name.partition(".base_layer.")
        if rest:
            state[f"{owner}.{rest}"] = value
        elif not any(name.startswith(f"{adapted}.") for adapted in layers):
            state[name] = value
    for name, layer in layers.items():
        for adapter in layer.active_adapters:
            weight = state[f"{name}.weight"]
            delta: Tensor = layer.get_delta_weight(adapter)  # type: ignore[attr-defined]  # of Linear
            state[f"{name}.weight"] = weight + delta.to(weight)
    with torch.device("meta"):
        plain: PreTrainedModel = type(model)(model.config)
    plain.load_state_dict(state, assign=True)
    plain.generation_config = model.generation_config
    return plain
