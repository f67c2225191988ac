"""Reward functions written for TRL, on our groups. TRL itself is not needed.

TRL calls `fn(prompts=[...], completions=[...], completion_ids=[...], **columns)`, one entry for
each completion, and expects one number each. Here prompts, titles and the target become text once,
and only to be shown to such a function.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rere_env.task import Task
from rere_env.types import NO_TITLE, Batch, FloatArray, IntArray, Reward

__all__ = ["from_trl_reward"]


def from_trl_reward(
    fn: Callable[..., Sequence[float | None]],
    task: Task,
    *,
    none_as: float | None = None,
    name: str | None = None,
) -> Reward:
    """Adapt a TRL reward function.

    It is called with lists of equal length, one entry a candidate, the candidates of a prompt next
    to each other and best first: `prompts` (what the policy reads, a line for each part that EOS
    ends), `completions` (titles as the catalogue writes them), `completion_ids` (their model token
    ids with EOS) and the column `target` (the title of the answer). Empty slots are paid 0 and not
    shown.

    Args:
        fn: `(prompts, completions, **kwargs) -> list[float]`.
        task: Writes prompts and titles.
        none_as: What a None of `fn` ("does not apply") is paid; by default it is an error.
        name: What it is called in logs; default: the name of `fn`.

    >>> def short(prompts, completions, **kwargs):
    ...     return [-float(len(text)) for text in completions]
    >>> task = task.with_reward(from_trl_reward(short, task))  # doctest: +SKIP

    Raises:
        TypeError: `fn` is a coroutine function.
    """
    if inspect.iscoroutinefunction(fn):
        raise TypeError(
            f"{_name(fn)} is a coroutine function; wrap it in one that runs it and returns a list."
        )
    return _TRLReward(fn, task, none_as, name or _name(fn))


class _TRLReward:
    def __init__(
        self,
        fn: Callable[..., Sequence[float | None]],
        task: Task,
        none_as: float | None,
        name: str,
    ) -> None:
        self._fn, self._task, self._none_as = fn, task, none_as
        self.__name__ = name

    def __call__(self, titles: IntArray, batch: Batch) -> FloatArray:
        row, slot = np.nonzero(titles != NO_TITLE)
        rewards = np.zeros(titles.shape, np.float32)
        if len(row) == 0:
            return rewards
        chosen = titles[row, slot].tolist()
        prompts = [_prompt_text(self._task, example.history) for example in batch]
        tokens = self._task.title_tokens
        paid = self._fn(
            prompts=[prompts[r] for r in row],
            completions=[self._task.decode_title(title) for title in chosen],
            completion_ids=[tokens.model_ids(title).tolist() for title in chosen],
            target=[self._task.decode_title(int(batch.target_title[r])) for r in row],
        )
        rewards[row, slot] = self._numbers(paid, len(row))
        return rewards

    def _numbers(self, paid: Any, count: int) -> list[float]:  # noqa: ANN401 - a user's answer
        if not isinstance(paid, Sequence | np.ndarray) or len(paid) != count:
            got = f"{len(paid)} values" if isinstance(paid, Sequence) else repr(paid)
            raise ValueError(f"{self.__name__} must return a list of {count} numbers; got {got}.")
        none_as = self._none_as
        if none_as is None:
            if any(value is None for value in paid):
                raise ValueError(
                    f"{self.__name__} returned None for a completion; return a number for each, "
                    "or say what None is paid: `none_as=0.0`."
                )
            none_as = 0.0
        return [none_as if value is None else float(value) for value in paid]


def _prompt_text(task: Task, history: Sequence[int]) -> str:
    """Decode what the policy reads; each part that EOS ends becomes a line."""
    parts: list[list[int]] = [[]]
    for token in task.prompt(history):
        if token == task.tokenizer.eos_id:
            parts.append([])
        else:
            parts[-1].append(token)
    return "\n".join(task.tokenizer.decode_completion(part) for part in parts if part)


def _name(fn: Callable[..., Any]) -> str:
    return getattr(fn, "__name__", type(fn).__name__)
