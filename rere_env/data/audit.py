"""What is peculiar about a data set: everything that can flatter, or punish, a recommender.

Counts only. Knows nothing of files, environments or models. Titles are compared by id, so two
histories are equal if they show the same titles in the same order.
"""

import html
from collections.abc import Mapping
from itertools import combinations, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rere_env.catalogue import Catalogue
from rere_env.data.datasets import Dataset
from rere_env.tokenizer import Tokenizer, WordTokenizer
from rere_env.trie import Trie
from rere_env.types import NO_ITEM, Batch, BoolArray, IntArray

__all__ = ["audit"]

TOP = 10  # titles of the list that everybody would get


def audit(
    dataset: Dataset, *, train: str = "train", tokenizer: Tokenizer | None = None
) -> dict[str, Any]:
    """Return counts about a data set, ready for JSON.

    - `counts`: What the reader or builder of the data set counted.
    - `catalogue`: Shared titles, titles that begin another one, untidy titles, and titles that
      never occur in the training split.
    - `trie`: Size, tokens and decisions a title (a decision: two or more legal next tokens), and
      titles that the tokenizer does not decode to themselves.
    - `splits`: For each split, its rows and how many of them have an empty history, a target that
      shares its title, is in the history, or never occurs in training (as a target or in a
      history); how many have an equal history elsewhere in the split with another target; how many
      a lookup of the target by its history would answer wrongly (the last equal history wins);
      and the hit rate of one list for everybody: the titles sold most in training, and the best
      list that hindsight would choose.
    - `overlaps`: For each pair `a/b` of splits, the rows of b whose user, whose history and target,
      and whose history with another target occur in a.

    Args:
        dataset: What is audited.
        train: The split that counts as training.
        tokenizer: Of the trie; default: one token a word.

    Raises:
        ValueError: There is no such training split, or it is empty.
    """
    if train not in dataset.splits or len(dataset.splits[train]) == 0:
        sizes = {name: len(batch) for name, batch in dataset.splits.items()}
        raise ValueError(
            f"`train` (={train!r}) must be a split that holds rows; {dataset.name!r} has {sizes}."
        )
    catalogue = dataset.catalogue
    known = _known_titles(dataset.splits[train], catalogue)
    best_sold = _best_sold(dataset.splits[train], catalogue)
    histories = _number_histories(dataset.splits, catalogue)
    return {
        "data": dataset.name,
        "content_hash": dataset.content_hash,
        "train_split": train,
        "counts": dict(dataset.report),
        "catalogue": _audit_catalogue(catalogue, known),
        "trie": _audit_trie(catalogue, tokenizer or WordTokenizer.from_titles(catalogue.titles)),
        "splits": {
            name: _audit_split(batch, histories[name], catalogue, known, best_sold)
            for name, batch in dataset.splits.items()
        },
        "overlaps": {
            f"{a}/{b}": _audit_overlap(
                dataset.splits[a], histories[a], dataset.splits[b], histories[b]
            )
            for a, b in combinations(dataset.splits, 2)
        },
    }


def _audit_catalogue(catalogue: Catalogue, known: BoolArray) -> dict[str, int]:
    items_per_title = np.bincount(catalogue.item_title, minlength=catalogue.num_titles)
    titles = sorted(catalogue.titles)
    return {
        "items": catalogue.num_items,
        "titles": catalogue.num_titles,
        "shared_titles": int((items_per_title > 1).sum()),
        "items_sharing_a_title": int(items_per_title[items_per_title > 1].sum()),
        # In sorted order, a title that begins any other begins the next one.
        "prefix_titles": sum(after.startswith(title) for title, after in pairwise(titles)),
        "titles_with_untidy_spaces": sum(t != " ".join(t.split()) for t in titles),
        "titles_with_html_entities": sum(t != html.unescape(t) for t in titles),
        "titles_not_in_train": int((~known).sum()),
    }


def _audit_trie(catalogue: Catalogue, tokenizer: Tokenizer) -> dict[str, Any]:
    tokens = catalogue.tokenize(tokenizer)
    trie = Trie.from_sequences(tokens.indptr, tokens.tokens, tokens.num_tokens)
    children = np.diff(trie.first)
    length = np.diff(tokens.indptr)
    decisions = _decisions(trie)
    before_end = trie.parents(trie.leaf_node)
    return {
        "tokenizer": type(tokenizer).__name__,
        "tokens": trie.num_tokens,
        "nodes": trie.num_nodes,
        "bytes": trie.nbytes,
        "branching_nodes": int((children > 1).sum()),
        "max_branching": int(children.max()),
        "tokens_per_title_mean": float(length.mean()),
        "tokens_per_title_max": int(length.max()),
        "decisions_per_title_mean": float(decisions.mean()),
        "decisions_per_title_max": int(decisions.max()),
        "prefix_titles": int((children[before_end] > 1).sum()),
        "lossy_titles": tokens.num_lossy,
    }


def _decisions(trie: Trie) -> NDArray[np.int64]:
    """Return how many branching nodes lead to each leaf [L]."""
    parents = trie.parents(np.arange(trie.num_nodes))
    branches = (np.diff(trie.first) > 1).astype(np.int64)
    count = np.zeros(trie.num_nodes, np.int64)
    for start, end in pairwise(trie.level_first[1:].tolist()):  # a parent lies one level above
        count[start:end] = count[parents[start:end]] + branches[parents[start:end]]
    return count[trie.leaf_node]


def _audit_split(
    batch: Batch,
    history: IntArray,
    catalogue: Catalogue,
    known: BoolArray,
    best_sold: IntArray,
) -> dict[str, Any]:
    """Audit one split; `history` numbers the histories, `known` marks the titles of training."""
    target = batch.target_title
    items_per_title = np.bincount(catalogue.item_title, minlength=catalogue.num_titles)
    shown = catalogue.history_titles(batch.history)
    sold = np.sort(np.bincount(target, minlength=catalogue.num_titles))[::-1]
    rows = max(len(batch), 1)
    return {
        "rows": len(batch),
        "users": len(np.unique(batch.user)),
        "history_length_mean": float(batch.history_length.sum() / rows),
        "empty_histories": int((batch.history_length == 0).sum()),
        "shared_title_targets": int((items_per_title[target] > 1).sum()),
        "repeat_targets": int((shown == target[:, None] + 1).any(axis=1).sum()),
        "cold_targets": int((~known[target]).sum()),
        "ambiguous_histories": int(_is_ambiguous(history, target).sum()),
        "lookup_errors": int((_last_target(history, target) != target).sum()),
        f"popularity_hit_rate@{TOP}": float(np.isin(target, best_sold).sum() / rows),
        f"best_constant_hit_rate@{TOP}": float(sold[:TOP].sum() / rows),
    }


def _audit_overlap(a: Batch, history_a: IntArray, b: Batch, history_b: IntArray) -> dict[str, int]:
    """Count the rows of b that have something in a."""
    pairs, same = _pairs(
        np.concatenate([history_a, history_b]), np.concatenate([a.target_title, b.target_title])
    )
    in_a = np.zeros(len(pairs), np.bool_)
    in_a[same[: len(a)]] = True
    size = int(pairs[:, 0].max(initial=-1)) + 1
    num_targets = np.bincount(pairs[in_a, 0], minlength=size)  # of each history, in a
    equal = in_a[same[len(a) :]]
    return {
        "users": int(np.isin(b.user, a.user).sum()),
        "equal_rows": int(equal.sum()),
        "ambiguous_histories": int((num_targets[history_b] > equal).sum()),
    }


def _is_ambiguous(history: IntArray, target: IntArray) -> BoolArray:
    """Mark the rows [B] whose history occurs with another target as well."""
    pairs, _ = _pairs(history, target)
    num_targets = np.bincount(pairs[:, 0], minlength=int(history.max(initial=-1)) + 1)
    ambiguous: BoolArray = num_targets[history] > 1
    return ambiguous


def _last_target(history: IntArray, target: IntArray) -> IntArray:
    """Return the target [B] of the last row with the same history."""
    _, first, inverse = np.unique(history[::-1], return_index=True, return_inverse=True)
    last: IntArray = target[::-1][first][inverse][::-1]
    return last


def _pairs(history: IntArray, target: IntArray) -> tuple[IntArray, IntArray]:
    """Return the distinct (history, target) [n, 2] and which of them each row is."""
    stacked = np.stack([history, target], axis=1).astype(np.int64)
    pairs, inverse = np.unique(stacked, axis=0, return_inverse=True)
    return pairs, inverse.reshape(-1)


def _number_histories(splits: Mapping[str, Batch], catalogue: Catalogue) -> dict[str, IntArray]:
    """Number the distinct histories of all splits; return the number of every row by split."""
    width = max(batch.history.shape[1] for batch in splits.values())
    shown = [
        np.pad(titles, ((0, 0), (0, width - titles.shape[1])))
        for titles in (catalogue.history_titles(batch.history) for batch in splits.values())
    ]
    _, number = np.unique(np.concatenate(shown), axis=0, return_inverse=True)
    ends = np.cumsum([len(part) for part in shown])[:-1]
    return dict(zip(splits, np.split(number.reshape(-1), ends), strict=True))


def _known_titles(train: Batch, catalogue: Catalogue) -> BoolArray:
    """Mark the titles that occur in a split, as a target or in a history."""
    known = np.zeros(catalogue.num_titles, np.bool_)
    known[train.target_title] = True
    known[catalogue.item_title[train.history[train.history != NO_ITEM]]] = True
    return known


def _best_sold(train: Batch, catalogue: Catalogue) -> IntArray:
    """Return the titles whose best item is most often a target of training, equals by lower id."""
    sold = np.bincount(train.target, minlength=catalogue.num_items)
    best = np.zeros(catalogue.num_titles, np.int64)
    np.maximum.at(best, catalogue.item_title, sold)
    return np.argsort(-best, kind="stable")[:TOP]
