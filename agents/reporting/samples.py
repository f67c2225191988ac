"""Sample recommendations as text, beside history and target."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from agents.evaluation import Evaluation
from rere_env.render.scene import printable
from rere_env.task import Task
from rere_env.types import Batch

__all__ = ["Sample", "choose_samples"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One example in words.

    Attributes:
        history: Titles, oldest first.
        target: The title that came next.
        lists: The first titles of each recommender, best first.
    """

    history: list[str]
    target: str
    lists: dict[str, list[str]]


def choose_samples(
    task: Task,
    examples: Batch,
    evaluations: Mapping[str, Evaluation],
    *,
    num_samples: int = 20,
    num_titles: int = 5,
    seed: int = 0,
) -> list[Sample]:
    """Return random examples with what each recommender said; the draw sees no recommender.

    Args:
        task: Gives ids their titles.
        examples: What the evaluations were made on.
        evaluations: By name of the recommender.
        num_samples: At most so many.
        num_titles: Length of each list; a slot without a legal title is left out.
        seed: Of the draw.
    """
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.permutation(len(examples))[:num_samples])
    catalogue = task.catalogue

    def shown(title: int) -> str:
        return printable(task.decode_title(title))

    return [
        Sample(
            history=[shown(int(catalogue.item_title[i])) for i in examples[row].history],
            target=shown(examples[row].target_title),
            lists={
                name: [
                    shown(title)
                    for title in done.titles[row, :num_titles].tolist()
                    if 0 <= title < catalogue.num_titles
                ]
                for name, done in evaluations.items()
            },
        )
        for row in rows.tolist()
    ]
