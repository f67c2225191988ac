"""The peer: the same environment as one would write it at first, with a dict trie and lists.

Plain Python, one object a row, dense masks; run under Gymnasium's `SyncVectorEnv`. It is the
yardstick of `bench_env.py`, which asserts equal results before it measures.
"""

import math
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from rere_env import NO_ITEM, Task


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


class DictTrieEnv(gym.Env):
    """`ReReEnv` for masked play: on_illegal="terminate", reward hit + rank, local token ids."""

    def __init__(
        self, task: Task, root: dict[str, Any], *, slate_size: int = 16, mask: bool = True
    ) -> None:
        """Take the nested dicts of `dict_trie(task)`; `mask=False` leaves the dense masks out."""
        self.item_title = task.catalogue.item_title.tolist()
        self.examples, self.slate_size, self.mask = task.split("train"), slate_size, mask
        self.num_tokens = task.title_tokens.num_tokens
        self.history_length = task.history_length
        self.length = task.trie.max_length - 1
        self.root = root
        num_titles = task.catalogue.num_titles
        self.action_space = spaces.Discrete(self.num_tokens)
        self.observation_space = spaces.Dict(
            {
                "history": spaces.Box(0, num_titles, (self.history_length,), np.int64),
                "slate": spaces.Box(0, num_titles, (slate_size,), np.int64),
                "prefix": spaces.Box(0, self.num_tokens - 1, (self.length,), np.int64),
            }
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Draw an example."""
        super().reset(seed=seed)
        self.example = int(self.np_random.integers(len(self.examples)))
        items = self.examples.history[self.example].tolist()
        self.history = [self.item_title[item] for item in items if item != NO_ITEM]
        self.slate: list[int] = []
        self.prefix: list[int] = []
        self.node, self.over = self.root, False
        return self.observe(), self.info()

    def step(self, action: int) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """Follow one token."""
        token, reward = int(action), 0.0
        if token not in self.legal():
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

    def legal(self) -> list[int]:
        """Return the tokens below which a title is left."""
        if self.over:
            return [0]
        legal = []
        for token, child in self.node["children"].items():
            used = sum(title in child["titles"] for title in self.slate)
            if used < len(child["titles"]):
                legal.append(token)
        return legal

    def score(self) -> float:
        """Return hit + rank, summed."""
        target = int(self.examples.target_title[self.example])
        if target not in self.slate:
            return 0.0
        weights = [1 / math.log2(place + 2) for place in range(self.slate_size)]
        return weights[self.slate.index(target)] / sum(weights)

    def observe(self) -> dict[str, np.ndarray]:
        """Pad the lists."""
        return {
            "history": _padded([title + 1 for title in self.history], self.history_length),
            "slate": _padded([title + 1 for title in self.slate], self.slate_size),
            "prefix": _padded(self.prefix, self.length),
        }

    def info(self) -> dict[str, Any]:
        """Return the dense mask."""
        if not self.mask:
            return {}
        mask = np.zeros(self.num_tokens, np.int8)
        mask[self.legal()] = 1
        return {"action_mask": mask}


def _padded(values: list[int], length: int) -> np.ndarray:
    return np.array(values + [0] * (length - len(values)), np.int64)
