"""The trie on a device against the trie in NumPy."""

import numpy as np
import torch


def test_edges_are_the_children_of_the_numpy_trie(many_titles):
    """Owners, model tokens and children agree for a handful of nodes, leaves included."""
    trie, device_trie = many_titles.trie, many_titles.torch_trie()
    nodes = np.array([0, 5, trie.num_nodes - 1, 1, 5])
    indptr, tokens, children = trie.children(nodes)
    edges = device_trie.edges(torch.from_numpy(nodes))
    assert edges.owner.tolist() == np.repeat(np.arange(5), np.diff(indptr)).tolist()
    assert edges.token.tolist() == many_titles.tokens.to_model_ids(tokens).tolist()
    assert edges.child.tolist() == children.tolist()
    assert edges.first.tolist() == indptr[:-1].tolist()
    assert device_trie.num_children(torch.from_numpy(nodes)).tolist() == np.diff(indptr).tolist()


def test_a_leaf_knows_its_title_and_an_inner_node_none(few_titles):
    """Each title is the leaf at the end of its path."""
    device_trie = few_titles.torch_trie()
    leaves = few_titles.trie.leaf_node[few_titles.trie.title_leaf]
    assert device_trie.leaf_title[torch.from_numpy(leaves)].tolist() == list(range(7))
    assert int((device_trie.leaf_title >= 0).sum()) == device_trie.num_titles == 7


def test_edges_carry_the_ids_of_the_model(few_titles):
    """A word's token is the tokenizer's, not the dense local id."""
    root = few_titles.torch_trie().edges(torch.tensor([0]))
    first_words = {few_titles.model_ids(title)[0] for title in range(7)}
    assert set(root.token.tolist()) == first_words
