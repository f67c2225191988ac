"""Tasks to measure the environment on: synthetic catalogues of any size, or the items of a folder.

The synthetic ones are the same everywhere and need no file. Histories and targets are drawn at
random: the environment does not care what they mean.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from agents.bench.titles import synthetic_titles
from rere_env.catalogue import Catalogue
from rere_env.data import Dataset
from rere_env.data.records import read_items
from rere_env.data.tables import list_tables
from rere_env.task import Task
from rere_env.tokenizer import HFTokenizer, Tokenizer, WordTokenizer
from rere_env.types import Batch

__all__ = ["WIDE", "catalogue_task", "items_task", "widened"]

WIDE = 151_936
"""Vocabulary of Qwen2."""

NUM_EXAMPLES = 5_000
HISTORY_LENGTH = 10
BPE_VOCAB = 8_192


def catalogue_task(num_titles: int) -> Task:
    """Return a task over a synthetic catalogue, one token a word."""
    titles = synthetic_titles(num_titles)
    catalogue = Catalogue.from_items([str(i) for i in range(num_titles)], titles)
    return _task(f"synthetic-{num_titles}", catalogue, WordTokenizer.from_titles(titles))


def items_task(folder: Path) -> Task:
    """Return a task over the `items` of a folder, in a byte-level BPE trained on their titles."""
    from agents.policy import train_tokenizer

    tables = list_tables(folder)
    if "items" not in tables:
        raise FileNotFoundError(f"{folder} holds no `items` table; give a data folder.")
    catalogue = read_items(tables["items"])
    tokenizer = HFTokenizer(train_tokenizer(catalogue.titles, BPE_VOCAB))
    return _task(folder.resolve().name, catalogue, tokenizer)


def widened(task: Task, seed: int = 0) -> Task:
    """Spread the tokens of a task over a vocabulary of `WIDE` ids, as a large model has."""
    tokens = task.title_tokens
    rng = np.random.default_rng(seed)
    ids = rng.choice(np.arange(1, WIDE), tokens.num_tokens - 1, replace=False)
    spread = np.concatenate([[0], np.sort(ids)])
    return replace(
        task,
        title_tokens=replace(tokens, local_model=spread),
        tokenizer=_Wide(task.tokenizer),
    )


class _Wide:
    """A tokenizer with a larger vocabulary, most of which no title uses."""

    def __init__(self, inner: Tokenizer) -> None:
        self.vocab_size = WIDE
        self.eos_id = 0
        self.prompt_prefix = inner.prompt_prefix
        self.encode = inner.encode
        self.encode_completions = inner.encode_completions
        self.decode_completion = inner.decode_completion


def _task(name: str, catalogue: Catalogue, tokenizer: Tokenizer) -> Task:
    rng = np.random.default_rng(0)
    shape = (NUM_EXAMPLES, HISTORY_LENGTH)
    history = rng.integers(0, catalogue.num_items, shape).astype(np.int32)
    target = rng.integers(0, catalogue.num_items, NUM_EXAMPLES).astype(np.int32)
    examples = Batch(
        user=np.arange(NUM_EXAMPLES),
        history=history,
        target=target,
        target_title=catalogue.item_title[target],
    )
    dataset = Dataset(
        name=name,
        catalogue=catalogue,
        splits={"train": examples},
        history_length=HISTORY_LENGTH,
        content_hash="",
        report={},
    )
    return Task.build(dataset, tokenizer=tokenizer)
