"""The trie against a slow dictionary."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rere_env import Catalogue, Trie, WordTokenizer
from rere_env.trie import EOS

WORDS = ["a", "b", "ab", '"', "''", "\t", "é", "日本", "🎲", "", "x y"]
titles_strategy = st.lists(
    st.lists(st.sampled_from(WORDS), min_size=1, max_size=5)
    .map(" ".join)
    .filter(lambda title: title.strip() != ""),
    min_size=1,
    max_size=25,
)


def build(sequences: list[list[int]], num_tokens: int = 9) -> Trie:
    """Build from Python lists that end with 0."""
    indptr = np.concatenate([[0], np.cumsum([len(s) for s in sequences])])
    return Trie.from_sequences(indptr, np.concatenate(sequences), num_tokens)


class DictTrie:
    """The oracle: every prefix maps to its set of next tokens and of titles."""

    def __init__(self, sequences: list[list[int]]) -> None:
        self.next: dict[tuple[int, ...], set[int]] = {}
        self.titles: dict[tuple[int, ...], set[int]] = {}
        for title, sequence in enumerate(sequences):
            for n in range(len(sequence) + 1):
                prefix = tuple(sequence[:n])
                self.titles.setdefault(prefix, set()).add(title)
                self.next.setdefault(prefix, set())
                if n < len(sequence):
                    self.next[prefix].add(sequence[n])


def node_of(trie: Trie, prefix: tuple[int, ...]) -> int:
    """Walk from the root."""
    node = np.array([0])
    for token in prefix:
        node = trie.step(node, np.array([token]))
    return int(node[0])


sequences_strategy = st.lists(
    st.lists(st.integers(1, 8), min_size=1, max_size=6).map(lambda s: (*s, 0)),
    min_size=1,
    max_size=30,
    unique=True,
).map(lambda rows: [list(row) for row in rows])


@given(sequences_strategy)
def test_the_trie_equals_a_dictionary(sequences):
    """Step, children, masks, leaf intervals and title counts agree at every prefix."""
    trie, oracle = build(sequences), DictTrie(sequences)
    assert trie.num_nodes == len(oracle.next)
    for prefix, expected in oracle.next.items():
        node = np.array([node_of(trie, prefix)])
        indptr, tokens, nodes = trie.children(node)
        assert tokens.tolist() == sorted(expected)
        assert indptr.tolist() == [0, len(expected)]
        assert np.flatnonzero(trie.mask(node)[0]).tolist() == sorted(expected)
        steps = trie.step(np.repeat(node, 12), np.arange(-1, 11))
        assert set((np.flatnonzero(steps >= 0) - 1).tolist()) == expected
        assert steps[steps >= 0].tolist() == nodes.tolist()
        assert bool(trie.is_leaf(node)[0]) == (not expected)
        lo, hi = int(trie.lo[node[0]]), int(trie.hi[node[0]])
        assert set(trie.leaf_title[lo:hi].tolist()) == oracle.titles[prefix]
        assert trie.num_titles_below(node)[0] == len(oracle.titles[prefix])
        assert trie.num_children(node)[0] == len(expected)


@given(sequences_strategy)
def test_chains_end_where_a_decision_or_a_title_is(sequences):
    """Following single children by hand gives `chain_end` and `chain_len`."""
    trie = build(sequences)
    for start in range(trie.num_nodes):
        node, length = start, 0
        while trie.num_children(np.array([node]))[0] == 1:
            node, length = int(trie.children(np.array([node])).nodes[0]), length + 1
        assert (trie.chain_end[start], trie.chain_len[start]) == (node, length)


@given(sequences_strategy)
def test_paths_spell_the_titles(sequences):
    """The nodes of a path are those that the tokens of the title step through."""
    trie = build(sequences)
    paths = trie.paths(np.arange(len(sequences)))
    for sequence, path in zip(sequences, paths, strict=True):
        expected = [node_of(trie, tuple(sequence[: n + 1])) for n in range(len(sequence))]
        assert path[: len(expected)].tolist() == expected
        assert not path[len(expected) :].any()
    leaves = paths[np.arange(len(sequences)), [len(s) - 1 for s in sequences]]
    assert trie.titles(leaves).tolist() == list(range(len(sequences)))
    assert trie.parents(paths[:, 0]).tolist() == [0] * len(sequences)


@given(titles_strategy)
@settings(max_examples=50)
def test_no_reachable_node_is_a_dead_end(titles):
    """Over prefix titles, duplicates, quotes, tabs and non-ASCII, every prefix can go on."""
    catalogue = Catalogue.from_items([str(i) for i in range(len(titles))], titles)
    tokens = catalogue.tokenize(WordTokenizer.from_titles(catalogue.titles))
    trie = Trie.from_sequences(tokens.indptr, tokens.tokens, tokens.num_tokens)
    nodes = np.arange(trie.num_nodes)
    leaf = trie.is_leaf(nodes)
    assert (trie.num_children(nodes)[~leaf] > 0).all()
    assert leaf.sum() == len(set(titles))
    assert (trie.tokens[nodes[leaf] - 1] == EOS).all()
    reached = trie.children(nodes).nodes
    assert sorted(reached.tolist()) == list(range(1, trie.num_nodes))


@given(sequences_strategy)
@settings(max_examples=20)
def test_nodes_are_numbered_level_by_level(sequences):
    """Keys increase strictly and the child of edge e is node e + 1."""
    trie = build(sequences)
    assert (np.diff(trie.keys) > 0).all()
    assert trie.max_length == max(map(len, sequences))
    assert trie.level_first[-1] == trie.num_nodes


def test_saving_and_loading_keeps_everything(tmp_path: Path):
    """A loaded trie has the same hash and arrays."""
    trie = build([[1, 2, 0], [1, 0], [3, 0]])
    trie.save(tmp_path / "trie.npz")
    loaded = Trie.load(tmp_path / "trie.npz")
    assert loaded.content_hash() == trie.content_hash()
    np.testing.assert_array_equal(loaded.lo, trie.lo)
    assert loaded.nbytes == trie.nbytes


def test_a_damaged_file_is_an_error(tmp_path: Path):
    """A file whose content differs from its hash is refused."""
    build([[1, 2, 0], [1, 0]]).save(tmp_path / "trie.npz")
    with np.load(tmp_path / "trie.npz") as file:
        arrays = dict(file)
    arrays["keys"] = arrays["keys"] + 1
    np.savez(tmp_path / "trie.npz", **arrays)
    with pytest.raises(ValueError, match="damaged, build the trie again"):
        Trie.load(tmp_path / "trie.npz")


def test_the_arrays_are_read_only():
    """A trie is shared, so nobody may write to it."""
    with pytest.raises(ValueError, match="read-only"):
        build([[1, 0]]).tokens[0] = 2


@pytest.mark.parametrize(
    ("sequences", "message"),
    [
        ([[1, 0], [1, 0]], "sequences 0 and 1 are equal"),
        ([[1, 2]], "must end with EOS"),
        ([[1, 0, 2, 0]], "may occur nowhere else"),
        ([[9, 0]], r"must lie in 0..8; got 0..9"),
    ],
)
def test_bad_sequences_are_errors(sequences, message):
    """Each bad input is named."""
    with pytest.raises(ValueError, match=message):
        build(sequences)


def test_a_trie_needs_a_title():
    """An empty catalogue is an error."""
    with pytest.raises(ValueError, match="at least one title"):
        Trie.from_sequences(np.array([0]), np.array([], np.int64), 3)


@given(sequences_strategy)
def test_depth_and_preorder_are_those_of_a_walk(sequences):
    """A walk that takes children in token order meets the nodes in pre-order."""
    trie, slow = build(sequences), DictTrie(sequences)
    walk = sorted(slow.next)  # a tuple sorts before those that begin with it
    nodes = np.array([node_of(trie, prefix) for prefix in walk])
    assert trie.depth(nodes).tolist() == [len(prefix) for prefix in walk]
    assert nodes[np.argsort(trie.preorder(nodes))].tolist() == nodes.tolist()
    assert trie.preorder(nodes).max() < trie.num_titles * trie.num_nodes
