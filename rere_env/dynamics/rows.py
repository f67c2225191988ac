"""The values of the transition function: rules, rows, and what a step returns.

Knows the shape of the state, not how it changes.

Legend: N rows held, n rows asked for, m rows that end, H history, K slate, L prefix.
"""

from dataclasses import dataclass, fields
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from rere_env.catalogue import TitleTokens
from rere_env.trie import Trie
from rere_env.types import BoolArray, IntArray

__all__ = [
    "ALL",
    "Allowed",
    "Board",
    "Driver",
    "Int64",
    "Moved",
    "OnIllegal",
    "Outcome",
    "Rows",
    "Rules",
    "Slates",
    "Transition",
    "row_numbers",
]

Int64: TypeAlias = NDArray[np.int64]
OnIllegal = Literal["terminate", "noop", "raise"]

ALL = slice(None)
"""Every row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What makes an episode.

    Attributes:
        slate_size: K, titles to write.
        on_illegal: What a token that continues no title does: `terminate` the episode, nothing
            (`noop`), or `raise` (for debugging).
        illegal_reward: Reward of an illegal token.
        max_tokens: Steps until truncation. Default: none; under `noop` twice the tokens of K
            longest titles, since an episode might never end otherwise.
    """

    slate_size: int = 16
    on_illegal: OnIllegal = "terminate"
    illegal_reward: float = -1.0
    max_tokens: int | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        if self.slate_size < 1:
            raise ValueError(f"`slate_size` (={self.slate_size}) must be at least 1.")
        if self.on_illegal not in get_args(OnIllegal):
            raise ValueError(
                f"`on_illegal` (={self.on_illegal!r}) must be one of {get_args(OnIllegal)}."
            )
        if self.max_tokens is not None and self.max_tokens < 1:
            raise ValueError(
                f"`max_tokens` (={self.max_tokens}) must be at least 1, or None for no budget."
            )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Board:
    """What rows move on, and where they stop.

    Attributes:
        trie: The catalogue.
        titles: Its titles as tokens.
        remaining: [S] titles below each node that can be shown at all.
        resting_node: Where finished rows wait: a node that only EOS follows.
        slate_size: K.
        illegal_ends: An illegal token ends the episode.
        max_tokens: Steps until truncation.
    """

    trie: Trie
    titles: TitleTokens
    remaining: NDArray[np.int32]
    resting_node: int
    slate_size: int
    illegal_ends: bool
    max_tokens: int | None

    @property
    def all_shown(self) -> bool:
        """Nothing is hidden from everybody."""
        return bool(self.remaining[0] == self.trie.num_titles)


class Allowed(NamedTuple):
    """The legal tokens of several rows, ragged (CSR): row i owns `indptr[i]:indptr[i + 1]`."""

    indptr: IntArray  # [n + 1]
    tokens: IntArray  # [total] at least one a row

    def sample(self, rng: np.random.Generator) -> IntArray:
        """Draw one legal token for each row, uniformly."""
        counts = np.diff(self.indptr)
        return self.tokens[self.indptr[:-1] + (rng.random(len(counts)) * counts).astype(np.int64)]


@dataclass(slots=True, eq=False)
class Rows:
    """The state of N rows as arrays, in the form that observations show (0 = empty).

    Attributes:
        example: [N] which example is being answered.
        history: [N, H] title id + 1, oldest first.
        slate: [N, K] title id + 1, best first.
        leaf: [N, K + E] trie leaves that the row excludes: those of the slate, then up to E that
            a filter hides from its example; -1 = empty.
        prefix: [N, L] local tokens of the title being written.
        slot: [N] titles written.
        num_excluded: [N] leaves that the row excludes.
        depth: [N] tokens in the prefix.
        node: [N] trie node of the prefix; of a finished row, a node that only EOS follows.
        num_tokens: [N] steps taken.
        finished: [N] the episode is over (or has not begun).
    """

    example: Int64
    history: NDArray[np.int32]
    slate: Int64
    leaf: NDArray[np.int32]
    prefix: NDArray[np.int32]
    slot: Int64
    num_excluded: Int64
    depth: Int64
    node: Int64
    num_tokens: Int64
    finished: BoolArray

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.node)

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Return copies of all arrays by name."""
        return {field.name: getattr(self, field.name).copy() for field in fields(self)}

    def restore(self, state: dict[str, NDArray[np.generic]]) -> None:
        """Take the arrays of `state()` back, by copy."""
        for field in fields(self):
            ours, theirs = getattr(self, field.name), np.asarray(state[field.name])
            if ours.shape != theirs.shape:
                raise ValueError(
                    f"the state's {field.name!r} has shape {theirs.shape}, this environment's "
                    f"{ours.shape}; restore into an environment made with the same arguments."
                )
            ours[...] = theirs


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outcome:
    """What became of the m rows that ended at a step.

    Attributes:
        rows: [m] which of the n stepped rows.
        slate: [m, K] title ids, best first, `NO_TITLE` where nothing was written.
        item_rewards: [m, K] the reward of each slot; zeros after an illegal end.
        reward_terms: Each term of the reward, unweighted, summed over the slate [m].
        target: [m] title id of the answer.
        target_rank: [m] its place in the slate from 1; 0 = not there, or an illegal end. Of a
            grouped row: the row's place in its group if it wrote the target, else 0.
        group_rank: [m] the row's place in its group from 1; None without groups.
    """

    rows: Int64
    slate: Int64
    item_rewards: NDArray[np.float64]
    reward_terms: dict[str, NDArray[np.float64]]
    target: Int64
    target_rank: Int64
    group_rank: Int64 | None = None

    @property
    def hit(self) -> BoolArray:
        """[m] the target is in the slate (and the end was legal)."""
        return self.target_rank > 0

    def infos(self) -> dict[str, Any]:
        """Return the terminal info, one array [m, ...] a key; `reward_terms` is a dict of them."""
        hit = self.hit
        infos = {
            "slate": self.slate,
            "item_rewards": self.item_rewards,
            "reward_terms": self.reward_terms,
            "target": self.target,
            "target_rank": self.target_rank,
            "hit": hit,
            "is_success": hit,  # the key that Stable-Baselines3 logs
        }
        return infos if self.group_rank is None else infos | {"group_rank": self.group_rank}


class Moved(NamedTuple):
    """What a move did to n rows; False for a row that was finished before."""

    illegal: BoolArray  # [n] the token was illegal; the row was left as it was
    terminated: BoolArray  # [n] the slate is full, or an illegal token ended the episode
    truncated: BoolArray  # [n] the budget of tokens is spent
    ended: Int64  # [m] which of the n rows ended, ascending


class Slates(NamedTuple):
    """What m rows have written, and whether it holds what they should have."""

    titles: Int64  # [m, K] best first, `NO_TITLE` where nothing was written
    target: Int64  # [m] title id of the answer
    rank: Int64  # [m] its place in the slate from 1, 0 = not there


class Transition(NamedTuple):
    """The result of one step of n rows."""

    reward: NDArray[np.float64]  # [n]
    terminated: BoolArray  # [n]
    truncated: BoolArray  # [n]
    illegal: BoolArray  # [n] the token continues no title, or only titles already in the slate
    outcome: Outcome | None  # of the rows that ended


class Driver(Protocol):
    """What starts and steps the rows of a vector environment: the dynamics, or a view of them."""

    def start(self, state: Rows, examples: IntArray, rows: IntArray | slice = ALL) -> None:
        """Begin a new episode in each row with the example given."""
        ...

    def step(self, state: Rows, tokens: IntArray, rows: IntArray | slice = ALL) -> Transition:
        """Write a token in each of n rows; a finished one stays as it is."""
        ...


def row_numbers(rows: IntArray | slice, which: Int64) -> IntArray:
    """Return the numbers of some of the rows asked for."""
    if isinstance(rows, slice):
        start, step = rows.start or 0, rows.step or 1
        return which * step + start if (start, step) != (0, 1) else which
    return rows[which]
