"""Random models of two shapes: a small Qwen2, and that of Qwen2-0.5B."""

from typing import Any, Literal

from transformers import PreTrainedModel, Qwen2Config, Qwen2ForCausalLM

from agents.bench.titles import NUM_WORDS
from agents.randomness import own_generators

__all__ = ["HALF_B_VOCAB_SIZE", "VOCAB_SIZE", "Shape", "make_model"]

Shape = Literal["small", "half_b"]

VOCAB_SIZE = NUM_WORDS + 1
HALF_B_VOCAB_SIZE = 151_936

SHAPES: dict[Shape, dict[str, Any]] = {
    "small": {
        "vocab_size": VOCAB_SIZE,
        "hidden_size": 256,
        "intermediate_size": 768,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    },
    "half_b": {
        "vocab_size": HALF_B_VOCAB_SIZE,
        "hidden_size": 896,
        "intermediate_size": 4864,
        "num_hidden_layers": 24,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
    },
}


def make_model(shape: Shape, eos_id: int, max_length: int = 4096, seed: int = 0) -> PreTrainedModel:
    """Return a random Qwen2 in eval mode; its scores are spread as a trained model's are."""
    config = Qwen2Config(
        **SHAPES[shape],
        max_position_embeddings=max_length,
        initializer_range=0.05,
        tie_word_embeddings=True,
        use_sliding_window=False,
        bos_token_id=None,
        eos_token_id=eos_id,
        pad_token_id=eos_id,
    )
    with own_generators(seed):
        model = Qwen2ForCausalLM(config)
    model.eval()
    return model
