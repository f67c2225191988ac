"""Candidates of a policy: three searches and three samplers on one engine, with one signature.

`beam_search` finds what Hugging Face's constrained beam search finds, title for title;
`radix_search` what beams find that advance decision by decision, with the fewest forward passes;
`exact_search` the most probable titles, with a certificate. `sample` draws; `sample_distinct`
prefers distinct titles; `with_target(sampler)` sees that the target is among the candidates.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from agents.search.best_first import exact_search, radix_search
from agents.search.parity import beam_search
from agents.search.sampling import sample, sample_distinct, with_target
from agents.types import Sampler

__all__ = [
    "SEARCHES",
    "Search",
    "beam_search",
    "exact_search",
    "find_search",
    "radix_search",
    "sample",
    "sample_distinct",
    "with_target",
]

Search = Literal["parity", "radix", "exact"]
"""The name of a search."""

SEARCHES: Mapping[Search, Sampler] = MappingProxyType(
    {"parity": beam_search, "radix": radix_search, "exact": exact_search}
)


def find_search(search: Search) -> Sampler:
    """Return a search by name.

    Raises:
        ValueError: No search has this name.
    """
    if search not in SEARCHES:
        raise ValueError(f"`search` (={search!r}) must be one of {sorted(SEARCHES)}.")
    return SEARCHES[search]
