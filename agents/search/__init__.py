"""Search."""

from agents.search.best_first import exact_search, radix_search
from agents.search.parity import beam_search
__all__ = ["beam_search", "exact_search", "radix_search"]
