"""Decisions as actions: forced tokens are skipped, and every action is legal.

Any library with discrete actions can learn this way without knowing of masks, in episodes that are
several times shorter. What a decision is and which token it stands for:
`rere_env.dynamics.decisions`.
"""

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector import VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from rere_env.dynamics.decisions import Decisions
from rere_env.types import BoolArray, IntArray
from rere_env.wrappers.base import MASK, VectorStep, find_env, find_vector_env

__all__ = ["DecisionActions", "VectorDecisionActions"]


class DecisionActions(gym.Wrapper[Any, np.int64, Any, np.int64], RecordConstructorArgs):
    """Choose among the continuations of a title; whatever has no alternative is written unasked.

    Action: `Discrete(children of the widest node of the trie)`. Action k is child k of the node
    reached, modulo its full number of children, so that its meaning does not shift when a title
    is hidden; if nothing may be written below that child, the next legal one is taken, cyclically.
    Forced tokens are written at `reset` and after each action, across titles; where an episode
    holds no decision at all, its last token is asked for, so that there is one step.

    Reward: the sum over the tokens written. Info: that of the last token, or of the reset. All
    else is the environment's own, but for its `action_mask`: here every action is legal and every
    mask is all ones (`mask="lazy"` saves the environment the work). Wrappers inside see tokens,
    those outside see decisions: put `TimeLimit` and `RecordEpisodeStatistics` outside.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        """Wrap a `ReReEnv`.

        Raises:
            TypeError: It is another environment.
            ValueError: A wrapper inside has changed the actions.
        """
        RecordConstructorArgs.__init__(self)
        gym.Wrapper.__init__(self, env)
        self._base = find_env(env, "DecisionActions")
        _check_tokens(env.action_space, self._base.action_space)
        self._decisions = Decisions(self._base.surface.dynamics)
        self._num_actions = self._decisions.num_actions
        self._carried = 0.0  # paid for tokens before the first decision
        self.action_space = spaces.Discrete(self._num_actions)
        self.observation_space = _with_mask_of(env.observation_space, self._num_actions)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode and write up to its first decision.

        Raises:
            RuntimeError: A wrapper inside ended the episode before that.
        """
        observation, info = self.env.reset(seed=seed, options=options)
        self._carried = 0.0
        while (token := self._forced()) >= 0 and not self._ends(token):
            observation, reward, terminated, truncated, _ = self.env.step(self._action(token))
            self._carried += float(reward)
            if terminated or truncated:
                raise RuntimeError(
                    "a wrapper inside `DecisionActions` ended the episode before its first "
                    "decision; put it (a `TimeLimit`, for instance) outside."
                )
        self._open_masks(observation, info)
        return observation, info

    def step(self, action: int | np.integer[Any]) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Write the token of a decision and all that is forced after it."""
        choice = np.asarray(action).reshape(-1)
        _check_choices(choice, 1, self._num_actions)
        token = int(self._decisions.tokens(self._base.rows, choice)[0])
        observation, reward, terminated, truncated, info = self.env.step(self._action(token))
        total, self._carried = self._carried + float(reward), 0.0
        while not (terminated or truncated) and (token := self._forced()) >= 0:
            observation, reward, terminated, truncated, info = self.env.step(self._action(token))
            total += float(reward)
        self._open_masks(observation, info)
        return observation, total, terminated, truncated, info

    def action_masks(self) -> NDArray[np.bool_]:
        """Return all True: every action is legal."""
        return np.ones(self._num_actions, np.bool_)

    def _forced(self) -> int:
        """Return the only legal local token, -1 where there is a choice."""
        return int(self._decisions.forced(self._base.rows)[0])

    def _ends(self, token: int) -> bool:
        return bool(self._decisions.ends(self._base.rows, np.array([token]))[0])

    def _action(self, token: int) -> np.int64:
        return np.int64(self._base.surface.to_actions(np.array([token]))[0])

    def _open_masks(self, *holders: object) -> None:
        for holder in holders:
            if isinstance(holder, dict) and MASK in holder:
                holder[MASK] = np.ones(self._num_actions, np.int8)


class VectorDecisionActions(VectorWrapper):
    """`DecisionActions` of all rows of a `ReReVectorEnv` at once, under every autoreset mode.

    It becomes the `driver` of the environment: from then on, this also skips forced tokens when
    stepped directly. Wrappers inside see whole decisions.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any]) -> None:
        """Wrap a `ReReVectorEnv`.

        Raises:
            TypeError: It is another vector environment.
            ValueError: A wrapper inside has changed the actions.
        """
        super().__init__(env)
        self._base = find_vector_env(env, "VectorDecisionActions")
        _check_tokens(env.single_action_space, self._base.single_action_space)
        self._decisions = Decisions(self._base.surface.dynamics)
        self._num_actions = self._decisions.num_actions
        self._base.driver = self._decisions
        self.single_action_space = spaces.Discrete(self._num_actions)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self.single_observation_space = _with_mask_of(
            env.single_observation_space, self._num_actions
        )
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Any, dict[str, Any]]:
        """Begin episodes and write up to their first decisions."""
        observations, infos = self.env.reset(seed=seed, options=options)  # type: ignore[arg-type]
        self._open_masks(observations, infos)
        return observations, infos

    def step(self, actions: IntArray) -> VectorStep:
        """Write the token of each row's decision and all that is forced after it."""
        actions = np.asarray(actions)
        _check_choices(actions, self.num_envs, self._num_actions)
        tokens = self._decisions.tokens(self._base.rows, actions)
        step: VectorStep = self.env.step(self._base.surface.to_actions(tokens))
        self._open_masks(step[0], step[4])
        return step

    def action_masks(self) -> BoolArray:
        """Return all True [N, actions]: every action is legal."""
        return np.ones((self.num_envs, self._num_actions), np.bool_)

    def _open_masks(self, observations: object, infos: dict[str, Any]) -> None:
        for holder in (observations, infos, infos.get("final_info")):
            if isinstance(holder, dict) and MASK in holder:
                holder[MASK] = np.ones((self.num_envs, self._num_actions), np.int8)
        if "final_obs" in infos:
            for last in infos["final_obs"][infos["_final_obs"]]:
                if isinstance(last, dict) and MASK in last:
                    last[MASK] = np.ones(self._num_actions, np.int8)


def _with_mask_of(space: spaces.Space[Any], num_actions: int) -> spaces.Space[Any]:
    """Return an observation space whose mask, if it has one, is as long as there are actions."""
    if isinstance(space, spaces.Dict) and MASK in space.spaces:
        return spaces.Dict({**space.spaces, MASK: spaces.Box(0, 1, (num_actions,), np.int8)})
    return space


def _check_tokens(space: spaces.Space[Any], tokens: spaces.Space[Any]) -> None:
    if space != tokens:
        raise ValueError(
            f"decisions are made of tokens, {tokens}, but a wrapper inside has made the actions "
            f"{space}; put that wrapper outside, and decisions only once."
        )


def _check_choices(actions: IntArray, num_rows: int, num_actions: int) -> None:
    if actions.shape != (num_rows,) or actions.dtype.kind not in "iu":
        raise ValueError(
            f"actions must be {num_rows} integers, one a row; got shape {actions.shape} of dtype "
            f"{actions.dtype}."
        )
    if actions.min() < 0 or actions.max() >= num_actions:
        raise ValueError(
            f"decisions must lie in 0..{num_actions - 1}; got {actions.min()}..{actions.max()}."
        )
