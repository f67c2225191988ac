"""The deciding part of a trie in blocks, against paths walked one by one."""

import numpy as np
import pytest

from agents.trees.catalogue import blocks


def path_of(trie, node):
    """The nodes from below the root to a node."""
    path = []
    while node > 0:
        path.append(node)
        node = int(trie.parents(np.array([node]))[0])
    return path[::-1]


@pytest.mark.parametrize("max_tokens", [1, 2, 7, 1000])
def test_every_decision_is_in_one_block_behind_its_whole_path(max_tokens, many_titles):
    """Its ancestors within the block spell the tokens and depths of its path in the trie."""
    trie = many_titles.trie
    decided = []
    for block in blocks(trie, many_titles.tokens, max_tokens):
        assert len(block.tokens) <= max_tokens + trie.max_length
        for slot, node in zip(block.slots.tolist(), block.nodes.tolist(), strict=True):
            decided.append(node)
            ancestors = [i for i in range(slot + 1) if slot < block.ends[i]]
            path = np.array(path_of(trie, node), np.int64)
            tokens = many_titles.tokens.to_model_ids(trie.tokens[path - 1])
            assert block.tokens[ancestors].tolist() == tokens.tolist()
            assert block.depths[ancestors].tolist() == list(range(1, len(path) + 1))
    nodes = np.arange(trie.num_nodes)
    assert sorted(decided) == nodes[trie.num_children(nodes) > 1].tolist()


def test_what_is_forced_is_not_read(few_titles):
    """Of seven titles only "red", "red fox" and "green" have two or more below."""
    [block] = blocks(few_titles.trie, few_titles.tokens, 100)
    words = few_titles.model_ids(2)  # red fox runs
    green = few_titles.model_ids(5)[0]
    assert sorted(block.tokens.tolist()) == sorted([words[0], words[1], green])


def test_a_catalogue_that_one_word_decides_has_one_empty_block(titles_of):
    """Only the root is asked."""
    world = titles_of(["ant", "bee"])
    [block] = blocks(world.trie, world.tokens, 100)
    assert len(block.tokens) == 0
    assert block.slots.tolist() == [-1]
    assert block.nodes.tolist() == [0]


def test_a_block_holds_at_least_one_token(few_titles):
    """The message names the value."""
    with pytest.raises(ValueError, match=r"`max_tokens` \(=0\)"):
        list(blocks(few_titles.trie, few_titles.tokens, 0))
