"""A cache written in place against one that is concatenated."""

import pytest
import torch
from transformers import DynamicCache

from agents.language_model.cache import TreeCache, folded, shrink


def read(cache: DynamicCache, rows: int, slots: int, seed: int):
    """Let two layers append random keys and values; return what each then sees."""
    numbers = torch.Generator().manual_seed(seed)
    seen = []
    for layer in range(2):
        keys, values = torch.randn(2, rows, 3, slots, 5, generator=numbers)
        seen.append(cache.update(keys, values, layer))
    return seen


def filled(rows: int, slots: int) -> TreeCache:
    """What a model has read of some prompts."""
    keys = DynamicCache()
    read(keys, rows, slots, 0)
    return TreeCache(keys=keys, positions=torch.arange(slots).expand(rows, -1))


def test_slots_are_appended_as_by_concatenation():
    """Through several enlargements of the buffers."""
    plain, cache = filled(4, 3), folded(filled(4, 3), 4)
    for seed, slots in enumerate((1, 2, 30, 1, 5), start=1):
        expected, ours = (read(c.keys, 4, slots, seed) for c in (plain, cache))
        for (k, v), (other_k, other_v) in zip(ours, expected, strict=True):
            assert torch.equal(k, other_k)
            assert torch.equal(v, other_v)
    assert cache.keys.get_seq_length() == 3 + 1 + 2 + 30 + 1 + 5


def test_what_was_read_later_can_be_forgotten():
    """Time and again: the prompt's slots stay as they were."""
    cache = folded(filled(2, 4), 2)
    before = [layer.keys.clone() for layer in cache.keys.layers]
    for seed in (1, 2):
        read(cache.keys, 2, 7, seed)
        shrink(cache, 4)
        assert cache.keys.get_seq_length() == 4
        assert cache.num_slots == 4
        for layer, keys in zip(cache.keys.layers, before, strict=True):
            assert torch.equal(layer.keys, keys)


def test_prompts_lie_side_by_side_in_a_row():
    """Row 1 of two holds the slots of prompts 2 and 3."""
    plain = filled(4, 3)
    cache = folded(plain, 2)
    assert cache.positions.tolist() == [[0, 1, 2, 0, 1, 2]] * 2
    for ours, theirs in zip(cache.keys.layers, plain.keys.layers, strict=True):
        assert torch.equal(ours.keys[1, :, :3], theirs.keys[2])
        assert torch.equal(ours.values[1, :, 3:], theirs.values[3])


def test_other_kinds_of_memory_are_refused():
    """A layer without keys and values of every slot cannot be read as a tree."""
    cache = filled(2, 3)
    cache.keys.layers[1] = object()
    with pytest.raises(TypeError, match="cannot be read as a tree"):
        folded(cache, 1)
