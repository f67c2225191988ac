"""The trie on a device against the trie in NumPy."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from agents.trees import TorchShown
from rere_env.filters import Hidden
from rere_env.prompts import Prompts
from rere_env.trie import ShownTitles


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


def test_a_dead_node_has_no_edges(few_titles):
    """With the total known, only the children of live nodes are laid out."""
    device_trie = few_titles.torch_trie()
    all_three = device_trie.edges(torch.tensor([0, 1, 0]))
    live = torch.tensor([True, False, True])
    width = device_trie.root_width
    edges = device_trie.known_edges(torch.tensor([0, 1, 0]), 2 * width, live)
    assert edges.owner.tolist() == [0] * width + [2] * width
    assert edges.child.tolist() == all_three.child[all_three.owner != 1].tolist()


def test_a_leaf_knows_its_title(few_titles):
    """Each title is the leaf at the end of its path."""
    device_trie = few_titles.torch_trie()
    leaves = torch.from_numpy(few_titles.trie.leaf_node[few_titles.trie.title_leaf])
    assert device_trie.leaf_title[device_trie.lo[leaves]].tolist() == list(range(7))
    assert device_trie.num_titles == 7


def test_edges_carry_the_ids_of_the_model(few_titles):
    """A word's token is the tokenizer's, not the dense local id."""
    root = few_titles.torch_trie().edges(torch.tensor([0]))
    first_words = {few_titles.model_ids(title)[0] for title in range(7)}
    assert set(root.token.tolist()) == first_words
    assert device_width(few_titles) == len(first_words)


def device_width(world):
    """Children of the root, as the device knows them."""
    return world.torch_trie().root_width


def test_what_is_read_from_a_node_is_a_slice(many_titles):
    """Its own token and the forced ones up to the next decision; never the EOS of a leaf."""
    trie, device_trie = many_titles.trie, many_titles.torch_trie()
    for node in range(1, trie.num_nodes):
        if trie.is_leaf(np.array([node]))[0]:
            continue
        path = [node]
        while trie.num_children(np.array([path[-1]]))[0] == 1:
            path.append(int(trie.first[path[-1]]) + 1)
        path = [n for n in path if not trie.is_leaf(np.array([n]))[0]]
        start, count = int(device_trie.place[node]), int(device_trie.num_read[node])
        assert device_trie.read_node[start : start + count].tolist() == path
        tokens = many_titles.tokens.to_model_ids(trie.tokens[np.array(path) - 1])
        assert device_trie.read_token[start : start + count].tolist() == tokens.tolist()
        assert int(device_trie.last_read(torch.tensor(node))) == path[-1]


@given(data=st.data())
def test_shown_titles_are_counted_below_every_node(data, many_titles):
    """Any hidden sets, repeats among them, against sets in Python."""
    trie = many_titles.trie
    titles = st.lists(st.integers(0, 199), max_size=30)
    own, gone = data.draw(st.lists(titles, min_size=3, max_size=3)), data.draw(titles)
    kept = Hidden.from_lists([np.array(row, np.int64) for row in own], everybody=gone)
    hidden = [row + gone for row in own]
    shown = TorchShown(many_titles.torch_trie(), Prompts([[1]] * 3, hidden=kept))
    on_the_cpu = ShownTitles(trie, kept)
    nodes = np.arange(trie.num_nodes)
    for row in range(3):
        rows = torch.full((trie.num_nodes,), row)
        count = shown.num_titles(rows, torch.from_numpy(nodes)).tolist()
        assert on_the_cpu.num_titles(rows.numpy(), nodes).tolist() == count
        first = shown.title(rows, torch.from_numpy(nodes)).tolist()
        for node in nodes:
            below = trie.leaf_title[trie.lo[node] : trie.hi[node]].tolist()
            left = [title for title in below if title not in hidden[row]]
            assert count[node] == len(left)
            assert not left or first[node] == left[0]
        visible = shown.titles()[row].tolist()
        assert visible == [title not in hidden[row] for title in range(200)]


def test_nothing_hidden_shows_everything(few_titles):
    """None, or an empty set for each prompt."""
    trie = few_titles.torch_trie()
    for hidden in (None, Hidden.from_lists([[], []])):
        shown = TorchShown(trie, Prompts([[1]] * 2, hidden=hidden))
        assert not shown.hides
        assert shown.titles().all()
        assert shown.num_titles(torch.tensor(1), torch.tensor(0)) == 7


def test_impossible_hidden_sets_are_refused(few_titles):
    """One set a prompt, of title ids that exist."""
    trie = few_titles.torch_trie()
    with pytest.raises(ValueError, match=r"`hidden` \(of 1\) needs the title ids of each of the 2"):
        Prompts([[1]] * 2, hidden=Hidden.from_lists([[0]]))
    with pytest.raises(ValueError, match=r"`hidden` names title 7 for prompt 1"):
        TorchShown(trie, Prompts([[1]] * 2, hidden=Hidden.from_lists([[0], [7]])))
    with pytest.raises(ValueError, match=r"`hidden` names title 9 for prompt 0"):
        TorchShown(trie, Prompts([[1]] * 2, hidden=Hidden.from_lists([[0], []], everybody=[9])))
    with pytest.raises(ValueError, match="title ids, from 0"):
        Hidden.from_lists([[0], [-1]])
