"""Prompts that do not fit a model's context: an error that names the row, or a counted cut.

A prompt must leave room for the longest title. Knows nothing of models but how long they read.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from agents.types import OnLongPrompt
from rere_env.prompts import Prompt
from rere_env.task import Task
from rere_env.types import Batch

__all__ = [
    "FittingPrompt",
    "count_long_prompts",
    "fit_prompts",
    "num_truncated",
]


@dataclass(slots=True, kw_only=True, eq=False)
class FittingPrompt:
    """A prompt of at most `limit` tokens.

    Attributes:
        prompt: The prompt as it is.
        limit: Most tokens.
        on_long: What to do with a longer one.
        num_truncated: Prompts cut so far.
    """

    prompt: Prompt
    limit: int
    on_long: OnLongPrompt
    num_truncated: int = 0

    def __call__(self, history: Sequence[int]) -> list[int]:
        """Return the prompt of a history, of its newest items only where that is allowed.

        Raises:
            ValueError: It does not fit: any at "error", one whose newest item alone is too long at
                "truncate".
        """
        ids = self.prompt(history)
        if len(ids) <= self.limit:
            return ids
        if self.on_long == "truncate":
            for start in range(1, len(history)):
                shorter = self.prompt(history[start:])
                if len(shorter) <= self.limit:
                    self.num_truncated += 1
                    return shorter
        raise ValueError(
            f"the prompt of {len(history)} history items has {len(ids)} tokens, and the model "
            f"reads at most {self.limit} before a title; {REMEDY}"
        )


REMEDY = (
    "use on_long_prompt=truncate (--on-long-prompt truncate) to keep the newest items only, a "
    "smaller `history_length`, or a model with a longer context."
)


def fit_prompts(task: Task, max_length: int | None, on_long: OnLongPrompt) -> Task:
    """Return the task with prompts that leave room for the longest title.

    Args:
        task: Its prompt may have been fitted before; that limit is replaced.
        max_length: Positions of the model; None: no limit.
        on_long: What to do with a prompt that does not fit.

    Raises:
        ValueError: The longest title alone does not fit.
    """
    prompt = task.prompt.prompt if isinstance(task.prompt, FittingPrompt) else task.prompt
    if max_length is None:
        return replace(task, prompt=prompt)
    limit = max_length - (task.trie.max_length - 1)  # the last token of a title is never read
    if limit < 1:
        raise ValueError(
            f"the longest title has {task.trie.max_length} tokens, and the model reads at most "
            f"{max_length}; use a model with a longer context."
        )
    return replace(task, prompt=FittingPrompt(prompt=prompt, limit=limit, on_long=on_long))


def count_long_prompts(task: Task, split: str, examples: Batch) -> int:
    """Return how many prompts of a split are cut.

    Args:
        task: From `fit_prompts`.
        split: Its name, for the message.
        examples: Its examples; all are looked at.

    Raises:
        ValueError: One does not fit; the message names split, row, user, length and limit.
    """
    if not isinstance(task.prompt, FittingPrompt):
        return 0
    fitting = replace(task.prompt, num_truncated=0)
    for row, example in enumerate(examples):
        try:
            fitting(example.history)
        except ValueError as error:
            raise ValueError(
                f"split {split!r}, row {row} (user {example.user}): {error}"
            ) from error
    return fitting.num_truncated


def num_truncated(task: Task) -> int:
    """Return how many prompts a task has cut so far."""
    return task.prompt.num_truncated if isinstance(task.prompt, FittingPrompt) else 0
