"""The numbers of a run: how long, how fast and how wide; `--preset` names a set of them."""

from dataclasses import dataclass, replace
from typing import Any, Literal

__all__ = ["Numbers", "PresetName", "StageSettings", "choose_numbers"]

PresetName = Literal["default", "smoke"]
"""What `rere train --preset` takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageSettings:
    """How long and how fast a stage trains.

    Attributes:
        learning_rate: Peak of the schedule.
        warmup_share: Share of the steps in which it rises from 0.
        weight_decay: Of AdamW.
        num_evaluations: Validations, evenly spread, besides the one before the first step.
        patience: Validations without a better one before the stage stops; None: never.
        num_saves: How often the state to resume from is saved, evenly spread.
    """

    learning_rate: float
    warmup_share: float = 0.03
    weight_decay: float = 0.0
    num_evaluations: int = 8
    patience: int | None = None
    num_saves: int = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """The numbers of a run.

    Attributes:
        sft: Settings of the supervised stage.
        sft_epochs: Passes over the training examples; 0 starts RL from the model as it is.
        sft_batch_size: Examples a step.
        sft_max_steps: Ends the stage early; None: never.
        rl: Settings of the ReRe stage.
        rl_steps: Optimiser steps.
        prompts_per_step: B.
        group_size: G.
        valid_rows: Validation rows of the learning curve, fixed for all runs.
        valid_beam: Beam of the learning curve.
        test_rows: Test rows; None: all.
        test_beam: Beam of the final evaluation.
    """

    sft: StageSettings
    sft_epochs: int
    sft_batch_size: int = 128
    sft_max_steps: int | None = None
    rl: StageSettings
    rl_steps: int
    prompts_per_step: int = 32
    group_size: int = 16
    valid_rows: int = 512
    valid_beam: int = 10
    test_rows: int | None = None
    test_beam: int = 50


SCRATCH = Numbers(
    sft=StageSettings(learning_rate=2e-3, num_evaluations=8, patience=3, weight_decay=0.01),
    sft_epochs=5,
    rl=StageSettings(learning_rate=4e-5, num_evaluations=8),
    rl_steps=400,
    prompts_per_step=64,
)
"""A small policy trained from nothing; chosen on validation. A tenfold RL step destroys it."""

PRETRAINED = Numbers(
    sft=StageSettings(learning_rate=3e-4, num_evaluations=20, patience=3),
    sft_epochs=10,
    rl=StageSettings(learning_rate=1e-5, num_evaluations=20),
    rl_steps=2_000,
)
"""The released code's values for a pre-trained model (`sft.sh`, `rere.sh`)."""

SMOKE = Numbers(
    sft=StageSettings(learning_rate=3e-3, num_evaluations=2, num_saves=2),
    sft_epochs=1,
    sft_max_steps=20,
    rl=StageSettings(learning_rate=2e-5, num_evaluations=2, num_saves=2),
    rl_steps=4,
    prompts_per_step=16,
    group_size=8,
    valid_rows=64,
    test_rows=256,
)
"""Every stage in under a minute; its numbers mean nothing."""


def choose_numbers(
    name: PresetName,
    *,
    from_scratch: bool,
    sft_learning_rate: float | None = None,
    rl_learning_rate: float | None = None,
    **overrides: int | None,
) -> Numbers:
    """Return the numbers of a preset, with what is not None replaced.

    >>> choose_numbers("default", from_scratch=True, rl_steps=10).rl_steps
    10
    """
    numbers = SMOKE if name == "smoke" else SCRATCH if from_scratch else PRETRAINED
    if sft_learning_rate is not None:
        numbers = replace(numbers, sft=replace(numbers.sft, learning_rate=sft_learning_rate))
    if rl_learning_rate is not None:
        numbers = replace(numbers, rl=replace(numbers.rl, learning_rate=rl_learning_rate))
    given: dict[str, Any] = {key: value for key, value in overrides.items() if value is not None}
    return replace(numbers, **given)
