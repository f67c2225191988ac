"""What the benchmarks of the engine measure on: a catalogue, a model, users with prompts.

By default everything is synthetic and the same everywhere: 11,252 titles (`titles.py`), a random
small Qwen2 or one in the shape of Qwen2-0.5B, prompts of random tokens. A folder with an `items`
file gives a real catalogue, in a byte-level BPE of 8,192 tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from agents.bench.engine.models import HALF_B_VOCAB_SIZE, VOCAB_SIZE, Shape
from agents.bench.engine.scores import ScoredLanguageModel, UserScores
from agents.bench.titles import NUM_WORDS, synthetic_titles
from agents.policy import Policy, train_tokenizer
from agents.trees import TorchTrie
from agents.types import Support
from rere_env.catalogue import Catalogue
from rere_env.data import Dataset
from rere_env.data.tables import find_table, list_tables, read_table
from rere_env.prompts import PAPER_TEMPLATE
from rere_env.task import Task
from rere_env.tokenizer import HFTokenizer, Tokenizer, WordTokenizer
from rere_env.types import Batch, IntArray

__all__ = [
    "NUM_TITLES",
    "Measured",
    "Setting",
    "Workload",
    "describe",
    "make_task",
    "make_workload",
]

NUM_TITLES = 11_252
"""As many as the paper's Toys catalogue has lines."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """How much is measured on one model. The defaults define the names of the ratios.

    Attributes:
        shape: Of the model.
        num_users: B.
        num_users_wide: B where G is `wide`.
        group_size: G of search and update.
        wide: G of an evaluation.
        prompt_length: P of a search.
        prompt_length_update: P of an update and of a whole step.
        rounds: Of a race.
        times: Runs of our sides a round.
        rows_per_pass: Copies of prompts in one pass of the released update: what suits it best.
        num_checked: Users and titles of each whose gradient is compared with plain ones.
        num_weighed: Users whose update is weighed.
    """

    shape: Shape = "small"
    num_users: int = 8
    num_users_wide: int = 4
    group_size: int = 16
    wide: int = 50
    prompt_length: int = 200
    prompt_length_update: int = 256
    rounds: int = 5
    times: int = 3
    rows_per_pass: int = 16
    num_checked: tuple[int, int] = (2, 16)
    num_weighed: int = 8

    @property
    def suffix(self) -> str:
        """What the names of the ratios end with."""
        return "" if self.shape == "small" else f"_{self.shape}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a race on one model has shown.

    Attributes:
        ratios: By name; CPU time, unless the name says otherwise.
        wall_ratios: The same by the clock on the wall.
        beside: Ratios to further peers.
        facts: What was asserted, and figures that are no ratio of times.
        seconds: Every run of every side.
    """

    ratios: dict[str, dict[str, float]]
    wall_ratios: dict[str, dict[str, float]]
    beside: dict[str, dict[str, float]]
    facts: dict[str, Any]
    seconds: dict[str, dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Workload:
    """A task with B users, one example each in every split, and a policy.

    Attributes:
        task: Its prompt function knows the users by their only item.
        model: Random weights.
        lm: The same model, its searches scored by `scores`.
        trie: The catalogue on the CPU.
        scores: Synthetic log-probabilities of each user.
        prompts: B prompts of P tokens.
    """

    task: Task
    model: PreTrainedModel
    lm: ScoredLanguageModel
    trie: TorchTrie
    scores: UserScores
    prompts: list[list[int]]

    def policy(self, support: Support = "catalogue") -> Policy:
        """What our searches are given."""
        return Policy(lm=self.lm, trie=self.trie, support=support)

    @property
    def examples(self) -> Batch:
        """One example a user."""
        return self.task.split("test")

    def completions(self, titles: IntArray) -> list[list[list[int]]]:
        """Return the model's tokens of titles [B, G]."""
        tokens = self.task.title_tokens
        return [[tokens.model_ids(t).tolist() for t in row] for row in titles.tolist()]

    def titles_of(self, written: torch.Tensor) -> NDArray[np.int64]:
        """Return the titles [B, G] that `generate` wrote, [B, G, C]; -1 where it is none."""
        trie, tokens = self.task.trie, self.task.title_tokens
        ids = written.flatten(0, 1).numpy()
        node = np.zeros(len(ids), np.int64)
        for column in tokens.from_model_ids(ids).T:
            going = (node >= 0) & ~trie.is_leaf(node)
            node[going] = trie.step(node[going], column[going])
        is_title = (node >= 0) & trie.is_leaf(node)
        return np.where(is_title, trie.titles(node), -1).reshape(written.shape[:2])

    def choose(self, titles: IntArray) -> Batch:
        """Return the examples with other targets: the titles [B] that the users chose."""
        items = [self.task.catalogue.items_of(title)[0] for title in titles.tolist()]
        return replace(
            self.examples,
            target=np.array(items, np.int32),
            target_title=np.asarray(titles, np.int32),
        )

    def part(self, num_users: int) -> "Workload":
        """Return the first users alone."""
        examples = self.examples.take(slice(num_users))
        return replace(
            self, task=_with_examples(self.task, examples), prompts=self.prompts[:num_users]
        )


def make_task(
    data: Path | None = None, num_titles: int = NUM_TITLES, shape: Shape = "small"
) -> Task:
    """Build the catalogue; users come with `make_workload`.

    Args:
        data: A folder with an `items` file; None: a synthetic catalogue.
        num_titles: Of a synthetic catalogue.
        shape: Whose token ids: 0..8191, or the same spread at random over 151,936.
    """
    tokenizer: Tokenizer
    if data is None:
        titles = synthetic_titles(num_titles)
        catalogue = Catalogue.from_items([str(i) for i in range(num_titles)], titles)
        tokenizer = WordTokenizer(f"w{word}" for word in range(NUM_WORDS))
    else:
        items = read_table(find_table(data, list_tables(data), "items"), ("item_id", "title"))
        catalogue = Catalogue.from_items(items.columns["item_id"], items.columns["title"])
        template = PAPER_TEMPLATE.completion
        texts = [template.replace("{title}", title) for title in catalogue.titles]
        tokenizer = HFTokenizer(train_tokenizer(texts, VOCAB_SIZE), completion_template=template)
    if shape == "half_b":
        tokenizer = _Spread(tokenizer, HALF_B_VOCAB_SIZE)
    none = np.zeros(0, np.int32)
    nobody = Batch(user=none, history=none[:, None], target=none, target_title=none)
    dataset = Dataset(
        name="synthetic" if data is None else data.resolve().name,
        catalogue=catalogue,
        splits=dict.fromkeys(("train", "valid", "test"), nobody),
        history_length=1,
        content_hash=catalogue.content_hash(),
        report={},
    )
    return Task.build(dataset, tokenizer=tokenizer)


def make_workload(
    task: Task, model: PreTrainedModel, num_users: int, prompt_length: int, seed: int = 0
) -> Workload:
    """Give a catalogue B users with prompts of P random tokens.

    Args:
        task: From `make_task`.
        model: From `make_model`, with the same token ids.
        num_users: B.
        prompt_length: P.
        seed: Of prompts and scores.
    """
    scores = UserScores(task.trie, num_users, seed)
    rng = np.random.default_rng([seed, 1])
    size = min(model.config.get_text_config().vocab_size, task.tokenizer.vocab_size)
    prompts = rng.integers(1, size, (num_users, prompt_length))
    prompts[:, 0] = scores.first_tokens()
    user = np.arange(num_users)
    first = np.zeros(num_users, np.int32)
    examples = Batch(
        user=user,
        history=user[:, None].astype(np.int32),
        target=first,
        target_title=task.catalogue.item_title[first],
    )
    trie = TorchTrie.build(task.trie, task.title_tokens, torch.device("cpu"))
    rows = prompts.tolist()
    return Workload(
        task=replace(_with_examples(task, examples), prompt=_Prompts(rows)),
        model=model,
        lm=ScoredLanguageModel(model, trie, scores).eval(),
        trie=trie,
        scores=scores,
        prompts=rows,
    )


def describe(task: Task) -> dict[str, int | float | str]:
    """Return the figures of a catalogue that decide what a search costs."""
    trie, nodes = task.trie, np.arange(task.trie.num_nodes)
    below = trie.num_titles_below(nodes)
    return {
        "name": task.dataset.name,
        "titles": trie.num_titles,
        "tokens": trie.num_tokens,
        "tokens_per_title": len(task.title_tokens.tokens) / trie.num_titles,
        "longest_title": trie.max_length,
        "trie_nodes": trie.num_nodes,
        "branching_nodes": int((trie.num_children(nodes) > 1).sum()),
        "nodes_with_two_titles": int((below > 1).sum()),
    }


def _with_examples(task: Task, examples: Batch) -> Task:
    splits = dict.fromkeys(task.splits, examples)
    return replace(task, dataset=replace(task.dataset, splits=splits))


class _Prompts:
    """The prompt of user u is the row of item u."""

    def __init__(self, rows: list[list[int]]) -> None:
        self._rows = rows

    def __call__(self, history: Sequence[int]) -> list[int]:
        return self._rows[history[0]]


class _Spread:
    """The ids of a tokenizer, spread at random over a larger vocabulary."""

    def __init__(self, tokenizer: Tokenizer, vocab_size: int) -> None:
        self._tokenizer = tokenizer
        self.vocab_size = vocab_size
        ids = 1 + np.random.default_rng(0).permutation(vocab_size - 1)
        self._spread: list[int] = ids[: tokenizer.vocab_size].tolist()
        self._gather = {spread: own for own, spread in enumerate(self._spread)}
        self.eos_id = self._spread[tokenizer.eos_id]
        self.prompt_prefix = [self._spread[i] for i in tokenizer.prompt_prefix]

    def encode(self, text: str) -> list[int]:
        return [self._spread[i] for i in self._tokenizer.encode(text)]

    def encode_completions(self, titles: Sequence[str]) -> list[list[int]]:
        return [
            [self._spread[i] for i in row] for row in self._tokenizer.encode_completions(titles)
        ]

    def decode_completion(self, ids: Sequence[int]) -> str:
        return self._tokenizer.decode_completion([self._gather[i] for i in ids])
