"""Candidates of a policy: searches and samplers with one signature.

`beam_search` finds what Hugging Face's constrained beam search finds, title for title;
`radix_search` what beams find that advance decision by decision, with the fewest forward passes;
`exact_search` the most probable titles, with a certificate. `sample` draws; `sample_distinct`
prefers distinct titles; `with_target(sampler)` sees that the target is among the candidates.
These keep to the catalogue, on one engine. `sample_unconstrained` and `unconstrained_beam` do not:
they measure how often a policy would leave it.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from agents.search.beam import beam_search
from agents.search.best_first import exact_search, radix_search
from agents.search.sampling import sample, sample_distinct, with_target
from agents.search.unconstrained import sample_unconstrained, unconstrained_beam
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
    "sample_unconstrained",
    "unconstrained_beam",
    "with_target",
]

Search = Literal["parity", "radix", "exact", "unconstrained"]
"""The name of a search; all but the last find titles only."""

SEARCHES: Mapping[Search, Sampler] = MappingProxyType(
    {
        "parity": beam_search,
        "radix": radix_search,
        "exact": exact_search,
        "unconstrained": unconstrained_beam,
    }
)


def find_search(search: Search) -> Sampler:
    """Return a search by name.

    Raises:
        ValueError: No search has this name.
    """
    if search not in SEARCHES:
        raise ValueError(f"`search` (={search!r}) must be one of {sorted(SEARCHES)}.")
    return SEARCHES[search]
