"""The peers: the same environment as one would write it at first, with a dict trie and lists.

Plain Python, one object a row; masks dense, or the legal tokens as a list. Run under the vector
environments of Gymnasium, Stable-Baselines3 and Tianshou. The yardstick of `steps.py`, which
asserts equal results before it measures.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from rere_env.task import Task
from rere_env.types import NO_ITEM

__all__ = ["DictTrieEnv", "PeerMask", "dict_trie"]

PeerMask = Literal["none", "ragged", "dense"]
"""What the peer makes of its legal tokens at every step."""


def dict_trie(task: Task) -> dict[str, Any]:
    """Return nested dicts of the titles; every node knows the titles below it."""
    root: dict[str, Any] = {"children": {}, "titles": set()}
    for title in range(task.catalogue.num_titles):
        node = root
        node["titles"].add(title)
        for token in task.title_tokens[title].tolist():
            node = node["children"].setdefault(token, {"children": {}, "titles": set()})
            node["titles"].add(title)
        node["title"] = title
    return root


class DictTrieEnv(gym.Env[dict[str, Any], np.int64]):
    """`ReReEnv` for masked play: on_illegal="terminate", reward hit + rank.

    Actions are the tokenizer's own ids (`wide=True`) or the catalogue's.
    """

    def __init__(
        self,
        task: Task,
        root: dict[str, Any],
        *,
        slate_size: int = 16,
        mask: PeerMask = "dense",
        wide: bool = False,
    ) -> None:
        """Take the nested dicts of `dict_trie(task)`.

        Args:
            task: Titles and users.
            root: Nested dicts of the titles.
            slate_size: K.
            mask: `dense` puts a mask into the infos, `ragged` keeps the legal actions as a list
                (Gymnasium's vectors cannot hand it on, which spares this side some work).
            wide: Actions are the tokenizer's own ids.
        """
        model_ids = task.title_tokens.local_model.tolist()
        self.to_local = {token: i for i, token in enumerate(model_ids)} if wide else None
        self.to_action = model_ids if wide else None
        self.item_title = task.catalogue.item_title.tolist()
        self.examples, self.slate_size, self.mask = task.split("train"), slate_size, mask
        num_tokens = task.title_tokens.num_tokens
        self.num_actions = task.tokenizer.vocab_size if wide else num_tokens
        self.history_length = task.history_length
        self.kept: list[int] = []
        self.length = task.trie.max_length - 1
        self.root = root
        num_titles = task.catalogue.num_titles
        self.action_space = spaces.Discrete(self.num_actions)
        self.observation_space = spaces.Dict(
            {
                "history": spaces.Box(0, num_titles, (self.history_length,), np.int64),
                "slate": spaces.Box(0, num_titles, (slate_size,), np.int64),
                "prefix": spaces.Box(0, num_tokens - 1, (self.length,), np.int64),
            }
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Draw an example."""
        super().reset(seed=seed)
        self.example = int(self.np_random.integers(len(self.examples)))
        items = self.examples.history[self.example].tolist()
        self.history = [self.item_title[item] for item in items if item != NO_ITEM]
        self.slate: list[int] = []
        self.prefix: list[int] = []
        self.node, self.over = self.root, False
        return self.observe(), self.info()

    def step(
        self, action: int | np.integer[Any]
    ) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Follow one token."""
        token, reward = int(action), 0.0
        if self.to_local is not None:
            token = self.to_local.get(token, -1)
        if self.over or not self.can_write(token):
            self.over, reward = True, -1.0
            return self.observe(), reward, True, False, self.info()
        if token == 0:
            self.slate.append(self.node["children"][0]["title"])
            self.prefix, self.node = [], self.root
            if len(self.slate) == self.slate_size:
                self.over, reward = True, self.score()
        else:
            self.prefix.append(token)
            self.node = self.node["children"][token]
        return self.observe(), reward, self.over, False, self.info()

    def can_write(self, token: int) -> bool:
        """Say whether a title is left below a token."""
        child = self.node["children"].get(token)
        if child is None:
            return False
        used = sum(title in child["titles"] for title in self.slate)
        return bool(used < len(child["titles"]))

    def legal(self) -> list[int]:
        """Return the tokens below which a title is left."""
        if self.over:
            return [0]
        if not self.slate:
            return list(self.node["children"])
        return [token for token in self.node["children"] if self.can_write(token)]

    def score(self) -> float:
        """Return hit + rank, summed."""
        target = int(self.examples.target_title[self.example])
        if target not in self.slate:
            return 0.0
        weights = [1 / math.log2(place + 2) for place in range(self.slate_size)]
        return weights[self.slate.index(target)] / sum(weights)

    def observe(self) -> dict[str, Any]:
        """Pad the lists."""
        return {
            "history": _padded([title + 1 for title in self.history], self.history_length),
            "slate": _padded([title + 1 for title in self.slate], self.slate_size),
            "prefix": _padded(self.prefix, self.length),
        }

    def info(self) -> dict[str, Any]:
        """Return the dense mask, if it was asked for."""
        if self.mask == "ragged":
            self.kept = self.legal_actions()
        return {"action_mask": self.action_masks()} if self.mask == "dense" else {}

    def legal_actions(self) -> list[int]:
        """Return the legal actions, in no order."""
        legal = self.legal()
        return legal if self.to_action is None else [self.to_action[token] for token in legal]

    def action_masks(self) -> NDArray[np.int8]:
        """Return the dense mask, as MaskablePPO asks for it."""
        mask = np.zeros(self.num_actions, np.int8)
        mask[self.legal_actions()] = 1
        return mask


def _padded(values: Sequence[int], length: int) -> NDArray[np.int64]:
    return np.array([*values, *[0] * (length - len(values))], np.int64)
