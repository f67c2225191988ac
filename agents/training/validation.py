"""What a policy is chosen by while it trains: the same rows of every training, measured alike."""

import numpy as np

from agents.evaluation import evaluate
from rere_env.task import Task
from rere_env.types import Batch, Recommender

__all__ = ["SELECT_BY", "validate", "validation_rows"]

SELECT_BY = "valid/ndcg@10"
"""What the best policy of a training is chosen by."""

MEASURED = ("ndcg@10", "hit_rate@1", "hit_rate@10")


def validation_rows(task: Task, num_rows: int) -> Batch:
    """Return random validation rows in file order, the same for `rere train` and `rere compare`.

    Args:
        task: Its split `valid` is drawn from.
        num_rows: How many; all of them where there are no more.
    """
    return task.split("valid").sample(num_rows, np.random.default_rng(0))


def validate(recommender: Recommender, task: Task, examples: Batch) -> dict[str, float]:
    """Return the measures of a learning curve, keys `valid/...`."""
    done = evaluate(recommender, task, examples, ks=(1, 10), progress=False, num_resamples=0)
    return {f"valid/{name}": done.metrics[name].value for name in MEASURED}
