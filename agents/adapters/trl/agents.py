"""TRL on our tasks: its GRPOTrainer trains on our prompts, our rewards and our searches.

    trainer = GRPOTrainer(
        model,
        reward_funcs=reward_function(task, group_size=8),
        rollout_func=rollout_function(task),
        train_dataset=prompt_dataset(task),
        processing_class=task.tokenizer.tokenizer,
        args=GRPOConfig(num_generations=8, ...),
    )
    trainer.train()
    evaluate(LMRecommender(task, LanguageModel(model)), task, task.split("test"))

Each of the three works without the others; `reward_function` (`agents.adapters.trl.rows`) also
without TRL. TRL warns that `rollout_func` is experimental: TRL_EXPERIMENTAL_SILENCE=1 in the
environment says that this is known.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

try:
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer  # type: ignore[attr-defined]  # exported lazily
except ImportError as error:
    raise ImportError('agents.adapters.trl needs TRL: pip install "rere-env[trl]".') from error

import numpy as np
import torch
from transformers import (
    PreTrainedModel,
    PrinterCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
)

from agents.adapters.trl.rows import (
    first_rows,
    hf_tokenizer,
    prompt_texts,
    reward_function,
)
from agents.budget import Budget, Meter
from agents.language_model import LanguageModel
from agents.lm_recommender import LMRecommender
from agents.policy import Policy, load_backbone
from agents.scoring import score_groups
from agents.search import beam_search
from agents.types import Sampler, Support
from rere_env.filters import Hidden
from rere_env.prompts import Prompts
from rere_env.task import Task
from rere_env.types import BATCH_COLUMNS, NO_TITLE, Batch

__all__ = ["TRLGRPO", "prompt_dataset", "reward_function", "rollout_function"]

# B prompts, G completions each, in B * G rows: the rows of a prompt are neighbours.


def prompt_dataset(task: Task, split: str = "train") -> Dataset:
    """Return the examples of a split as TRL reads them; those with a hidden target are left out.

    Columns: `prompt` (text), and for the reward `user`, `history` and `target` (item ids) and
    `target_title`.

    Raises:
        ValueError: A prompt's text does not give its token ids again, or the task's tokenizer is
            not one of Hugging Face.
    """
    examples = task.split(split)
    rows = [examples[row] for row in np.flatnonzero(~task.hides_target(examples)).tolist()]
    prompts = prompt_texts(task, [row.history for row in rows])
    columns = {name: [getattr(row, name) for row in rows] for name in BATCH_COLUMNS}
    return Dataset.from_dict({"prompt": prompts, **columns})


def rollout_function(
    task: Task, *, sampler: Sampler = beam_search, support: Support = "vocabulary"
) -> Callable[[list[str], GRPOTrainer], dict[str, Any]]:
    """Return a `rollout_func` for GRPOTrainer: the candidates of one of our searches or samplers.

    TRL gets the tokens of each title with their log-probabilities under the whole vocabulary, by
    which it trains; `reward_function` gets `title_logprob`, by which titles are ranked. One process
    must hold whole groups.

    Args:
        task: Catalogue and filter.
        sampler: Of `agents.search`; it must find `num_generations` titles.
        support: What it normalises probabilities over.
    """
    return _Rollout(task, sampler, support)


class _Rollout:
    def __init__(self, task: Task, sampler: Sampler, support: Support) -> None:
        self.task, self.sampler, self.support = task, sampler, support
        self._tokenizer = hf_tokenizer(task).tokenizer
        self._examples = {} if task.exclude is None else _examples_by_prompt(task)
        self._policy: Policy | None = None

    @torch.no_grad()
    def __call__(self, prompts: list[str], trainer: GRPOTrainer) -> dict[str, Any]:
        """Write titles for B prompts, each of which stands G times in a row."""
        model = trainer.accelerator.unwrap_model(trainer.model)
        is_training = model.training
        # TRL's type allows None; its trainer has a number by now.
        size: int = trainer.num_generations if is_training else trainer.num_generations_eval  # type: ignore[assignment]
        texts = [prompts[row] for row in first_rows(prompts, size)]
        prompt_ids = [list(ids) for ids in self._tokenizer(texts)["input_ids"]]
        prompts_read = Prompts(prompt_ids, hidden=self._hidden(texts))
        policy = self._wrap(model)
        with trainer.accelerator.autocast(), policy.evaluating():
            found = self.sampler(policy, prompts_read, size)
            if (found.titles == NO_TITLE).any():
                raise ValueError(
                    f"`num_generations` (={size}) titles must be found for every prompt, and only "
                    f"{(found.titles != NO_TITLE).sum(axis=1).min()} were; use a smaller one, or a "
                    "sampler that keeps to the catalogue."
                )
            trees = policy.under("vocabulary").plan(prompts_read, found.titles)
            scores = score_groups(policy.lm, trees, policy.lm.device)
        tokens = self.task.title_tokens
        titles = found.titles.ravel().tolist()
        return {
            "prompt_ids": [ids for ids in prompt_ids for _ in range(size)],
            "completion_ids": [tokens.model_ids(title).tolist() for title in titles],
            "logprobs": [
                logprobs[kept].tolist()
                for logprobs, kept in zip(
                    scores.logprobs.flatten(0, 1), scores.mask.flatten(0, 1), strict=True
                )
            ],
            "title_logprob": found.logprobs.ravel().tolist(),
        }

    def _wrap(self, model: PreTrainedModel) -> Policy:
        """Return the model as our searches see it; made once for each model."""
        if self._policy is None or self._policy.lm.model is not model:
            self._policy = Policy.of(LanguageModel(model), self.task, self.support)
        return self._policy

    def _hidden(self, texts: list[str]) -> Hidden | None:
        """Return what each prompt may not be shown: what is hidden from any example that has it."""
        if self.task.exclude is None:
            return None
        if unknown := [text for text in texts if text not in self._examples]:
            raise ValueError(
                f"the prompt {unknown[0]!r} is of no example of the task, and the task's filter "
                "hides titles by example; train on `prompt_dataset(task)`."
            )
        found = [
            [
                hidden
                for examples in self._examples[text]
                if (hidden := self.task.hidden(examples)) is not None
            ]
            for text in texts
        ]
        return Hidden.from_lists(
            [np.concatenate([hidden.titles for hidden in each]) for each in found],
            everybody=np.concatenate([hidden.everybody for each in found for hidden in each[:1]]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TRLGRPO:
    """GRPO by TRL, on the beams of our search.

    Attributes:
        model: As `load_backbone` takes it: `scratch:<size>`, a folder or a hub id.
        group_size: G, titles a prompt.
        num_prompts: Prompts of an optimiser step.
        learning_rate: Constant; the default is for models from scratch.
        sampler: Of `agents.search`.
        options: Further arguments of `GRPOConfig`.
    """

    model: str = "scratch:nano"
    group_size: int = 8
    num_prompts: int = 16
    learning_rate: float = 3e-3
    sampler: Sampler = beam_search
    options: dict[str, Any] = field(default_factory=dict)

    def train(self, task: Task, budget: Budget, *, seed: int) -> LMRecommender:
        """Train within the budget; a step is an optimiser step."""
        meter = budget.start()
        backbone = load_backbone(self.model, task.catalogue.titles, seed=seed)
        task = backbone.task(task.dataset, reward=task.reward, exclude=task.exclude)
        with tempfile.TemporaryDirectory() as folder:
            trainer = GRPOTrainer(
                backbone.model,
                reward_funcs=reward_function(task, self.group_size),
                rollout_func=rollout_function(task, sampler=self.sampler),
                train_dataset=prompt_dataset(task),
                processing_class=backbone.tokenizer.tokenizer,
                callbacks=[_StopInTime(meter)],
                args=self._arguments(folder, budget, seed),
            )
            trainer.remove_callback(PrinterCallback)
            trainer.train()
        model = trainer.accelerator.unwrap_model(trainer.model).eval()
        return LMRecommender(task, LanguageModel(model), support="vocabulary")

    def _arguments(self, folder: str, budget: Budget, seed: int) -> GRPOConfig:
        chosen: dict[str, Any] = {
            "num_generations": self.group_size,
            "per_device_train_batch_size": self.group_size * self.num_prompts,
            "learning_rate": self.learning_rate,
            "lr_scheduler_type": "constant",
            "max_steps": budget.steps or 10**9,  # `_StopInTime` ends it before
            "loss_type": "grpo",
            "bf16": False,
            "gradient_checkpointing": None,  # off: transformers 5.23 deprecates other values
            "use_cpu": not torch.cuda.is_available(),
            "logging_strategy": "no",
            "save_strategy": "no",
            "report_to": "none",
            "disable_tqdm": True,
            "seed": seed,
        }
        return GRPOConfig(output_dir=folder, **(chosen | self.options))


class _StopInTime(TrainerCallback):
    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    def on_step_end(
        self,
        args: Any,  # noqa: ANN401
        state: TrainerState,
        control: TrainerControl,
        **_: Any,  # noqa: ANN401
    ) -> TrainerControl:
        control.should_training_stop |= self._meter.over(state.global_step)
        return control


def _examples_by_prompt(task: Task) -> dict[str, list[Batch]]:
    """Return the examples by the text of their prompts, a batch a split."""
    found: dict[str, list[Batch]] = {}
    for examples in task.splits.values():
        rows: dict[str, list[int]] = {}
        texts = prompt_texts(task, [example.history for example in examples])
        for row, text in enumerate(texts):
            rows.setdefault(text, []).append(row)
        for text, chosen in rows.items():
            found.setdefault(text, []).append(examples.take(np.array(chosen)))
    return found
