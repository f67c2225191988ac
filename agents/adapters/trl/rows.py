"""The rows of TRL as groups of titles: texts and token ids in, rewards out. Imports no TRL.

A trainer of TRL knows B * G rows, a prompt and a completion each; the G rows of a prompt are
neighbours.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rere_env.rewards import pay
from rere_env.task import Task
from rere_env.tokenizer import HFTokenizer
from rere_env.types import BATCH_COLUMNS, NO_ITEM, NO_TITLE, Batch

__all__ = [
    "RewardFunction",
    "first_rows",
    "hf_tokenizer",
    "prompt_texts",
    "reward_function",
]

RewardFunction = Callable[..., list[float | None]]
"""`(prompts, completions, **columns) -> a reward for each row`, as TRL calls it (ours: no None)."""


def reward_function(task: Task, group_size: int, *, illegal_reward: float = -1.0) -> RewardFunction:
    """Return the task's reward as a reward function of TRL.

    A completion is the title whose token ids it has, EOS included, or where TRL gives no ids the
    one whose text it is, exactly. Anything else is illegal, as is a title that the task's filter
    hides: it never hits, keeps its rank in its group, and gets `illegal_reward`, as in the grouped
    rows of the vector environment.

    The rank is by likelihood, which `rollout_function` hands over. TRL does not say how likely its
    own samples are: there the rows of a group are ranked as they come, which means nothing. Pay
    rewards that do not see ranks for them (`hit`).

    Args:
        task: Whose reward is paid.
        group_size: G, `num_generations` of the trainer.
        illegal_reward: For what is no title.
    """
    titles_by_ids = {
        tuple(task.title_tokens.model_ids(title).tolist()): title
        for title in range(task.catalogue.num_titles)
    }
    titles_by_text = _completion_texts(task)

    def rere_reward(
        prompts: Sequence[Any],
        completions: Sequence[Any],
        completion_ids: Sequence[Sequence[int]] | None = None,
        title_logprob: Sequence[float] | None = None,
        log_metric: Callable[[str, float], None] | None = None,
        **columns: Any,  # noqa: ANN401 - whatever the data set has
    ) -> list[float | None]:
        rows = first_rows(prompts, group_size)
        batch = _examples(task, columns, rows)
        if completion_ids is None:
            found = [titles_by_text.get(_text(one), NO_TITLE) for one in completions]
        else:
            found = [titles_by_ids.get(tuple(ids), NO_TITLE) for ids in completion_ids]
        titles = np.array(found, np.int64).reshape(-1, group_size)
        if (hidden := task.hidden(batch)) is not None:
            titles[hidden.marks(titles, task.trie.num_titles)] = NO_TITLE
        score = np.zeros(len(found)) if title_logprob is None else np.asarray(title_logprob)
        order = np.argsort(-score.reshape(titles.shape), axis=1, kind="stable")
        rewards, terms = pay(task.reward, np.take_along_axis(titles, order, 1), batch)
        paid = np.take_along_axis(rewards, np.argsort(order, axis=1), 1)
        if log_metric is not None:
            log_metric("rollout/illegal_rate", float((titles == NO_TITLE).mean()))
            for name, values in terms.items():
                log_metric(f"reward/{name}", float(values.sum(axis=1).mean()))
        result: list[float | None] = (
            np.where(titles == NO_TITLE, illegal_reward, paid).ravel().tolist()
        )
        return result

    return rere_reward


def hf_tokenizer(task: Task) -> HFTokenizer:
    """Return the task's tokenizer.

    Raises:
        ValueError: It is not one of Hugging Face.
    """
    if not isinstance(task.tokenizer, HFTokenizer):
        raise ValueError(
            f"`task` has a {type(task.tokenizer).__name__}, and TRL needs a tokenizer of Hugging "
            "Face; build the task with `load_backbone(...).task(dataset)` or an HFTokenizer."
        )
    return task.tokenizer


def prompt_texts(task: Task, histories: Sequence[Sequence[int]]) -> list[str]:
    """Return the texts of prompts, without what the tokenizer puts before every text.

    Raises:
        ValueError: A text gives other ids.
    """
    tokenizer = hf_tokenizer(task)
    start = len(tokenizer.prompt_prefix)
    prompts = [task.prompt(history) for history in histories]
    texts: list[str] = [
        tokenizer.tokenizer.decode(
            ids[start:], skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        for ids in prompts
    ]
    for text, ids, again in zip(
        texts, prompts, tokenizer.tokenizer(texts)["input_ids"], strict=True
    ):
        if list(again) != ids:
            raise ValueError(
                f"the prompt {text!r} gives the tokens {list(again)}, not those it was made of "
                f"({ids}), and TRL takes prompts as text; use a tokenizer and a prompt that "
                "survive decoding."
            )
    return texts


def first_rows(prompts: Sequence[Any], group_size: int) -> NDArray[np.int64]:
    """Return the first row of each group.

    Raises:
        ValueError: The rows are not whole groups.
    """
    first = np.arange(0, len(prompts), group_size)
    if len(prompts) % group_size or any(
        prompts[row] != prompts[row - row % group_size] for row in range(len(prompts))
    ):
        raise ValueError(
            f"the {len(prompts)} rows must be groups of {group_size} with one prompt each; give "
            "`num_generations` as `group_size`, and let every process hold whole groups "
            "(`per_device_train_batch_size` * `steps_per_generation`)."
        )
    return first


def _completion_texts(task: Task) -> dict[str, int]:
    """Return titles by text: bare, and as the tokenizer's template writes them."""
    titles = task.catalogue.titles
    template = "{title}"
    if isinstance(task.tokenizer, HFTokenizer):
        template = task.tokenizer.completion_template
    written = {template.replace("{title}", title): place for place, title in enumerate(titles)}
    return written | {title: place for place, title in enumerate(titles)}


def _text(completion: Any) -> str:  # noqa: ANN401 - text, or the messages of a conversation
    text: str = completion if isinstance(completion, str) else completion[-1]["content"]
    return text


def _examples(task: Task, columns: dict[str, Any], rows: NDArray[np.int64]) -> Batch:
    """Gather the examples of the groups from the columns of `prompt_dataset`."""
    if missing := [name for name in BATCH_COLUMNS if name not in columns]:
        raise ValueError(
            f"the data set lacks the columns {missing}; `prompt_dataset` makes one that has them."
        )
    history = np.full((len(rows), task.history_length), NO_ITEM, np.int32)
    for place, row in enumerate(rows):
        items = columns["history"][row]
        history[place, : len(items)] = items
    user, target, title = (
        np.array(columns[name])[rows] for name in BATCH_COLUMNS if name != "history"
    )
    return Batch(user=user, history=history, target=target, target_title=title)
