"""Synthetic catalogues: the same everywhere, distinct, and with the trie of a real one."""

import hashlib

import numpy as np
import pytest

from agents.bench.engine.workload import NUM_TITLES, describe, make_task
from agents.bench.titles import synthetic_titles


@pytest.mark.parametrize("num_titles", [1, 7, 3_000])
def test_titles_are_distinct_and_as_many_as_asked_for(num_titles):
    """Titles that come out equal are made up for."""
    assert len(set(synthetic_titles(num_titles))) == num_titles


def test_titles_never_change():
    """Word for word: results are compared across machines."""
    assert synthetic_titles(2)[0].startswith("w5803 w628 w594 w4184 w2769")
    digest = hashlib.sha256("\n".join(synthetic_titles(500)).encode()).hexdigest()
    assert digest.startswith("c4a2575904db57d7")


def test_the_trie_is_that_of_a_real_catalogue():
    """Within a fifth of 11,198 Toys titles in a byte-level BPE of 8,192 (measured)."""
    real = {
        "tokens_per_title": 15.8,
        "trie_nodes": 134_507,
        "branching_nodes": 3_401,
        "nodes_with_two_titles": 6_579,
    }
    ours = describe(make_task())
    assert ours["titles"] == NUM_TITLES
    for name, value in real.items():
        assert ours[name] == pytest.approx(value, rel=0.2), name


def test_some_titles_are_prefixes_of_others():
    """A real catalogue has them, and searches must cope."""
    trie = make_task(num_titles=3_000).trie
    ends = trie.tokens == 0
    parent = trie.parents(1 + np.flatnonzero(ends))
    assert (trie.num_children(parent) > 1).sum() > 0
