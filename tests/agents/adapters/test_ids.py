"""What a small network reads of an observation."""

import torch

from agents.adapters.ids import IdEmbedding


def test_the_last_item_is_always_in_the_same_place():
    """Short histories move to the end; empty places are zeros; titles share a table."""
    ids = IdEmbedding(7, 10, 5)
    title, token, empty = ids.titles.weight, ids.tokens.weight, torch.zeros(5)
    read = ids(
        torch.tensor([[7, 2, 0], [1, 2, 3], [0, 0, 0]]),
        torch.tensor([[2, 0], [0, 0], [4, 1]]),
        torch.tensor([[9, 1], [0, 0], [3, 0]]),
    )
    expected = [
        [empty, title[7], title[2], title[2], empty, token[9], token[1]],
        [title[1], title[2], title[3], empty, empty, empty, empty],
        [empty, empty, empty, title[4], title[1], token[3], empty],
    ]
    torch.testing.assert_close(read, torch.stack([torch.cat(row) for row in expected]))
