"""`rere recommend`: titles with probabilities for one history."""

import json
import sys
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from rere_env.task import Task
from rere_env.types import NO_TITLE, Batch

__all__ = ["Recommend"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommend:
    """Recommend titles to somebody who chose these, oldest first.

    Examples:
        rere recommend runs/mine --history "12 7 105" -k 5
        rere recommend runs/mine --titles "Iron Harbor" "Iron Harbor 2"

    Attributes:
        run_or_model: A folder of `rere train`, a folder with a causal LM, or a hub id.
        history: Item ids as the data files write them, separated by spaces, oldest first.
        titles: The same in exact titles.
        k: How many titles.
        data: Data folder or `games`; default: what the run was trained on.
        beam: Width of the search, at least k.
        json: Print JSON.
        device: Where to compute.
    """

    run_or_model: Annotated[str, tyro.conf.Positional]
    history: str | None = None
    titles: tuple[str, ...] = ()
    k: Annotated[int, tyro.conf.arg(aliases=["-k"])] = 10
    data: str | None = None
    beam: int = 50
    json: bool = False
    device: Literal["auto", "cpu", "cuda"] = "auto"

    def run(self) -> None:
        """Search and print."""
        from agents.commands.common import load_policy, warn_of_truncation
        from agents.lm_recommender import LMRecommender

        if (self.history is None) == (not self.titles):
            raise ValueError('give either --history "12 7 105" or --titles "A" "B".')
        if self.k < 1:
            raise ValueError(f"`k` (={self.k}) must be at least 1.")
        policy = load_policy(self.run_or_model, self.data, self.device)
        items = _keep_last(self._items(policy.task), policy.task.history_length)
        recommender = LMRecommender(
            policy.task, policy.lm, beam=max(self.beam, self.k), support=policy.config.support
        )
        found = recommender.search(_single(policy.task, items), self.k)
        warn_of_truncation(policy.task)
        rows = [
            {"title": policy.task.decode_title(int(title)), "probability": float(np.exp(logprob))}
            for title, logprob in zip(found.titles[0], found.logprobs[0], strict=True)
            if title != NO_TITLE
        ]
        self._print(policy.task, items, rows)

    def _items(self, task: Task) -> list[int]:
        if self.history is not None:
            return [task.catalogue.item_id(key) for key in self.history.split()]
        titles = [task.catalogue.title_id(title) for title in self.titles]
        return [int(task.catalogue.items_of(title)[0]) for title in titles]

    def _print(self, task: Task, items: list[int], rows: list[dict[str, Any]]) -> None:
        from rere_env.render.scene import printable

        history = [task.decode_title(int(task.catalogue.item_title[item])) for item in items]
        if self.json:
            print(json.dumps({"history": history, "recommendations": rows}, indent=2))
            return
        print("after " + (" | ".join(map(printable, history)) or "nothing"))
        for rank, row in enumerate(rows, start=1):
            print(f"{rank:>3}  {row['probability']:7.2%}  {printable(row['title'])}")


def _keep_last(items: list[int], history_length: int) -> list[int]:
    if len(items) > history_length:
        print(
            f"the history holds {len(items)} items; the model reads the last {history_length}.",
            file=sys.stderr,
        )
    return items[-history_length:]


def _single(task: Task, items: list[int]) -> Batch:
    history = np.full((1, task.history_length), -1, np.int32)
    history[0, : len(items)] = items
    unknown = np.zeros(1, np.int32) + NO_TITLE  # nobody knows the answer
    return Batch(user=np.zeros(1, np.int64), history=history, target=unknown, target_title=unknown)
