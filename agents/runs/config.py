"""What a run was asked for: the flags of `rere train` as a value, written to config.json."""

from dataclasses import dataclass, field, fields
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from agents.runs.checks import check_numbers
from agents.runs.numbers import Numbers, PresetName, choose_numbers
from agents.types import AdvantageName, OnLongPrompt, Support
from rere_env.data.known import GAMES
from rere_env.filters import Filter, find_filter

__all__ = ["READ_BY", "TrainConfig"]

READ_BY = "read_by"
"""Key of a flag's metadata: the kind of algorithm that reads it, or `both`."""

BOTH = {READ_BY: "both"}
POLICY = {READ_BY: "policy"}
AGENT = {READ_BY: "agent"}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """What to train on what.

    Attributes:
        data: `games` (built in), a folder, or the name of a data set in $RERE_DATA.
        train_split: The split to learn from.
        model: `scratch:nano|tiny|small|base`, a folder with a Hugging Face causal LM, or a hub id.
        preset: `default` or `smoke` (every stage in under a minute).
        device: Where to compute.
        precision: `bf16` is for GPUs.
        seed: Of weights and data order.
        support: What the policy's probabilities are normalised over.
        algorithm: A name that `rere algorithms` lists, or `module:name` of your own.
        sampler: What writes the candidates; default: the algorithm's choice, as for the five below.
        advantage: What a candidate is worth against the others.
        inner_steps: Optimiser steps on one rollout; ratios differ from 1 from the second on.
        max_refills: How often groups without signal are replaced by those of new prompts.
        repair_weight: Groups without signal get their target, and this share of the advantages
            that follow; 0: they stay as they are.
        kl_groups: Groups that get the KL: those with `signal`, or `all` as released.
        reward: A sum of `rere`, `hit`, `rank`, `rank_literal`, `semantic`, `collaborative`,
            `collaborative_softmax` and `collaborative_min_max`, such as `rere+0.1*semantic`.
        sentence_encoder: A Hugging Face folder or hub id that gives titles their meaning in
            `semantic`; default: the token embeddings of the policy that RL starts from.
        sft_epochs: Overrides the preset; 0 starts RL from the model as it is.
        rl_steps: Overrides the preset.
        prompts_per_step: Overrides the preset.
        group_size: Overrides the preset.
        sft_learning_rate: Overrides the preset.
        rl_learning_rate: Overrides the preset.
        kl_weight: Weight of the KL to the reference policy, where the algorithm has one.
        train_seconds: Of an agent that is no language model: how long it trains.
        train_steps: Likewise, in steps of the environment.
        exclude: `history` never shows a user a title that she has had; as in the paper, `none`.
        history_length: Items of a history; longer ones in a file are an error.
        on_long_prompt: What happens to a prompt that leaves the model no room for a title:
            `error`, or `truncate` to its newest items, counted in metrics and result.
        max_tokens: Tokens that a forward-backward pass may hold; halved once if memory runs out.
        gradient_checkpointing: Save memory, and compute activations twice.
        peft: `lora` trains a small adapter; without it the policy is its own reference.
        lora_rank: Rank of the adapter.
        lora_alpha: The adapter's output is scaled by lora_alpha / lora_rank.
    """

    data: str = field(default=GAMES, metadata=BOTH)
    train_split: str = field(default="train", metadata=BOTH)
    model: str = field(default="scratch:tiny", metadata=POLICY)
    preset: PresetName = field(default="default", metadata=BOTH)
    device: Literal["auto", "cpu", "cuda"] = field(default="auto", metadata=BOTH)
    precision: Literal["fp32", "bf16"] = field(default="fp32", metadata=POLICY)
    seed: int = field(default=0, metadata=BOTH)
    support: Support = field(default="catalogue", metadata=POLICY)
    algorithm: str = field(default="rere", metadata=BOTH)
    sampler: str | None = field(default=None, metadata=POLICY)
    advantage: AdvantageName | None = field(default=None, metadata=POLICY)
    inner_steps: int | None = field(default=None, metadata=POLICY)
    max_refills: int | None = field(default=None, metadata=POLICY)
    repair_weight: float | None = field(default=None, metadata=POLICY)
    kl_groups: Literal["signal", "all"] | None = field(default=None, metadata=POLICY)
    reward: str = field(default="rere", metadata=BOTH)
    sentence_encoder: str | None = field(default=None, metadata=BOTH)
    sft_epochs: int | None = field(default=None, metadata=POLICY)
    rl_steps: int | None = field(default=None, metadata=POLICY)
    prompts_per_step: int | None = field(default=None, metadata=POLICY)
    group_size: int | None = field(default=None, metadata=POLICY)
    sft_learning_rate: float | None = field(default=None, metadata=POLICY)
    rl_learning_rate: float | None = field(default=None, metadata=POLICY)
    kl_weight: float | None = field(default=None, metadata=POLICY)
    train_seconds: float | None = field(default=None, metadata=AGENT)
    train_steps: int | None = field(default=None, metadata=AGENT)
    exclude: Literal["none", "history"] = field(default="none", metadata=BOTH)
    history_length: int = field(default=10, metadata=BOTH)
    on_long_prompt: OnLongPrompt = field(default="error", metadata=POLICY)
    max_tokens: int = field(default=16_384, metadata=POLICY)
    gradient_checkpointing: bool = field(default=False, metadata=POLICY)
    peft: Literal["none", "lora"] = field(default="none", metadata=POLICY)
    lora_rank: int = field(default=16, metadata=POLICY)
    lora_alpha: int = field(default=32, metadata=POLICY)

    def __post_init__(self) -> None:
        """Refuse what could only fail later."""
        check_numbers(self)

    def ignored_by(self, kind: Literal["policy", "agent"]) -> dict[str, Any]:
        """Return the flags that were given, and that an algorithm of this kind does not read."""
        return {
            flag.name: value
            for flag in fields(TrainConfig)
            if flag.metadata[READ_BY] not in ("both", kind)
            and (value := getattr(self, flag.name)) != flag.default
        }

    def filter(self) -> Filter | None:
        """Return what hides titles, None for nothing."""
        return None if self.exclude == "none" else find_filter(self.exclude)

    def numbers(self) -> Numbers:
        """Return the preset's numbers with this run's overrides."""
        return choose_numbers(
            self.preset,
            from_scratch=self.model.startswith("scratch:"),
            sft_epochs=self.sft_epochs,
            rl_steps=self.rl_steps,
            prompts_per_step=self.prompts_per_step,
            group_size=self.group_size,
            sft_learning_rate=self.sft_learning_rate,
            rl_learning_rate=self.rl_learning_rate,
        )

    def default_name(self) -> str:
        """Return a run name that says what and when."""
        data = Path(self.data).resolve().name if self.data != GAMES else GAMES
        model = Path(self.model).name.replace("scratch:", "scratch-")
        parts = [data, model] if self.algorithm == "rere" else [data, model, self.label()]
        return "-".join([*parts, f"s{self.seed}", f"{datetime.now():%Y%m%d-%H%M%S}"])

    def label(self) -> str:
        """Return what the algorithm is called in tables: without its module."""
        return self.algorithm.rpartition(":")[2]
