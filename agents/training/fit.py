"""fit(): one training stage. Loop, learning rate, evaluation cadence, best and last checkpoints.

The stage itself (what one update does) is a `Learner`; the engine is accelerate's `Accelerator`.
Everything random is a function of (seed, step), so a resumed run repeats an unbroken one.
"""

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from tqdm.auto import tqdm

from agents.processes import everyone
from agents.randomness import States, generator_states
from agents.runs.folder import Progress, RunFolder
from agents.runs.numbers import StageSettings
from agents.runs.stopping import Stopped, Stopping
from agents.training.generators import load_generators, save_generators
from agents.training.validation import SELECT_BY

__all__ = ["Learner", "StageSettings", "cosine_schedule", "fit"]


class Learner(Protocol):
    """What one stage knows about learning."""

    name: str
    num_steps: int
    optimizer: torch.optim.Optimizer

    def update(self, step: int) -> dict[str, float]:
        """Make optimiser step number `step` and return measures."""
        ...

    def save_policy(self, folder: Path) -> None:
        """Write the policy as a Hugging Face folder."""
        ...

    def save_extra(self, folder: Path) -> None:
        """Write what the accelerator does not know about (the reference policy)."""
        ...

    def load_extra(self, folder: Path) -> None:
        """Read it again."""
        ...


def cosine_schedule(step: int, num_steps: int, warmup_share: float) -> float:
    """Return the factor on the peak learning rate: linear warm-up, then half a cosine to 0.

    >>> [round(cosine_schedule(s, 100, 0.1), 2) for s in (0, 9, 55, 99)]
    [0.1, 1.0, 0.5, 0.0]
    """
    warmup = max(round(num_steps * warmup_share), 1)
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(num_steps - warmup, 1)))


def fit(
    learner: Learner,
    validate: Callable[[], dict[str, float]],
    settings: StageSettings,
    run: RunFolder,
    progress: Progress,
    accelerator: Accelerator,
    *,
    stopping: Stopping | None = None,
    save_every_s: float | None = None,
) -> None:
    """Train one stage to its end, from wherever `progress` stands.

    Args:
        learner: Does the updates.
        validate: Measures the policy on the fixed validation rows; keys `valid/...`.
        settings: Learning rate, cadence, patience.
        run: Receives metrics and checkpoints.
        progress: Updated in place and saved.
        accelerator: Holds the prepared policy and optimiser.
        stopping: Hears signals; one lets the step end, and saves.
        save_every_s: Seconds of work that may be lost, besides `settings.num_saves`.

    Raises:
        Stopped: A signal has come; the state is saved.
    """
    stopping = stopping or Stopping()
    loop = _Loop(
        learner, validate, settings, run, progress, accelerator, stopping, save_every_s or math.inf
    )
    with stopping.waits():
        if progress.best_value < 0:  # nothing was validated: the stage has not begun
            loop.begin()
        else:
            accelerator.load_state(str(run.state / "state"))
            learner.load_extra(run.state)
            load_generators(run.state / "state", accelerator.process_index, accelerator.device)
        bar = tqdm(
            total=learner.num_steps,
            initial=progress.step,
            desc=learner.name,
            disable=not accelerator.is_local_main_process,
            dynamic_ncols=True,
        )
        with bar:
            while progress.step < learner.num_steps and not loop.out_of_patience():
                bar.set_postfix(loop.step())
                bar.update()


@dataclass(slots=True)
class _Loop:
    learner: Learner
    validate: Callable[[], dict[str, float]]
    settings: StageSettings
    run: RunFolder
    progress: Progress
    accelerator: Accelerator
    stopping: Stopping
    save_every_s: float
    saved_at: float = field(default_factory=time.monotonic)

    def begin(self) -> None:
        """Validate and save before the first step."""
        self.evaluate()
        self.save()
        if signum := self.agreed()[0]:
            self.stop(signum)

    def step(self) -> dict[str, str]:
        """Make one step with all that is due after it; return what the progress bar shows."""
        started = time.perf_counter()
        step, total = self.progress.step, self.learner.num_steps
        rate = self.settings.learning_rate * cosine_schedule(
            step, total, self.settings.warmup_share
        )
        for group in self.learner.optimizer.param_groups:
            group["lr"] = rate
        measures = self.learner.update(step)
        self.progress.step = step + 1
        self.log({**measures, "optim/learning_rate": rate}, started)
        if _due(step + 1, total, self.settings.num_evaluations):
            self.evaluate()
        signum, late = self.agreed()
        if signum or late or _due(step + 1, total, self.settings.num_saves):
            self.save()
        if signum:
            self.stop(signum)
        shown = {"loss": f"{measures.get('loss/total', 0.0):.3f}"}
        if "rollout/hit_rate" in measures:
            shown["hit"] = f"{measures['rollout/hit_rate']:.2f}"
        return shown | {"valid": f"{self.progress.best_value:.4f}"}

    def evaluate(self) -> None:
        """Validate, log, and keep the policy if it is the best so far."""
        started = time.perf_counter()
        measures = self.validate()
        self.log(measures, started)
        if measures[SELECT_BY] > self.progress.best_value:
            self.progress.best_value = measures[SELECT_BY]
            self.progress.best_step = self.progress.step
            self.progress.num_worse = 0
            if self.accelerator.is_main_process:
                self.learner.save_policy(self.run.best(self.progress.stage))
            self.accelerator.wait_for_everyone()
        else:
            self.progress.num_worse += 1

    def save(self) -> None:
        """Save what a resumed run needs: the main process writes, and nobody goes on before."""
        generators = everyone(generator_states(self.accelerator.device), self.accelerator)
        if self.accelerator.is_main_process:
            self.run.save_progress(self.progress, partial(self._save_state, generators))
        self.accelerator.wait_for_everyone()
        self.saved_at = time.monotonic()

    def agreed(self) -> tuple[int, bool]:
        """Return the signal to stop by, 0 for none, and whether it is time to save.

        All processes save together, so one that has heard a signal, or whose clock runs ahead,
        speaks for all.
        """
        late = time.monotonic() - self.saved_at >= self.save_every_s
        said = (self.stopping.signum, int(late))
        if self.accelerator.num_processes > 1:
            heard = torch.tensor([said], device=self.accelerator.device)
            said = tuple(self.accelerator.gather(heard).amax(dim=0).tolist())
        return said[0], bool(said[1])

    def stop(self, signum: int) -> None:
        """End the run here, where it was just saved."""
        raise Stopped(signum, f"saved after step {self.progress.step} of {self.learner.name}")

    def _save_state(self, generators: Sequence[States], folder: Path) -> None:
        with _tied_weights_unsaid():
            self.accelerator.save_state(str(folder / "state"))
        save_generators(folder / "state", generators)
        self.learner.save_extra(folder)

    def log(self, measures: dict[str, float], started: float) -> None:
        """Write one line to metrics.jsonl and TensorBoard."""
        seconds = time.perf_counter() - started
        name = self.progress.stage.value
        self.progress.seconds[name] = self.progress.seconds.get(name, 0.0) + seconds
        if not self.accelerator.is_main_process:
            return
        line: dict[str, Any] = {"stage": name, "step": self.progress.step, "seconds": seconds}
        self.run.log(line | measures)
        self.accelerator.log(
            {f"{name}/{key}": value for key, value in measures.items()}, step=self.progress.step
        )

    def out_of_patience(self) -> bool:
        patience = self.settings.patience
        return patience is not None and self.progress.num_worse > patience


@contextmanager
def _tied_weights_unsaid() -> Iterator[None]:
    """Keep accelerate from warning at every save that tied weights are stored once."""
    logger = logging.getLogger("accelerate.utils.other")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _due(step: int, num_steps: int, times: int) -> bool:
    """Say whether one of `times` evenly spread events falls on this step (the last one always)."""
    if times < 1:
        return step == num_steps
    return step == num_steps or (step * times) // num_steps > ((step - 1) * times) // num_steps
