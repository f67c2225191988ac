"""A Hugging Face causal LM that reads prefix trees. Knows nothing of titles, rewards or users."""

from agents.language_model.cache import TreeCache
from agents.language_model.model import LanguageModel, context_length

__all__ = ["LanguageModel", "TreeCache", "context_length"]
