"""The main job: data -> SFT -> ReRe -> test split -> result.json and report.html.

Each stage leaves a checkpoint, so a stopped run goes on where it was.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, set_seed
from transformers.utils.logging import disable_progress_bar

from agents.experiment.agent import train_agent
from agents.experiment.final import finish
from agents.experiment.flags import check_flags, choose
from agents.experiment.guards import begun_of, check_saves, saving_errors, stops_of
from agents.experiment.launch import check_alone, make_accelerator, warn_of_missing_processes
from agents.files import read_json
from agents.language_model import LanguageModel, context_length
from agents.lm_recommender import LMRecommender, final_search
from agents.policy import Backbone, load_backbone
from agents.policy.context import count_long_prompts, fit_prompts
from agents.policy.device import checkpoint_activations
from agents.policy.lora import add_lora
from agents.registry import find_algorithm
from agents.rewards.embeddings import check_encoder
from agents.rewards.names import parse_reward
from agents.rewards.parts import RewardParts
from agents.runs.begun import check_begun, check_config
from agents.runs.checks import check_place, check_plugin
from agents.runs.config import TrainConfig
from agents.runs.folder import Progress, RunFolder, Stage
from agents.runs.numbers import Numbers
from agents.runs.stopping import Stopping
from agents.training.budgeted import as_algorithm
from agents.training.fit import fit
from agents.training.learners import ReReLearner, SFTLearner
from agents.training.validation import validate, validation_rows
from rere_env.data import Dataset
from rere_env.data.known import load_data
from rere_env.task import Task
from rere_env.types import Batch

__all__ = ["resume", "train"]


def train(
    config: TrainConfig,
    runs_dir: Path = Path("runs"),
    name: str | None = None,
    *,
    save_every_s: float | None = None,
) -> Path:
    """Run the main job from the start; return the run's folder.

    Args:
        config: What is asked for.
        runs_dir: Where runs are kept.
        name: Of the folder; default: data, model, seed and time.
        save_every_s: Seconds of work that may be lost, besides the evenly spread saves.
    """
    check_place(runs_dir, config.default_name() if name is None else name)
    dataset = load_data(config.data, config.history_length)
    _check_split(dataset, config.train_split)
    parse_reward(config.reward)
    check_encoder(config.sentence_encoder)
    info = find_algorithm(config.algorithm)
    check_flags(config, info.kind)
    if info.kind == "agent":
        check_alone(config.algorithm)
        check_saves(config.algorithm, save_every_s)
        return train_agent(config, as_algorithm(info), dataset, runs_dir, name)
    disable_progress_bar()  # one flashes by at every checkpoint, through that of the stage
    choose(config, config.numbers().group_size)
    accelerator = make_accelerator(config)  # what is impossible fails before anything is written
    warn_of_missing_processes(accelerator)
    backbone = load_backbone(config.model, dataset.catalogue.titles, seed=config.seed)
    task = _make_task(config, dataset, backbone)
    num_truncated = _count_long_prompts(config, task)
    [name] = broadcast_object_list([name or config.default_name()])  # one clock for all processes
    if accelerator.is_main_process:
        begun = begun_of(asdict(config), task, backbone)
        with saving_errors(runs_dir / name):
            RunFolder.create(runs_dir, name, asdict(config), asdict(begun))
    accelerator.wait_for_everyone()
    run = RunFolder.open(runs_dir / name)
    experiment = _Experiment(config, dataset, run, Progress(), num_truncated, save_every_s)
    return experiment.guarded(backbone)


def resume(
    path: Path,
    *,
    plugin: str | None = None,
    save_every_s: float | None = None,
    allow_changed: bool = False,
) -> Path:
    """Continue a stopped run from its last saved state; on the CPU bit for bit.

    Args:
        path: The run's folder.
        plugin: The `module:name` of its algorithm, where it is one: code is imported only if the
            caller names it too.
        save_every_s: Seconds of work that may be lost, besides the evenly spread saves.
        allow_changed: Go on even if data, titles, config or version are not those it began with.

    Raises:
        ValueError: They are not, or the run is damaged.
    """
    disable_progress_bar()
    run = RunFolder.open(path)
    if not allow_changed:
        check_config(run)  # before what the file names is looked for
    config = run.read_config()
    check_plugin(path, config.algorithm, plugin)
    if find_algorithm(config.algorithm).kind == "agent":
        raise ValueError(
            f"{path} cannot be continued: {config.algorithm!r} keeps no checkpoints; train anew."
        )
    dataset = load_data(config.data, config.history_length)
    backbone = load_backbone(config.model, dataset.catalogue.titles, seed=config.seed)
    task = _make_task(config, dataset, backbone)
    begun = begun_of(read_json(run.config), task, backbone)
    check_begun(run, begun, allow_changed=allow_changed)
    num_truncated = _count_long_prompts(config, task)
    accelerator = make_accelerator(config)
    warn_of_missing_processes(accelerator)
    with accelerator.main_process_first():  # it repairs what a crash has left
        progress = run.load_progress(allow_changed=allow_changed) or Progress()
    for stage in progress.stages_with_policy():
        run.policy(stage)  # damage is said now, and not after hours
    experiment = _Experiment(config, dataset, run, progress, num_truncated, save_every_s)
    return experiment.guarded(backbone)


@dataclass(slots=True)
class _Experiment:
    config: TrainConfig
    dataset: Dataset
    run: RunFolder
    progress: Progress
    num_truncated: dict[str, int]  # prompts cut, by split
    save_every_s: float | None
    stopping: Stopping = field(default_factory=Stopping)
    numbers: Numbers = field(init=False)
    accelerator: Accelerator = field(init=False)

    def __post_init__(self) -> None:
        self.numbers = self.config.numbers()
        self.accelerator = make_accelerator(self.config, self.run.path)
        self.accelerator.init_trackers("tensorboard")
        set_seed(self.config.seed, device_specific=True)  # other dropout on every process

    def guarded(self, backbone: Backbone) -> Path:
        """Run what is left; a signal or a full disk ends it with a word on how to go on."""
        with saving_errors(self.run.path), stops_of(self.run.path, self.stopping):
            return self.go(backbone)

    def go(self, backbone: Backbone) -> Path:
        """Run what is left of the stages."""
        if self.progress.stage is Stage.SFT:
            self._sft(backbone)
            self.progress.next_stage(Stage.RL)
        if self.progress.stage is Stage.RL:
            self._rl(self._load(Stage.SFT))
            self.progress.next_stage(Stage.DONE)
            if self.accelerator.is_main_process:
                self.run.save_progress(self.progress, lambda _: None)
            self.accelerator.wait_for_everyone()
        last = self._load(Stage.RL)
        task = self._task(last)
        finish(
            self.run,
            task,
            {
                Stage.SFT.value: self._recommender(task, self._load(Stage.SFT)),
                self.config.label(): self._recommender(task, last),
            },
            train_examples=self.dataset.splits[self.config.train_split],
            config=self.config,
            progress=self.progress,
            num_truncated=self.num_truncated,
            writes=self.accelerator.is_main_process,
        )
        self.accelerator.wait_for_everyone()  # none leaves while another still speaks
        self.accelerator.end_training()
        return self.run.path

    def _recommender(self, task: Task, backbone: Backbone) -> LMRecommender:
        return LMRecommender(
            task,
            LanguageModel(backbone.model).to(self.accelerator.device),
            beam=self.numbers.test_beam,
            support=self.config.support,
            search=final_search(self.config.support),
            accelerator=self.accelerator,
        )

    def _task(self, backbone: Backbone) -> Task:
        task = _make_task(self.config, self.dataset, backbone)
        return self._rewarded(task, backbone) if self.progress.stage is Stage.RL else task

    def _rewarded(self, task: Task, backbone: Backbone) -> Task:
        """Make the reward; one process trains what it needs, the others load that."""
        parts = RewardParts(
            task=task,
            backbone=backbone,
            examples=self._train_examples(task),
            folder=self.run.path / "rewards",
            sentence_encoder=self.config.sentence_encoder,
            seed=self.config.seed,
            device=self.accelerator.device,
            progress=self.accelerator.is_main_process,
        )
        with self.accelerator.main_process_first():
            return task.with_reward(parts.make(self.config.reward))

    def _trainable(self, backbone: Backbone) -> Backbone:
        """Make of a model what is trained: all of it, or an adapter."""
        if self.config.peft == "lora":
            add_lora(
                backbone.model,
                rank=self.config.lora_rank,
                alpha=self.config.lora_alpha,
                seed=self.config.seed,
            )
        if self.config.gradient_checkpointing:
            checkpoint_activations(backbone.model)
        return backbone

    def _train_examples(self, task: Task) -> Batch:
        """Return the training examples whose targets may be shown; `finish` counts the others."""
        examples = self.dataset.splits[self.config.train_split]
        return examples.take(np.flatnonzero(~task.hides_target(examples)))

    def _sft(self, backbone: Backbone) -> None:
        task = self._task(backbone)
        learner = SFTLearner(
            task,
            self._train_examples(task),
            self._trainable(backbone),
            self.numbers.sft,
            self.accelerator,
            epochs=self.numbers.sft_epochs,
            batch_size=self.numbers.sft_batch_size,
            max_steps=self.numbers.sft_max_steps,
            max_tokens=self.config.max_tokens,
            seed=self.config.seed,
        )
        self._fit(learner, task, self.numbers)

    def _rl(self, backbone: Backbone) -> None:
        task = self._task(backbone)
        learner = ReReLearner(
            task,
            self._train_examples(task),
            self._trainable(backbone),
            self.numbers.rl,
            self.accelerator,
            config=choose(self.config, self.numbers.group_size),
            num_steps=self.numbers.rl_steps,
            prompts_per_step=self.numbers.prompts_per_step,
            seed=self.config.seed,
        )
        self._fit(learner, task, self.numbers)

    def _fit(self, learner: SFTLearner | ReReLearner, task: Task, numbers: Numbers) -> None:
        settings = numbers.sft if isinstance(learner, SFTLearner) else numbers.rl
        validate = self._validator(task, learner.language_model)
        fit(
            learner,
            validate,
            settings,
            self.run,
            self.progress,
            self.accelerator,
            stopping=self.stopping,
            save_every_s=self.save_every_s,
        )
        self.accelerator.free_memory()

    def _validator(self, task: Task, lm: LanguageModel) -> Callable[[], dict[str, float]]:
        examples = validation_rows(task, self.numbers.valid_rows)
        recommender = LMRecommender(
            task,
            lm,
            beam=self.numbers.valid_beam,
            support=self.config.support,
            accelerator=self.accelerator,
        )
        return lambda: validate(recommender, task, examples)

    def _load(self, stage: Stage) -> Backbone:
        return load_backbone(str(self.run.policy(stage)), self.dataset.catalogue.titles)


def _make_task(config: TrainConfig, dataset: Dataset, backbone: Backbone) -> Task:
    task = backbone.task(dataset, exclude=config.filter())
    return fit_prompts(task, context_length(backbone.model), config.on_long_prompt)


def _count_long_prompts(config: TrainConfig, task: Task) -> dict[str, int]:
    """Return how many prompts of each split lose items, or raise before anything is trained."""
    splits = dict.fromkeys((config.train_split, "valid", "test"))
    return {name: count_long_prompts(task, name, task.dataset.splits[name]) for name in splits}


def _check_split(dataset: Dataset, name: str) -> None:
    needed: dict[str, Any] = dict.fromkeys((name, "valid", "test"))
    for split in needed:
        if split not in dataset.splits or len(dataset.splits[split]) == 0:
            raise ValueError(
                f"training needs a non-empty split {split!r}; the data set {dataset.name!r} has "
                f"{ {k: len(v) for k, v in dataset.splits.items()} }."
            )
