"""The prefix tree over token ids, and what is shown below its nodes.

Knows nothing of text, users or torch.
"""

from rere_env.trie.build import EOS
from rere_env.trie.shown import HiddenLeaves, ShownTitles, hidden_leaves
from rere_env.trie.trie import Children, Trie

__all__ = ["EOS", "Children", "HiddenLeaves", "ShownTitles", "Trie", "hidden_leaves"]
