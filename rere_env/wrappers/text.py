"""The episode in words, for people, logs and policies that read. Knows no spaces, no actions."""

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector import VectorEnv, VectorWrapper

from rere_env.dynamics import Dynamics
from rere_env.task import Task
from rere_env.types import OBSERVATION_KEYS, IntArray
from rere_env.wrappers.base import VectorStep, check_ids, find_env, find_vector_env

__all__ = ["EpisodeText", "VectorEpisodeText"]


class EpisodeText(gym.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Add the words behind the ids to the info.

    Every info gets `text`: `history` and `slate`, lists of titles (oldest first, best first), and
    `prefix`, the title being written. The info of `reset` also gets the prompt of the episode,
    `prompt_ids` (a list of model token ids) and `prompt` (their text, EOS left out).
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        """Wrap a `ReReEnv` whose observation is still a dict.

        Raises:
            TypeError: It is another environment, or a wrapper inside has changed the observation.
        """
        RecordConstructorArgs.__init__(self)
        gym.Wrapper.__init__(self, env)
        self._base = find_env(env, "EpisodeText")
        check_ids(env.observation_space, "EpisodeText")

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode; the info has its prompt and its text."""
        observation, info = self.env.reset(seed=seed, options=options)
        info |= _prompt(self._base.surface.dynamics, info["example"])
        info["text"] = _text(self._base.task, observation)
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:  # noqa: ANN401
        """Step; the info has the text."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        info["text"] = _text(self._base.task, observation)
        return observation, reward, terminated, truncated, info


class VectorEpisodeText(VectorWrapper):
    """`EpisodeText` of all rows of a `ReReVectorEnv`. Decodes row by row, so it is slow."""

    def __init__(self, env: VectorEnv[Any, Any, Any]) -> None:
        """Wrap a `ReReVectorEnv` whose observations are still a dict.

        Raises:
            TypeError: It is another environment, or a wrapper inside has changed the observations.
        """
        super().__init__(env)
        self._base = find_vector_env(env, "VectorEpisodeText")
        check_ids(env.single_observation_space, "VectorEpisodeText")

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Any, dict[str, Any]]:
        """Begin episodes; the infos of their rows have prompts and texts."""
        observations, infos = self.env.reset(seed=seed, options=options)  # type: ignore[arg-type]
        return observations, self._add_text(infos, observations, np.flatnonzero(infos["_example"]))

    def step(self, actions: IntArray) -> VectorStep:
        """Step; the infos of all rows have texts, those of new episodes their prompts."""
        observations, reward, terminated, truncated, infos = self.env.step(actions)
        infos = self._add_text(infos, observations, np.arange(self.num_envs))
        for row in np.flatnonzero(infos.get("_final_obs", [])).tolist():
            text = {"text": _text(self._base.task, infos["final_obs"][row])}
            infos["final_info"] = self._add_info(infos["final_info"], text, row)
        return observations, reward, terminated, truncated, infos

    def _add_text(
        self, infos: dict[str, Any], observations: dict[str, IntArray], rows: IntArray
    ) -> dict[str, Any]:
        begun = infos.get("_example", np.zeros(self.num_envs, np.bool_))
        for row in rows.tolist():
            info: dict[str, Any] = {}
            if begun[row]:
                info |= _prompt(self._base.surface.dynamics, int(infos["example"][row]))
            info["text"] = _text(
                self._base.task, {key: observations[key][row] for key in OBSERVATION_KEYS}
            )
            infos = self._add_info(infos, info, row)
        return infos


def _text(task: Task, observation: dict[str, IntArray]) -> dict[str, Any]:
    """Return the words of one observation."""

    def titles(shown: IntArray) -> list[str]:
        return [task.decode_title(int(title) - 1) for title in shown if title > 0]

    prefix = observation["prefix"]
    tokens = task.title_tokens.to_model_ids(prefix[prefix > 0])
    return {
        "history": titles(observation["history"]),
        "slate": titles(observation["slate"]),
        "prefix": task.tokenizer.decode_completion(tokens.tolist()),
    }


def _prompt(dynamics: Dynamics, example: int) -> dict[str, Any]:
    """Return the prompt of an example as ids and as text."""
    ids = dynamics.task.prompt(dynamics.examples[example].history)
    return {"prompt_ids": ids, "prompt": dynamics.task.tokenizer.decode_completion(ids)}
