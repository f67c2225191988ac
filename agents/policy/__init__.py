"""What acts and learns: a language model, where it comes from, what of it is trained, and where."""

from agents.policy.backbones import (
    SCRATCH_SIZES,
    Backbone,
    ScratchSize,
    load_backbone,
    train_tokenizer,
)
from agents.policy.policy import Policy

__all__ = ["SCRATCH_SIZES", "Backbone", "Policy", "ScratchSize", "load_backbone", "train_tokenizer"]
