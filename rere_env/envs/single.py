"""The single environment: one user, one slate, one token a step. `Dynamics` at N = 1.

Knows Gymnasium's contract for one environment; the rules of the game live in `dynamics.py`.
"""

import copy
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded
from numpy.typing import NDArray

from rere_env.data.known import GAMES
from rere_env.dynamics.moves import Backend
from rere_env.dynamics.rows import Allowed, OnIllegal, Rows
from rere_env.envs.schedule import check_shard, chosen_example, is_training, ordered_example
from rere_env.envs.surface import SLATE_SIZE, MaskStyle, Surface, TokenIds, make_surface
from rere_env.filters import Exclude
from rere_env.render.display import RENDER_MODES, display
from rere_env.task import Task
from rere_env.tokenizer import Tokenizer
from rere_env.types import Reward

__all__ = ["ReReEnv"]


class ReReEnv(gym.Env[dict[str, Any], np.int64]):
    """Write a slate of titles for one user, token by token, best title first.

    Observation: a flat dict of int64 arrays, 0 = empty: `history` [H] and `slate` [K] hold title
    id + 1, `prefix` [L] the local tokens of the title being written. Action: the next token. A
    title that is complete or in the slate is never legal again, so K distinct titles result.
    Reward: 0 until the slate is full, then the sum of the reward function over it.

    Info of every `reset`: `example` (its index in the split), `pass` (times the shard has been
    served whole; 0 in training) and `target_reachable` (False if `exclude` hides it). Of every
    `step`: `illegal`. Of the last step of an episode: `slate` [K] title ids, `item_rewards` [K]
    float64, `reward_terms` (name -> float, summed over the slate), `target` (title id),
    `target_rank` (1 = first, 0 = not in the slate), `hit`, `is_success`. With `mask="info"` each
    of them: `action_mask` int8 [actions].
    """

    metadata: dict[str, Any] = {"render_modes": [*RENDER_MODES], "render_fps": 4}  # noqa: RUF012

    def __init__(
        self,
        task: Task | None = None,
        *,
        data: str | Path = GAMES,
        split: str = "train",
        slate_size: int = SLATE_SIZE,
        tokenizer: Tokenizer | str | None = None,
        token_ids: TokenIds = "local",
        reward: str | Reward | None = None,
        mask: MaskStyle = "info",
        on_illegal: OnIllegal = "terminate",
        illegal_reward: float = -1.0,
        max_tokens: int | None = None,
        shard: tuple[int, int] = (0, 1),
        exclude: Exclude = None,
        backend: Backend = "auto",
        render_mode: str | None = None,
    ) -> None:
        """Load the task and prepare its episodes.

        Args:
            task: What to recommend to whom. Default: built from `data` and `tokenizer`.
            data: "games" (built in), a known name ("toys", "yelp", ...) or a folder.
            split: Splits named "train..." are drawn from at random, others served in order.
            slate_size: K, titles to write.
            tokenizer: Default one token a word; a hub id or folder loads a Hugging Face one.
            token_ids: Actions are the catalogue's dense "local" ids, or the tokenizer's ("model").
            reward: A name of `rere_env.REWARDS` or a function; default: the task's.
            mask: Where the dense action mask goes: "info", "observation", or nowhere ("lazy").
            on_illegal: "terminate" the episode, "noop" or "raise".
            illegal_reward: Reward of an illegal token.
            max_tokens: Steps until truncation; default none ("noop": 2 K longest titles).
            shard: (i, N): serve examples i, i + N, ... of an evaluation split.
            exclude: Titles never to be written: "history", a list of item keys that are out of
                stock, or a `Filter`; default: the task's.
            backend: "numpy", "numba" (extra `fast`) or "auto": compiled where it is worth it.
            render_mode: "ansi", "human" (reset and step show themselves) or "rgb_array".
        """
        self._surface = make_surface(
            task,
            data=data,
            split=split,
            slate_size=slate_size,
            tokenizer=tokenizer,
            token_ids=token_ids,
            reward=reward,
            mask=mask,
            on_illegal=on_illegal,
            illegal_reward=illegal_reward,
            max_tokens=max_tokens,
            exclude=exclude,
            backend=backend,
        )
        self._dynamics = self._surface.dynamics
        self._num_examples = len(self._dynamics.examples)
        self._training = is_training(split)
        self._shard = (0, 1) if self._training else check_shard(shard, self._num_examples)
        self._served = 0  # episodes begun in this shard
        self._rows = self._dynamics.new_rows(1)
        self.observation_space = self._surface.observation_space
        self.action_space = self._surface.action_space
        self.render_mode = check_render_mode(render_mode)

    @property
    def task(self) -> Task:
        """Catalogue, trie, examples, prompt and reward."""
        return self._dynamics.task

    @property
    def surface(self) -> Surface:
        """Spaces, token ids and the dynamics behind them."""
        return self._surface

    @property
    def rows(self) -> Rows:
        """The state: one row."""
        return self._rows

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Begin an episode.

        Args:
            seed: Seeds the draw of training examples; rewinds an evaluation split.
            options: `{"example": i}` chooses the example.
        """
        super().reset(seed=seed)
        if seed is not None:
            self._served = 0
        example, num_passes = self._next_example(options)
        self._dynamics.start(self._rows, np.array([example]))
        info: dict[str, Any] = {
            "example": example,
            "pass": num_passes,
            "target_reachable": bool(self._dynamics.hidden.reachable[example]),
        }
        if self.render_mode == "human":
            self.render()
        return self._observe(info), info

    def step(
        self, action: int | np.integer[Any]
    ) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Write one token.

        Raises:
            ResetNeeded: The episode is over or has not begun.
            ValueError: The token is illegal under `on_illegal="raise"`.
        """
        if self._rows.finished[0]:
            raise ResetNeeded("the episode is over or has not begun; call `reset()` first.")
        token = np.asarray(action).item()
        if not isinstance(token, int):
            raise TypeError(f"an action must be an integer; got {action!r}.")
        tokens = self._surface.to_local(np.array([token]))
        moved = self._dynamics.step(self._rows, tokens)
        info: dict[str, Any] = {"illegal": bool(moved.illegal[0])}
        if moved.outcome is not None:
            info |= _first_row(moved.outcome.infos())
        observation = self._observe(info)
        if self.render_mode == "human":
            self.render()
        return (
            observation,
            float(moved.reward[0]),
            bool(moved.terminated[0]),
            bool(moved.truncated[0]),
            info,
        )

    def action_masks(self) -> NDArray[np.bool_]:
        """Return which actions are legal now, bool [actions] (sb3-contrib calls it by name)."""
        mask: NDArray[np.bool_] = self._surface.action_masks(self._rows)[0].view(np.bool_)
        return mask

    def candidates(self) -> Allowed:
        """Return the legal actions ragged: `indptr` [2] and `tokens`."""
        return self._surface.candidates(self._rows)

    def render(self) -> str | NDArray[np.uint8] | None:
        """Return the picture: text ("ansi") or uint8 [height, width, 3] ("rgb_array").

        Under "human" it is shown on stdout, and by `reset` and `step` too; returns None.
        """
        pictures = display(self.render_mode, self._dynamics, self._rows)
        return None if pictures is None else pictures[0]

    def get_state(self) -> dict[str, Any]:
        """Return a copy of the episode, the place in the shard and the generator."""
        return {
            "rows": self._rows.state(),
            "served": self._served,
            "np_random": copy.deepcopy(self.np_random.bit_generator.state),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Go back to a state of `get_state` (of an environment with the same arguments)."""
        self._rows.restore(state["rows"])
        self._served = state["served"]
        self.np_random.bit_generator.state = copy.deepcopy(state["np_random"])

    def _next_example(self, options: dict[str, Any] | None) -> tuple[int, int]:
        chosen = chosen_example(options, self._num_examples)
        if chosen is not None:
            return chosen.item(), 0
        if self._training:
            return int(self.np_random.integers(self._num_examples)), 0
        shard, num_shards = self._shard
        example, num_passes = ordered_example(
            np.array(self._served), shard, num_shards, self._num_examples
        )
        self._served += 1
        return int(example), int(num_passes)

    def _observe(self, info: dict[str, Any]) -> dict[str, Any]:
        observation = self._surface.observe(self._rows, info)
        if "action_mask" in info:
            info["action_mask"] = info["action_mask"][0]
        return {name: column[0] for name, column in observation.items()}


def check_render_mode(render_mode: str | None) -> str | None:
    """Return the mode if there is such a one.

    Raises:
        ValueError: There is not.
    """
    if render_mode not in (None, *ReReEnv.metadata["render_modes"]):
        raise ValueError(
            f"`render_mode` (={render_mode!r}) must be one of "
            f"{ReReEnv.metadata['render_modes']} or None."
        )
    return render_mode


def _first_row(infos: dict[str, Any]) -> dict[str, Any]:
    """Return row 0 with Python scalars, as Gymnasium wants a single environment's info."""
    return {
        key: _first_row(value)
        if isinstance(value, dict)
        else (value[0].copy() if value.ndim > 1 else value[0].item())
        for key, value in infos.items()
    }
