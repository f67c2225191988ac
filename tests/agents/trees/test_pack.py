"""Prefix-tree packing against a plain set of prefixes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.trees.pack import pack, parts_of_similar_length

# Few tokens, so that prefixes are often shared; rows are what is left of them, without gaps.
SEQUENCES = st.lists(
    st.tuples(st.integers(0, 3), st.lists(st.integers(0, 2), min_size=1, max_size=6)),
    min_size=1,
    max_size=12,
)


def rows_and_sequences(drawn):
    """Number the rows 0..R - 1."""
    rows = np.unique([row for row, _ in drawn], return_inverse=True)[1]
    return rows, [sequence for _, sequence in drawn]


@given(SEQUENCES)
def test_every_prefix_is_one_node_that_sees_its_own_prefixes(drawn):
    """Nodes, tokens, positions, visibility, sizes and slots are those of the set of prefixes."""
    rows, sequences = rows_and_sequences(drawn)
    packed = pack(sequences, rows)
    prefixes = {
        (row, tuple(sequence[: n + 1]))
        for row, sequence in zip(rows, sequences, strict=True)
        for n in range(len(sequence))
    }
    node_of = {}
    for row, sequence, slots in zip(rows, sequences, packed.slots, strict=True):
        assert (slots[len(sequence) :] == -1).all()
        for n in range(len(sequence)):
            prefix = (row, tuple(sequence[: n + 1]))
            assert node_of.setdefault(prefix, slots[n]) == slots[n]
            assert packed.tokens[row, slots[n]] == sequence[n]
            assert packed.positions[row, slots[n]] == n
    assert set(node_of) == prefixes
    for row, size in enumerate(packed.sizes):
        nodes = {slot: prefix for (r, prefix), slot in node_of.items() if r == row}
        assert sorted(nodes) == list(range(size))
        width = packed.tokens.shape[1]
        for i in range(width):
            sees = {j for j in range(i + 1) if i < packed.ends[row, j]}
            if i >= size:
                assert sees == {i}
            else:
                own = nodes[i]
                assert {nodes[j] for j in sees} == {own[: n + 1] for n in range(len(own))}
    assert packed.tokens.shape[1] == packed.sizes.max()


def test_one_row_is_the_default():
    """Without rows all sequences share a tree."""
    packed = pack([[1], [1, 2], [3]])
    assert packed.tokens.tolist() == [[1, 2, 3]]
    assert packed.positions.tolist() == [[0, 1, 0]]
    assert packed.ends.tolist() == [[2, 2, 3]]
    assert packed.slots.tolist() == [[0, -1], [0, 1], [2, -1]]


def test_equal_sequences_share_all_their_nodes():
    """A duplicate costs nothing."""
    packed = pack([[4, 5], [4, 5]])
    assert packed.sizes.tolist() == [2]
    assert packed.slots.tolist() == [[0, 1], [0, 1]]


def test_some_trees_need_less_padding():
    """Rows come in the order asked for, as wide as the largest of them."""
    packed = pack([[1, 2, 3, 4], [5], [6, 7]], [0, 1, 2])
    taken = packed.take(np.array([2, 1]))
    assert taken.tokens.tolist() == [[6, 7], [5, 0]]
    assert taken.positions.tolist() == [[0, 1], [0, 0]]
    assert taken.ends.tolist() == [[2, 2], [1, 2]]
    assert taken.sizes.tolist() == [2, 1]


@pytest.mark.parametrize("sequences", [[], [[1], []]])
def test_an_empty_sequence_is_refused(sequences):
    """There is nothing to predict from."""
    with pytest.raises(ValueError, match="at least one sequence and no empty one"):
        pack(sequences)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=30), st.integers(1, 200))
def test_parts_hold_each_row_once_within_the_budget(lengths, max_tokens):
    """Rows times the longest never exceeds the budget, unless a row alone does."""
    lengths = np.array(lengths)
    parts = parts_of_similar_length(lengths, max_tokens)
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(lengths)))
    for part in parts:
        assert len(part) == 1 or len(part) * lengths[part].max() <= max_tokens
