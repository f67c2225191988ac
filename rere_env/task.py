"""A task: catalogue, trie, examples, prompt and reward. What environments and agents share.

Everything here is immutable, so one task can stand behind any number of environments and agents.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from rere_env.catalogue import Catalogue, TitleTokens
from rere_env.data import GAMES, ORIGINS, Dataset, find_data, games_dataset, load_dataset
from rere_env.filters import Exclude, Filter, Hidden, find_filter, hidden_titles
from rere_env.prompts import Prompt, Prompts, compact_prompt
from rere_env.rewards import REWARDS
from rere_env.tokenizer import HFTokenizer, Tokenizer, WordTokenizer
from rere_env.trie import Trie
from rere_env.types import Batch, BoolArray, Reward

__all__ = ["Task", "find_reward", "load_task"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Task:
    """Recommendation as writing a title.

    Attributes:
        dataset: Catalogue and splits.
        tokenizer: Text <-> token ids of the policy.
        title_tokens: The titles as local token ids.
        trie: Their prefix tree, title id = leaf.
        prompt: History item ids -> prompt token ids.
        reward: Scores a ranked group of titles.
        exclude: Hides titles from users; None hides nothing. The same in masks, search, loss and
            evaluation.
    """

    dataset: Dataset
    tokenizer: Tokenizer
    title_tokens: TitleTokens
    trie: Trie
    prompt: Prompt
    reward: Reward
    exclude: Filter | None = None

    @classmethod
    def build(
        cls,
        dataset: Dataset,
        *,
        tokenizer: Tokenizer | None = None,
        reward: str | Reward = "rere",
        prompt: Callable[[Catalogue, TitleTokens, Tokenizer], Prompt] = compact_prompt,
        exclude: Exclude = None,
    ) -> "Task":
        """Tokenise the catalogue and build its trie.

        Args:
            dataset: From `load_dataset` or `games_dataset`.
            tokenizer: Default: one token a word, from the titles.
            reward: A name of `rere_env.rewards.REWARDS` or a function.
            prompt: Makes the prompt function once the titles have tokens.
            exclude: Titles to hide: "history", a list of unavailable item keys, or a `Filter`.
        """
        tokenizer = tokenizer or WordTokenizer.from_titles(dataset.catalogue.titles)
        tokens = dataset.catalogue.tokenize(tokenizer)
        return cls(
            dataset=dataset,
            tokenizer=tokenizer,
            title_tokens=tokens,
            trie=Trie.from_sequences(tokens.indptr, tokens.tokens, tokens.num_tokens),
            prompt=prompt(dataset.catalogue, tokens, tokenizer),
            reward=find_reward(reward),
            exclude=find_filter(exclude),
        )

    def __deepcopy__(self, memo: dict[int, object]) -> "Task":
        """Return itself: a task is immutable, and Gymnasium deep-copies specs often."""
        return self

    @property
    def catalogue(self) -> Catalogue:
        """What can be recommended."""
        return self.dataset.catalogue

    @property
    def splits(self) -> Mapping[str, Batch]:
        """Examples by split name: train, valid, test and whatever else the data holds."""
        return self.dataset.splits

    @property
    def history_length(self) -> int:
        """H, the longest history an example may have."""
        return self.dataset.history_length

    def split(self, name: str) -> Batch:
        """Return the examples of a split.

        Raises:
            ValueError: There is no such split, or it is empty.
        """
        if name not in self.splits:
            raise ValueError(
                f"`split` (={name!r}) must be one of {sorted(self.splits)} "
                f"for the data set {self.dataset.name!r}."
            )
        if len(self.splits[name]) == 0:
            raise ValueError(f"the split {name!r} of {self.dataset.name!r} holds no example.")
        return self.splits[name]

    def with_reward(self, reward: str | Reward) -> "Task":
        """Return the same task under another reward."""
        return replace(self, reward=find_reward(reward))

    def with_exclude(self, exclude: Exclude) -> "Task":
        """Return the same task with other titles hidden (None: none)."""
        return replace(self, exclude=find_filter(exclude))

    def prompts(self, batch: Batch) -> Prompts:
        """Return what a policy reads for examples, what is hidden from them, their targets."""
        return Prompts(
            [self.prompt(example.history) for example in batch],
            hidden=self.hidden(batch),
            targets=batch.target_title.astype(np.int64),
        )

    def hidden(self, batch: Batch) -> Hidden | None:
        """Return the titles hidden from each example, from everybody or from it; None: none."""
        if self.exclude is None:
            return None
        return hidden_titles(self.exclude, self.catalogue, batch)

    def hides_target(self, batch: Batch) -> BoolArray:
        """Say of each example whether its own target is hidden from it."""
        if (hidden := self.hidden(batch)) is None:
            return np.zeros(len(batch), np.bool_)
        return hidden.marks(batch.target_title[:, None], self.trie.num_titles)[:, 0]

    def decode_title(self, title: int) -> str:
        """Return the text of a title id, as the catalogue writes it."""
        return self.catalogue.titles[title]


def load_task(
    data: str | Path = GAMES,
    *,
    tokenizer: Tokenizer | str | None = None,
    reward: str | Reward = "rere",
) -> Task:
    """Return the built-in world or a data set as a task; the same call again costs nothing.

    Args:
        data: `"games"`, a name that `find_data` knows ("toys", "yelp", ...) or a folder.
        tokenizer: Default: one token a word. A hub id or folder loads an `HFTokenizer`.
        reward: A name of `rere_env.rewards.REWARDS` or a function.
    """
    if str(data) in ORIGINS:
        data = find_data(str(data))
    if str(data) == GAMES:
        stamp: tuple[object, ...] = ()
    else:
        data = Path(data).resolve()
        stamp = tuple((f.name, f.stat().st_mtime_ns) for f in sorted(data.glob("*")))
    if tokenizer is None or isinstance(tokenizer, str):
        return _cached_task(str(data), tokenizer, stamp).with_reward(reward)
    return Task.build(_dataset(str(data)), tokenizer=tokenizer, reward=reward)


def find_reward(reward: str | Reward) -> Reward:
    """Return a reward by name, or the function itself.

    Raises:
        ValueError: No reward has this name.
    """
    if callable(reward):
        return reward
    if reward not in REWARDS:
        raise ValueError(
            f"`reward` (={reward!r}) must be one of {sorted(REWARDS)} or a function "
            "`(titles [B, G], batch) -> float32 [B, G]`."
        )
    return REWARDS[reward]


@lru_cache(maxsize=4)
def _cached_task(data: str, tokenizer: str | None, stamp: tuple[object, ...]) -> Task:
    """Build a task once; `stamp` changes when the files do."""
    loaded = None if tokenizer is None else HFTokenizer.from_pretrained(tokenizer)
    return Task.build(_dataset(data), tokenizer=loaded)


def _dataset(data: str) -> Dataset:
    return games_dataset() if data == GAMES else load_dataset(Path(data))
