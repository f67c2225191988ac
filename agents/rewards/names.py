"""Rewards as text: `rere`, `hit+0.5*semantic`. Parsed here, made where a run has what they need.

A reward is a sum of terms, each a name with or without a weight: `rere + 0.1*collaborative`. The
names are those of `rere_env.rewards.REWARDS`, and those below, which need tables or a model.
"""

import math
import re
from collections.abc import Callable, Mapping
from typing import TypeAlias

from rere_env.rewards import REWARDS, collaborative, semantic, weighted_sum
from rere_env.types import Batch, FloatArray, Reward

__all__ = ["MADE", "make_reward", "parse_reward"]

MADE: Mapping[str, str] = {
    "semantic": "cosine of the embeddings of candidate and target",
    "collaborative": "score of the candidate by a SASRec, as it is (as released; may be hacked)",
    "collaborative_softmax": "its probability among all titles",
    "collaborative_min_max": "its place in the group, from 0 (worst) to 1 (best)",
}
"""Rewards that are made for a run."""

Scores: TypeAlias = Callable[[Batch], FloatArray]

_TERM = re.compile(
    r"\s*(?P<sign>[+-]?)\s*"
    r"(?:(?P<weight>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*\*\s*)?"
    r"(?P<name>[A-Za-z_]\w*)\s*"
)


def parse_reward(text: str) -> list[tuple[float, str]]:
    """Return the (weight, name) of each term.

    >>> parse_reward("hit + 0.5*semantic - .1*rank")
    [(1.0, 'hit'), (0.5, 'semantic'), (-0.1, 'rank')]

    Raises:
        ValueError: It is no such sum, or a name is unknown.
    """
    terms: list[tuple[float, str]] = []
    at = 0
    while at < len(text) or not terms:
        term = _TERM.match(text, at)
        if term is None or (terms and not term["sign"]):
            raise ValueError(
                f"`reward` (={text!r}) is not understood from {text[at:]!r} on; write a sum of "
                "terms such as 'rere', 'hit+0.5*semantic' or 'rere + 0.1*collaborative'."
            )
        if term["name"] not in _known():
            raise ValueError(
                f"`reward` (={text!r}): {term['name']!r} must be one of {_known()}; give weights "
                "as in 'hit+0.5*semantic'."
            )
        weight = float(term["sign"] + (term["weight"] or "1"))
        if not math.isfinite(weight):
            raise ValueError(f"`reward` (={text!r}): the weight {term['weight']} is too large.")
        terms.append((weight, term["name"]))
        at = term.end()
    return terms


def make_reward(
    text: str, embeddings: Callable[[], FloatArray], scores_of: Callable[[], Scores]
) -> Reward:
    """Make the reward that a text describes.

    Args:
        text: As `parse_reward` reads it.
        embeddings: Returns the table [titles, D] of `semantic`; called once, if at all.
        scores_of: Returns the scores of a trained sequence model; called once, if at all.
    """
    terms = parse_reward(text)
    made: dict[str, Reward] = dict(REWARDS)
    names = {name for _, name in terms}
    if "semantic" in names:
        made["semantic"] = semantic(embeddings())
    if scaled := [name for name in MADE if name in names and name.startswith("collaborative")]:
        scores = scores_of()
        for name in scaled:
            made[name] = _collaborative(scores, name)
    if terms[0][0] == 1 and len(terms) == 1:
        return made[terms[0][1]]
    return weighted_sum(*((weight, made[name]) for weight, name in terms))


def _collaborative(scores: Scores, name: str) -> Reward:
    if name == "collaborative_softmax":
        return collaborative(scores, "softmax", name)
    if name == "collaborative_min_max":
        return collaborative(scores, "min_max", name)
    return collaborative(scores, "raw", name)


def _known() -> list[str]:
    return [*sorted(REWARDS), *MADE]
