"""The two stages of the main job as learners: SFT on user trees, then ReRe."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from safetensors.torch import load_model, save_model

from agents.files import replace_folder
from agents.language_model import LanguageModel
from agents.policy import Backbone
from agents.policy.context import num_truncated
from agents.policy.device import PassLimit
from agents.policy.lora import has_lora, merged
from agents.processes import everyone, share
from agents.rere.agent import ReReAgent
from agents.rere.config import ReReConfig
from agents.runs.numbers import StageSettings
from agents.training.sft import sft_update
from agents.trees.users import user_batches
from rere_env.task import Task
from rere_env.types import Batch

__all__ = ["ReReLearner", "SFTLearner"]

Rows: TypeAlias = NDArray[np.int64]


class _PolicyLearner:
    """A prepared policy with its optimiser."""

    def __init__(
        self, backbone: Backbone, settings: StageSettings, accelerator: Accelerator
    ) -> None:
        """Prepare the policy and AdamW for the accelerator's device and processes."""
        self.backbone = backbone
        self.accelerator = accelerator
        # The wrapped model shares its weights with `backbone.model`, which is what is saved.
        policy = LanguageModel(backbone.model.to(accelerator.device))
        optimizer = torch.optim.AdamW(
            [parameter for parameter in policy.parameters() if parameter.requires_grad],
            lr=settings.learning_rate,
            weight_decay=settings.weight_decay,
        )
        self.policy, self.optimizer = accelerator.prepare(policy, optimizer)

    @property
    def language_model(self) -> LanguageModel:
        """The policy without wrappers."""
        model: LanguageModel = self.accelerator.unwrap_model(self.policy)
        return model

    def save_policy(self, folder: Path) -> None:
        """Write the policy as a Hugging Face folder, in one step; an adapter is merged."""
        model = self.backbone.model
        if has_lora(model):
            model = merged(model)
        with replace_folder(folder) as new:
            replace(self.backbone, model=model).save(new)

    def save_extra(self, folder: Path) -> None:
        """Nothing besides the accelerator's state."""

    def load_extra(self, folder: Path) -> None:
        """Nothing besides the accelerator's state."""


class SFTLearner(_PolicyLearner):
    """Cross-entropy on the training titles."""

    name = "SFT"

    def __init__(
        self,
        task: Task,
        examples: Batch,
        backbone: Backbone,
        settings: StageSettings,
        accelerator: Accelerator,
        *,
        epochs: int,
        batch_size: int,
        seed: int,
        max_steps: int | None = None,
        max_grad_norm: float = 1.0,
        max_tokens: int = 16_384,
    ) -> None:
        """Plan the batches of all epochs; they depend on the seed alone."""
        super().__init__(backbone, settings, accelerator)
        self.task = task
        self.examples = examples
        self.max_grad_norm = max_grad_norm
        self.budget = PassLimit(max_tokens, accelerator.num_processes)
        self._batches = [
            rows
            for epoch in range(epochs)
            for rows in user_batches(
                examples.user.astype(np.int64), batch_size, np.random.default_rng([seed, 1, epoch])
            )
        ]
        self.num_steps = min(len(self._batches), max_steps or len(self._batches))

    def update(self, step: int) -> dict[str, float]:
        """Make one optimiser step."""
        before = num_truncated(self.task)
        measures = sft_update(
            self.task,
            self.policy,
            self.examples.take(self._batches[step]),
            self.optimizer,
            self.accelerator,
            max_grad_norm=self.max_grad_norm,
            budget=self.budget,
        )
        return measures | {"prompts/truncated": float(num_truncated(self.task) - before)}


class ReReLearner(_PolicyLearner):
    """ReRe on the training prompts."""

    name = "ReRe"

    def __init__(
        self,
        task: Task,
        examples: Batch,
        backbone: Backbone,
        settings: StageSettings,
        accelerator: Accelerator,
        *,
        config: ReReConfig,
        num_steps: int,
        prompts_per_step: int,
        seed: int,
    ) -> None:
        """Plan the prompts of every step; make the reference, a copy where there is no adapter.

        Raises:
            ValueError: There are no examples.
        """
        if len(examples) == 0:
            raise ValueError(
                "there is nothing to learn from: `examples` is empty, or the task's filter hides "
                "every target; use another split, or another `exclude`."
            )
        super().__init__(backbone, settings, accelerator)
        reference = None
        if not has_lora(backbone.model):
            reference = copy.deepcopy(self.language_model)
        self.agent = ReReAgent(task, self.policy, reference, config, accelerator, seed=seed)
        self.examples = examples
        self.num_steps = num_steps
        self.prompts_per_step = prompts_per_step
        self._seed = seed

    def update(self, step: int) -> dict[str, float]:
        """Make one optimiser step."""
        rows = share(self._rows(step), self.accelerator)
        before = num_truncated(self.agent.task)

        def more(refill: int) -> Batch:
            return self.examples.take(share(self._other_rows(step, refill), self.accelerator))

        measures = self.agent.update(self.examples.take(rows), self.optimizer, step, more)
        cut = everyone(num_truncated(self.agent.task) - before, self.accelerator)
        return measures | {"prompts/truncated": float(sum(cut))}

    def save_extra(self, folder: Path) -> None:
        """Write the reference policy, where it is a model of its own."""
        if self.agent.reference is not None:
            save_model(self.agent.reference, str(folder / "reference.safetensors"))

    def load_extra(self, folder: Path) -> None:
        """Read the reference policy."""
        if self.agent.reference is not None:
            load_model(self.agent.reference, str(folder / "reference.safetensors"))

    def _rows(self, step: int) -> Rows:
        """Return the examples of a step: epochs of the shuffled examples, end to end."""
        place = np.arange(step * self.prompts_per_step, (step + 1) * self.prompts_per_step)
        epoch, at = np.divmod(place, len(self.examples))
        rows = np.empty(len(place), np.int64)
        for e in np.unique(epoch):
            order = np.random.default_rng([self._seed, 2, int(e)]).permutation(len(self.examples))
            rows[epoch == e] = order[at[epoch == e]]
        return rows

    def _other_rows(self, step: int, refill: int) -> Rows:
        """Return random examples for a refill of a step."""
        rng = np.random.default_rng([self._seed, 3, step, refill, 0])
        return rng.integers(len(self.examples), size=self.prompts_per_step)
