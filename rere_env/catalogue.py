"""Items, titles and the token sequences of titles. Text stops here.

Two items with the same title share one title id: a hit on the title is a hit on either. Title ids
are numbered by first appearance and do not depend on a tokenizer. Knows nothing of users or tries.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rere_env.ragged import offsets
from rere_env.tokenizer import Tokenizer
from rere_env.types import NO_ITEM, IntArray

__all__ = ["Catalogue", "DuplicatePolicy", "TitleTokens"]

DuplicatePolicy = Literal["merge", "suffix", "error"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Catalogue:
    """What can be recommended.

    Attributes:
        item_keys: The ids of the items in the user's files; item id = position.
        titles: Distinct titles; title id = position.
        item_title: [I] int32, item id -> title id.
        num_merged: Items that share their title with an earlier one.
    """

    item_keys: tuple[str, ...]
    titles: tuple[str, ...]
    item_title: NDArray[np.int32]
    num_merged: int
    _key_item: dict[str, int]
    _items_by_title: NDArray[np.int64]
    _title_first: NDArray[np.int64]

    @classmethod
    def from_items(
        cls,
        item_keys: Sequence[str],
        titles: Sequence[str],
        *,
        duplicates: DuplicatePolicy = "merge",
    ) -> "Catalogue":
        """Build from parallel columns.

        Args:
            item_keys: Distinct item ids as the files write them.
            titles: The title of each item.
            duplicates: Items with equal titles: `merge` them into one title, `suffix` the later
                ones with " (2)", " (3)", ..., or raise an `error`.

        Raises:
            ValueError: No item, a repeated key, an empty title, or a duplicate under `error`.
        """
        _check_columns(item_keys, titles)
        titles, num_merged = _resolve_duplicates(titles, duplicates)
        title_ids: dict[str, int] = {}
        item_title = np.array(
            [title_ids.setdefault(title, len(title_ids)) for title in titles], np.int32
        )
        by_title = np.argsort(item_title, kind="stable")
        return cls(
            item_keys=tuple(item_keys),
            titles=tuple(title_ids),
            item_title=item_title,
            num_merged=num_merged,
            _key_item={key: item for item, key in enumerate(item_keys)},
            _items_by_title=by_title,
            _title_first=np.searchsorted(item_title[by_title], np.arange(len(title_ids) + 1)),
        )

    def __deepcopy__(self, memo: dict[int, object]) -> "Catalogue":
        """Return itself: it is immutable, and Gymnasium deep-copies specs often."""
        return self

    @property
    def num_items(self) -> int:
        """I, duplicates counted."""
        return len(self.item_keys)

    @property
    def num_titles(self) -> int:
        """Distinct titles."""
        return len(self.titles)

    def items_of(self, title: int) -> IntArray:
        """Return the item ids that a title stands for, ascending."""
        return self._items_by_title[self._title_first[title] : self._title_first[title + 1]]

    def history_titles(self, history: IntArray) -> NDArray[np.int32]:
        """Return title id + 1 of each item of histories [..., H], 0 where there is none."""
        titles: NDArray[np.int32] = np.where(history == NO_ITEM, 0, self.item_title[history] + 1)
        return titles

    def item_id(self, key: str) -> int:
        """Return the item id of a key of the user's files.

        Raises:
            KeyError: The catalogue has no such item.
        """
        try:
            return self._key_item[key]
        except KeyError:
            raise KeyError(
                f"item id {key!r} is not in the catalogue of {self.num_items} items "
                f"(ids look like {self.item_keys[0]!r}); check the spelling or the data folder."
            ) from None

    def title_id(self, title: str) -> int:
        """Return the id of an exact title.

        Raises:
            KeyError: The catalogue has no such title; near matches are named.
        """
        try:
            return self.titles.index(title)
        except ValueError:
            from difflib import get_close_matches

            near = get_close_matches(title, self.titles, n=3)
            hint = f"; did you mean {near}?" if near else "."
            raise KeyError(f"the title {title!r} is not in the catalogue{hint}") from None

    def content_hash(self) -> str:
        """Return a sha256 over keys and titles, in order."""
        digest = hashlib.sha256()
        for key, title in zip(self.item_keys, self.item_title, strict=True):
            digest.update(f"{len(key)}:{key}{self.titles[title]}\n".encode())
        return digest.hexdigest()

    def tokenize(self, tokenizer: Tokenizer) -> "TitleTokens":
        """Encode every title once.

        Raises:
            ValueError: Two titles get the same tokens, or a title none.
        """
        rows = tokenizer.encode_completions(self.titles)
        _check_distinct(rows, self.titles)
        lengths = np.array([len(row) for row in rows])
        flat = np.concatenate([np.asarray(row, np.int64) for row in rows])
        used = np.unique(flat)
        local_model = np.concatenate([[tokenizer.eos_id], used[used != tokenizer.eos_id]])
        tokens = TitleTokens(
            local_model=local_model,
            indptr=offsets(lengths),
            tokens=np.zeros(0, np.int32),
            num_lossy=sum(
                tokenizer.decode_completion(row) != title
                for row, title in zip(rows, self.titles, strict=True)
            ),
        )
        return TitleTokens(
            local_model=tokens.local_model,
            indptr=tokens.indptr,
            tokens=tokens.from_model_ids(flat).astype(np.int32),
            num_lossy=tokens.num_lossy,
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TitleTokens:
    """The titles as sequences of local token ids: 0 = EOS, the others ascending by model id.

    Attributes:
        local_model: [n] int64, local id -> the tokenizer's id.
        indptr: [titles + 1] int64 offsets into `tokens`.
        tokens: [total] int32 local ids.
        num_lossy: Titles that the tokenizer does not decode to themselves.
    """

    local_model: NDArray[np.int64]
    indptr: NDArray[np.int64]
    tokens: NDArray[np.int32]
    num_lossy: int

    @property
    def num_tokens(self) -> int:
        """Number of local ids: the tokens that titles really use."""
        return len(self.local_model)

    def __getitem__(self, title: int) -> NDArray[np.int32]:
        """Return the local ids of one title, EOS included."""
        return self.tokens[self.indptr[title] : self.indptr[title + 1]]

    def to_model_ids(self, local: IntArray) -> NDArray[np.int64]:
        """Map local ids to the tokenizer's."""
        return self.local_model[local]

    def model_ids(self, title: int) -> NDArray[np.int64]:
        """Return one title as the tokenizer's ids, EOS included."""
        return self.to_model_ids(self[title])

    def from_model_ids(self, ids: IntArray) -> NDArray[np.int64]:
        """Map the tokenizer's ids to local ones, -1 where no title uses the id."""
        rest = self.local_model[1:]
        ids = np.asarray(ids)
        if len(rest) == 0:
            return np.where(ids == self.local_model[0], 0, -1)
        place = np.minimum(np.searchsorted(rest, ids), len(rest) - 1)
        local = np.where(rest[place] == ids, place + 1, -1)
        return np.where(ids == self.local_model[0], 0, local)


def _check_columns(item_keys: Sequence[str], titles: Sequence[str]) -> None:
    if len(item_keys) == 0:
        raise ValueError("a catalogue needs at least one item; got none.")
    if len(item_keys) != len(titles):
        raise ValueError(f"got {len(item_keys)} item ids but {len(titles)} titles.")
    seen: dict[str, int] = {}
    for row, (key, title) in enumerate(zip(item_keys, titles, strict=True)):
        if not title.strip():
            raise ValueError(
                f"item row {row} (item_id {key!r}), column title: the title is empty; "
                "give it a title or remove the item."
            )
        if (first := seen.setdefault(key, row)) != row:
            raise ValueError(
                f"item row {row}, column item_id: {key!r} was already used in row {first}; "
                "item ids must be distinct."
            )


def _resolve_duplicates(
    titles: Sequence[str], policy: DuplicatePolicy
) -> tuple[Sequence[str], int]:
    if policy not in ("merge", "suffix", "error"):
        raise ValueError(f"`duplicates` (={policy!r}) must be 'merge', 'suffix' or 'error'.")
    distinct = set(titles)
    num_repeated = len(titles) - len(distinct)
    if num_repeated == 0 or policy == "merge":
        return titles, num_repeated
    if policy == "error":
        row = next(row for row, title in enumerate(titles) if title in titles[:row])
        title = titles[row]
        raise ValueError(
            f"item row {row}, column title: {title!r} occurs before ({num_repeated} repeated "
            "titles in all); use duplicates='merge' or 'suffix', or make the titles distinct."
        )
    taken, result = set(distinct), []
    first: set[str] = set()
    for title in titles:
        name, number = title, 2
        while name in first or (name != title and name in taken):
            name, number = f"{title} ({number})", number + 1
        first.add(name)
        taken.add(name)
        result.append(name)
    return result, 0


def _check_distinct(rows: list[list[int]], titles: Sequence[str]) -> None:
    seen: dict[tuple[int, ...], int] = {}
    for title, row in enumerate(rows):
        if len(row) < 2:
            raise ValueError(
                f"the tokenizer gives the title {titles[title]!r} no tokens; "
                "choose a tokenizer that covers its characters."
            )
        other = seen.setdefault(tuple(row), title)
        if other != title:
            raise ValueError(
                f"the tokenizer cannot tell {titles[other]!r} and {titles[title]!r} apart (both "
                f"become {row[:8]}...); use a tokenizer that keeps case, spaces and accents, or "
                "merge the two items."
            )
