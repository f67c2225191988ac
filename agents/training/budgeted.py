"""Algorithms of either kind as something with `train`; a policy within a budget, in memory.

The main job (`agents.experiment`) keeps checkpoints and resumes; this is for comparisons, tests and
notebooks: no run folder.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor
from tqdm.auto import tqdm

from agents.budget import Budget, Meter
from agents.lm_recommender import LMRecommender, final_search
from agents.policy import Backbone, load_backbone
from agents.registry import Algorithm, AlgorithmInfo
from agents.rere.config import ReReConfig
from agents.runs.numbers import StageSettings
from agents.training.fit import cosine_schedule
from agents.training.learners import ReReLearner
from agents.training.validation import SELECT_BY, validate, validation_rows
from rere_env.task import Task

__all__ = ["PolicyAlgorithm", "as_algorithm", "train_policy"]

Validate = Callable[[LMRecommender], float]
"""What the best policy of a training is chosen by; higher is better."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyAlgorithm:
    """A `ReReConfig` as an algorithm: by RL alone, from an untrained model or a checkpoint.

    Attributes:
        config: The choices.
        model: What is trained: `scratch:<size>`, a model folder or a hub id.
        model_seed: Of untrained weights; None: that of the training.
        learning_rate: Peak of the schedule.
        prompts_per_step: B.
        valid_rows: Validation rows that choose among the policies of a training; None: the last
            one is kept.
    """

    config: ReReConfig
    model: str = "scratch:nano"
    model_seed: int | None = None
    learning_rate: float = 3e-3
    prompts_per_step: int = 32
    valid_rows: int | None = None

    def train(self, task: Task, budget: Budget, *, seed: int) -> LMRecommender:
        """Train a policy on the task's examples; it has a tokenizer, and so a task, of its own."""
        model_seed = seed if self.model_seed is None else self.model_seed
        backbone = load_backbone(self.model, task.catalogue.titles, seed=model_seed)
        own = backbone.task(task.dataset, reward=task.reward, exclude=task.exclude)
        return train_policy(
            own,
            backbone,
            self.config,
            budget,
            seed=seed,
            learning_rate=self.learning_rate,
            prompts_per_step=self.prompts_per_step,
            validate=None if self.valid_rows is None else _validator(own, self.valid_rows),
        )


def _untrained(config: ReReConfig) -> PolicyAlgorithm:
    return PolicyAlgorithm(config=config)


def as_algorithm(
    info: AlgorithmInfo, policy: Callable[[ReReConfig], PolicyAlgorithm] = _untrained
) -> Algorithm:
    """Load an algorithm of either kind as one that trains on a task.

    Args:
        info: Which.
        policy: How choices are trained, if it is such; default: a small untrained model.
    """
    loaded = info.load()
    return policy(loaded) if isinstance(loaded, ReReConfig) else loaded


def train_policy(
    task: Task,
    backbone: Backbone,
    config: ReReConfig,
    budget: Budget,
    *,
    seed: int = 0,
    learning_rate: float = 4e-5,
    prompts_per_step: int = 64,
    validate: Validate | None = None,
    num_validations: int = 3,
    accelerator: Accelerator | None = None,
    progress: bool = False,
) -> LMRecommender:
    """Train a policy by RL until the budget is spent.

    Args:
        task: The backbone's.
        backbone: What is trained, in place.
        config: The choices.
        budget: Seconds, or optimiser steps; validation does not count.
        seed: Of prompts and samplers.
        learning_rate: Peak of a warm-up and half a cosine over the budget.
        prompts_per_step: B.
        validate: Measures a policy; None: the last one is returned, else the best.
        num_validations: Evenly spread over the budget, besides the one before it.
        accelerator: Of one process; default: the CPU.
        progress: Show a bar.
    """
    accelerator = accelerator or Accelerator(cpu=True)
    _check_alone(accelerator)
    settings = StageSettings(learning_rate=learning_rate)
    examples = task.split("train")
    learner = ReReLearner(
        task,
        examples.take(np.flatnonzero(~task.hides_target(examples))),
        backbone,
        settings,
        accelerator,
        config=config,
        num_steps=0,  # the budget ends it
        prompts_per_step=prompts_per_step,
        seed=seed,
    )
    recommender = LMRecommender(
        task,
        learner.language_model,
        search=final_search(config.support),
        support=config.support,
    )
    best = _Best(recommender, validate)
    best.look()
    meter, step, validated = budget.start(), 0, 0
    with tqdm(total=100, desc="RL", unit="%", disable=not progress) as bar:
        while not meter.over(step):
            used = meter.used(step)
            for group in learner.optimizer.param_groups:
                group["lr"] = learning_rate * cosine_schedule(
                    int(1000 * used), 1000, settings.warmup_share
                )
            learner.update(step)
            step += 1
            used = min(meter.used(step), 1.0)
            bar.update(int(100 * used) - bar.n)
            if int(used * num_validations) > validated:
                validated = int(used * num_validations)
                best.look(meter)
    best.restore()
    learner.language_model.eval()
    return recommender


def _check_alone(accelerator: Accelerator) -> None:
    # A budget of seconds would end on each process at another step.
    if (num_processes := accelerator.num_processes) > 1:
        raise ValueError(
            f"a budget is spent by one process, and there are {num_processes}; launch it without "
            "torchrun or accelerate, or train with `rere train`."
        )


def _validator(task: Task, num_rows: int) -> Validate:
    examples = validation_rows(task, num_rows)
    return lambda policy: validate(policy, task, examples)[SELECT_BY]


class _Best:
    """The best policy seen so far."""

    def __init__(self, recommender: LMRecommender, validate: Validate | None) -> None:
        self._recommender, self._validate = recommender, validate
        self._value = -float("inf")
        self._state: dict[str, Tensor] = {}

    def look(self, meter: Meter | None = None) -> None:
        """Validate, and keep the policy if it is the best; a meter does not count the time."""
        if self._validate is None:
            return
        started = 0.0 if meter is None else meter.seconds
        value = self._validate(self._recommender)
        if value > self._value:
            state = self._recommender.lm.state_dict()
            self._value, self._state = value, {k: v.clone() for k, v in state.items()}
        if meter is not None:
            meter.without(meter.seconds - started)

    @torch.no_grad()
    def restore(self) -> None:
        """Go back to the best policy."""
        if self._state:
            self._recommender.lm.load_state_dict(self._state)
