"""Episodes of an expert, as arrays: what offline learners read.

An expert is any `Recommender`: its K titles are written into the environment token by token, best
first, and everything is recorded that the environment answers. Knows nothing of file formats.

Legend: T steps of an episode, so T + 1 observations; N episodes played at a time.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rere_env.catalogue import TitleTokens
from rere_env.dynamics.rows import Allowed
from rere_env.envs import ReReVectorEnv
from rere_env.ragged import dense, offsets, stretches
from rere_env.types import NO_TITLE, Batch, BoolArray, IntArray, Recommender

__all__ = ["Episode", "TargetExpert", "choose_examples", "expert_episodes", "slate_tokens"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Episode:
    """One episode of the environment.

    Attributes:
        example: Which example of the split: `reset(options={"example": example})` begins it again.
        observations: Name -> [T + 1, ...]; the last row is what the last step returned.
        actions: [T] int64.
        rewards: [T] float64.
        terminations: [T] bool.
        truncations: [T] bool.
        allowed: The legal actions beside each observation, ragged: T + 1 rows.
        info: What the environment says once an episode: the infos of `reset` and of the last step.
    """

    example: int
    observations: dict[str, NDArray[Any]]
    actions: NDArray[np.int64]
    rewards: NDArray[np.float64]
    terminations: BoolArray
    truncations: BoolArray
    allowed: Allowed
    info: dict[str, Any]

    def __len__(self) -> int:
        """Count the steps."""
        return len(self.actions)

    def action_mask(self, num_actions: int) -> NDArray[np.int8]:
        """Return the legal actions as a dense int8 [T + 1, num_actions]."""
        return dense(self.allowed.indptr, self.allowed.tokens, num_actions)


class TargetExpert:
    """Recommends the target first, then what another recommender says: the best slate there is."""

    def __init__(self, then: Recommender) -> None:
        """Keep who fills slots 2..K."""
        self._then = then

    def recommend(self, examples: Batch, k: int) -> NDArray[np.int64]:
        """Return title ids [B, k]; the target is the first of each row and stands in no other."""
        target = examples.target_title.astype(np.int64)[:, None]
        if k == 1:
            return target
        others = np.asarray(self._then.recommend(examples, k))
        # A stable sort brings the target to the end of its row; without one the worst title is cut.
        order = np.argsort(others == target, axis=1, kind="stable")
        rest = np.take_along_axis(others, order, axis=1)[:, : k - 1]
        return np.concatenate([target, rest], axis=1)


def choose_examples(num_examples: int, num_episodes: int | None, seed: int) -> NDArray[np.int64]:
    """Return which examples to play: each one once, or a random part of them; ascending.

    Args:
        num_examples: Size of the split.
        num_episodes: How many to draw, without repetition; None: all.
        seed: Of the draw.

    Raises:
        ValueError: There are not as many.
    """
    if num_episodes is None:
        return np.arange(num_examples)
    if not 1 <= num_episodes <= num_examples:
        raise ValueError(
            f"`num_episodes` (={num_episodes}) must lie in 1..{num_examples}, the examples of the "
            "split; every example is one episode of a fixed expert."
        )
    drawn = np.random.default_rng(seed).choice(num_examples, num_episodes, replace=False)
    return np.sort(drawn)


def slate_tokens(tokens: TitleTokens, slates: IntArray) -> tuple[IntArray, IntArray]:
    """Write slates of titles [B, K] as local tokens, ragged: `indptr` [B + 1] and the tokens.

    A title ends with its EOS, so a row is exactly the actions of an episode.

    Raises:
        ValueError: A slate is not K distinct titles.
    """
    ordered = np.sort(slates, axis=1)
    short = (slates == NO_TITLE).any(axis=1)
    repeated = (ordered[:, 1:] == ordered[:, :-1]).any(axis=1)
    if (short | repeated).any():
        row = int((short | repeated).argmax())
        raise ValueError(
            f"slate {row} (={slates[row].tolist()}) must hold {slates.shape[1]} distinct titles; "
            "use an expert that knows as many, or a smaller `slate_size`."
        )
    title = slates.reshape(-1)
    start = tokens.indptr[title]
    indptr = offsets(tokens.indptr[title + 1] - start)
    return indptr[:: slates.shape[1]], tokens.tokens[stretches(start, indptr)]


def expert_episodes(envs: ReReVectorEnv, expert: Recommender, rows: IntArray) -> Iterator[Episode]:
    """Play one episode for each example, in the order given.

    Args:
        envs: Made with `autoreset_mode="Disabled"` and `mask="lazy"` (masks are recorded ragged);
            as many episodes are played at a time as it has rows.
        expert: Asked for `slate_size` titles an example.
        rows: Examples of the environment's split.

    Raises:
        ValueError: The expert gives fewer titles, or the environment was made otherwise.
    """
    if envs.autoreset_mode.value != "Disabled" or envs.surface.mask_style != "lazy":
        raise ValueError("`envs` must be made with autoreset_mode='Disabled' and mask='lazy'.")
    dynamics, tokens = envs.surface.dynamics, envs.task.title_tokens
    action_of = _action_of_token(envs)
    for start in range(0, len(rows), envs.num_envs):
        part = rows[start : start + envs.num_envs]
        # The last part is filled up with repetitions, which are not handed out.
        full = np.pad(part, (0, envs.num_envs - len(part)), mode="edge")
        slates = expert.recommend(dynamics.examples.take(full), dynamics.rules.slate_size)
        indptr, flat = slate_tokens(tokens, np.asarray(slates))
        yield from islice(_play(envs, full, indptr, action_of[flat]), len(part))


def _action_of_token(envs: ReReVectorEnv) -> NDArray[np.int64]:
    """Return the action that stands for each local token."""
    token = envs.surface.to_local(np.arange(envs.surface.num_actions))
    used = np.flatnonzero(token >= 0)
    action = np.zeros(envs.task.trie.num_tokens, np.int64)
    action[token[used]] = used
    return action


class _Step(NamedTuple):
    """What N rows did, and what they see after it."""

    actions: IntArray
    observation: dict[str, NDArray[Any]]
    rewards: NDArray[Any]
    terminations: NDArray[Any]
    truncations: NDArray[Any]
    infos: dict[str, Any]
    allowed: Allowed


def _play(
    envs: ReReVectorEnv, examples: IntArray, indptr: IntArray, actions: IntArray
) -> Iterator[Episode]:
    """Write the actions of each row until every row has come to an end."""
    nothing: IntArray = np.zeros(0, np.int64)
    observation, infos = envs.reset(options={"example": examples})
    begin = _Step(nothing, observation, nothing, nothing, nothing, infos, envs.candidates())
    steps: list[_Step] = []
    place = np.zeros(envs.num_envs, np.int64)
    length = np.zeros(envs.num_envs, np.int64)  # steps of the episode, 0 = not over yet
    over = np.zeros(envs.num_envs, np.bool_)
    while (length == 0).any():
        if over.any():
            # Rows that are done play the same episode again while longer ones go on: cut off below.
            envs.reset(options={"example": examples, "reset_mask": over})
            place[over] = 0
        chosen = actions[indptr[:-1] + place]
        steps.append(_Step(chosen, *envs.step(chosen), envs.candidates()))
        place += 1
        over = steps[-1].terminations | steps[-1].truncations
        length[(length == 0) & over] = len(steps)
    for row, num_steps in enumerate(length.tolist()):
        yield _episode(int(examples[row]), begin, steps[:num_steps], row)


def _episode(example: int, begin: _Step, steps: list[_Step], row: int) -> Episode:
    """Cut one row out of the steps of all."""
    seen = [begin, *steps]
    legal = [
        step.allowed.tokens[step.allowed.indptr[row] : step.allowed.indptr[row + 1]]
        for step in seen
    ]
    return Episode(
        example=example,
        observations={
            name: np.stack([step.observation[name][row] for step in seen])
            for name in begin.observation
        },
        actions=np.array([step.actions[row] for step in steps]),
        rewards=np.array([step.rewards[row] for step in steps]),
        terminations=np.array([step.terminations[row] for step in steps]),
        truncations=np.array([step.truncations[row] for step in steps]),
        allowed=Allowed(np.cumsum([0, *(len(tokens) for tokens in legal)]), np.concatenate(legal)),
        info={**_row(begin.infos, row), **_row(steps[-1].infos, row)},
    )


def _row(infos: dict[str, Any], row: int) -> dict[str, Any]:
    """Return the infos that a row has, as a single environment would give them."""
    return {
        key: _row(value, row)
        if isinstance(value, dict)
        else (value[row] if value.ndim > 1 else value[row].item())
        for key, value in infos.items()
        if not key.startswith("_") and infos[f"_{key}"][row]
    }
