"""Candidates of a policy: searches and samplers with one signature.

`beam_search` finds what Hugging Face's constrained beam search finds, title for title;
`radix_search` what beams find that advance decision by decision, with the fewest forward passes;
`exact_search` the most probable titles, with a certificate. `sample` draws; `sample_distinct`
prefers distinct titles; `with_target(sampler)` sees that the target is among the candidates.
These keep to the catalogue, on one engine. `sample_unconstrained` and `unconstrained_beam` do not:
they measure how often a policy would leave it.

A new one is a file of this folder and a line of a table. The tables hold names, not functions, so
that `rere --help` can list them without torch.
"""

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agents.search.beam import beam_search
    from agents.search.best_first import exact_search, radix_search
    from agents.search.sampling import sample, sample_distinct, with_target
    from agents.search.unconstrained import sample_unconstrained, unconstrained_beam
    from agents.types import Sampler

__all__ = [
    "SAMPLERS",
    "SEARCHES",
    "beam_search",
    "exact_search",
    "find_sampler",
    "find_search",
    "radix_search",
    "sample",
    "sample_distinct",
    "sample_unconstrained",
    "unconstrained_beam",
    "with_target",
]

SAMPLERS: Mapping[str, str] = MappingProxyType(
    {
        "beam": "beam:beam_search",
        "radix": "best_first:radix_search",
        "exact": "best_first:exact_search",
        "sample": "sampling:sample",
        "sample_distinct": "sampling:sample_distinct",
        "sample_unconstrained": "unconstrained:sample_unconstrained",
        "beam_with_target": "sampling:beam_with_target",
        "sample_distinct_with_target": "sampling:sample_distinct_with_target",
    }
)
"""What writes the candidates to learn from, by the names that `rere train --sampler` takes."""

SEARCHES: Mapping[str, str] = MappingProxyType(
    {
        "beam": "beam:beam_search",
        "radix": "best_first:radix_search",
        "exact": "best_first:exact_search",
        "unconstrained": "unconstrained:unconstrained_beam",
    }
)
"""What ranks titles, by the names of `rere evaluate --search`; the last finds more than titles."""

_HOMES = ("beam", "best_first", "sampling", "unconstrained")


def find_sampler(sampler: str) -> "Sampler":
    """Return a sampler by name.

    Raises:
        ValueError: No sampler has this name.
    """
    return _find("sampler", sampler, SAMPLERS)


def find_search(search: str) -> "Sampler":
    """Return a search by name.

    Raises:
        ValueError: No search has this name.
    """
    return _find("search", search, SEARCHES)


def _find(option: str, name: str, table: Mapping[str, str]) -> "Sampler":
    if name not in table:
        raise ValueError(f"`{option}` (={name!r}) must be one of {sorted(table)}.")
    module, _, attribute = table[name].partition(":")
    found: Sampler = getattr(import_module(f"agents.search.{module}"), attribute)
    return found


def __getattr__(name: str) -> object:
    """Load a public function from the module that defines it."""
    if name in __all__:
        for home in _HOMES:
            module = import_module(f"agents.search.{home}")
            if name in module.__all__:
                return globals().setdefault(name, getattr(module, name))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
