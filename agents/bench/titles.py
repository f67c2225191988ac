"""Synthetic catalogues of any size: deterministic, offline, with the trie of a real one.

The statistics are those of 11,198 distinct Amazon titles ("Toys and Games") in a byte-level BPE of
8,192 tokens: how many prefixes each level of the trie has, how many of them branch, how long titles
are. One word stands for one token. Everything follows from hashes of small integers: titles are the
same everywhere.
"""

import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["NUM_WORDS", "synthetic_titles"]

Hash = NDArray[np.uint64]

NUM_WORDS = 8_191
"""Different words, so that with EOS there are 8,192 tokens."""

# A prefix with n titles below hands them to ceil(m) tokens, each title to token floor(m u^s), where
# u is uniform: m grows with n, and the larger s, the more titles share the first tokens. Deeper
# prefixes are forced (all titles go to one token) with probability FORCED.
OPENERS, OPENERS_SKEW = 3, 6.8
FIRST_WORDS, FIRST_WORDS_POWER, FIRST_WORDS_SKEW = 1.06, 0.7, 4.0
WORDS, WORDS_SKEW, FORCED = 4.2, 4.25, 0.35
MEDIAN_LENGTH, LENGTH_SPREAD, MAX_LENGTH = 12.7, 0.4, 60  # words, log-normal


def synthetic_titles(num_titles: int) -> list[str]:
    """Return distinct titles of one word a token.

    >>> [len(synthetic_titles(n)) for n in (1, 500)]
    [1, 500]
    """
    surplus = num_titles + num_titles // 50 + 8  # a few come out equal
    words = [f"w{token}" for token in range(NUM_WORDS)]
    rows, length = _tokens(surplus)
    titles = dict.fromkeys(
        " ".join([words[token] for token in row[:n]])
        for row, n in zip(rows.tolist(), length.tolist(), strict=True)
    )
    return list(titles)[:num_titles]


def _tokens(num_titles: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return tokens [I, longest] and the length of each title [I]."""
    title = np.arange(num_titles, dtype=np.uint64)
    normal = np.sqrt(-2 * np.log(1 - _unit(_mix(title, 1))))
    normal *= np.cos(2 * math.pi * _unit(_mix(title, 2)))
    length = np.rint(MEDIAN_LENGTH * np.exp(LENGTH_SPREAD * normal)).astype(np.int64) + 1
    length = np.minimum(length, MAX_LENGTH)
    tokens = np.zeros((num_titles, int(length.max())), np.int32)
    prefix = np.zeros(num_titles, np.uint64)  # a hash of all words so far
    for depth in range(tokens.shape[1]):
        rows = np.flatnonzero(length > depth)
        choice = _choice(title[rows], prefix[rows], depth)
        prefix[rows] = _mix(prefix[rows], choice + np.uint64(1))
        tokens[rows, depth] = prefix[rows] % np.uint64(NUM_WORDS)
    return tokens, length


def _choice(title: Hash, prefix: Hash, depth: int) -> Hash:
    """Return which of its prefix's continuations each title takes."""
    _, node, count = np.unique(prefix, return_inverse=True, return_counts=True)
    num_titles = count[node]
    if depth == 0:
        width, skew = np.full(len(title), float(OPENERS)), OPENERS_SKEW
    elif depth == 1:
        width, skew = FIRST_WORDS * num_titles**FIRST_WORDS_POWER, FIRST_WORDS_SKEW
    else:
        is_forced = _unit(_mix(prefix, 4)) < FORCED
        width, skew = np.where(is_forced, 1.0, WORDS * num_titles), WORDS_SKEW
    uniform = _unit(_mix(title, 3 + 8 * depth))
    choice = np.floor(np.ceil(width) * uniform**skew)
    return np.where(num_titles == 1, 0.0, choice).astype(np.uint64)


def _mix(first: Hash, second: int | Hash) -> Hash:
    """Hash pairs of 64-bit numbers (the finaliser of SplitMix64, twice)."""
    mixed = np.full(len(first), 0x9E3779B97F4A7C15, np.uint64)
    for part in (first, np.asarray(second, np.uint64)):
        mixed = (mixed ^ part) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(31))) * np.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> np.uint64(29)
    return mixed


def _unit(hashed: Hash) -> NDArray[np.float64]:
    """Return numbers in [0, 1)."""
    return (hashed >> np.uint64(11)).astype(np.float64) * 2.0**-53
