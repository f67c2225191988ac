"""Everything is a prefix tree: titles of a group, windows of a user, a whole catalogue.

`pack`, `groups`, `users` and `catalogue` lay trees out in NumPy; `tensors` and `trie` put them on a
device.
"""

from agents.trees.groups import GroupTrees, group_sizes, longest_kept, num_kept, plan_groups
from agents.trees.pack import PackedTrees, Trees, pack, parts_of_similar_length
from agents.trees.tensors import Continuations, NextTokens, TreeTensors
from agents.trees.trie import Edges, TorchShown, TorchTrie
from agents.trees.users import SFTBatch, plan_completions, plan_users, user_batches

__all__ = [
    "Continuations",
    "Edges",
    "GroupTrees",
    "NextTokens",
    "PackedTrees",
    "SFTBatch",
    "TorchShown",
    "TorchTrie",
    "TreeTensors",
    "Trees",
    "group_sizes",
    "longest_kept",
    "num_kept",
    "pack",
    "parts_of_similar_length",
    "plan_completions",
    "plan_groups",
    "plan_users",
    "user_batches",
]
