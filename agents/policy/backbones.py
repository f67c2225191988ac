"""Where a policy comes from: `scratch:<size>`, a local folder, or a hub id.

A scratch model is a small Qwen2 with a tokenizer of its own, trained on the titles: one token a
word where there are few words, else byte-level BPE. Models are saved as ordinary Hugging Face
folders (safetensors) with a `rere.json` beside them that says how titles and prompts are written.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import (
    AutoModelForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from agents.files import MANIFEST, DamagedError, verify_folder
from agents.randomness import own_generators
from rere_env.data import Dataset
from rere_env.prompts import PAPER_TEMPLATE, compact_prompt, instruction_prompt
from rere_env.task import Task
from rere_env.tokenizer import HFTokenizer, refuse_special_text, saved_form

__all__ = ["SCRATCH_SIZES", "Backbone", "ScratchSize", "load_backbone", "train_tokenizer"]

EOS_TOKEN = "<eos>"
PAD_TOKEN = "<pad>"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScratchSize:
    """Shape of a model trained from scratch."""

    hidden_size: int
    num_layers: int
    num_heads: int
    bpe_vocab: int


SCRATCH_SIZES: dict[str, ScratchSize] = {
    "nano": ScratchSize(hidden_size=48, num_layers=2, num_heads=4, bpe_vocab=1_000),
    "tiny": ScratchSize(hidden_size=128, num_layers=3, num_heads=4, bpe_vocab=3_000),
    "small": ScratchSize(hidden_size=256, num_layers=4, num_heads=8, bpe_vocab=8_000),
    "base": ScratchSize(hidden_size=512, num_layers=8, num_heads=8, bpe_vocab=16_000),
}
"""`scratch:<size>`; `nano` is for smoke tests."""

# What Hugging Face raises about a folder whose files are damaged or contradict each other.
DAMAGE = (
    *(OSError, ValueError, KeyError, TypeError, AttributeError, AssertionError, ArithmeticError),
    *(RuntimeError, SafetensorError, StrictDataclassError),
)

MAX_WORDS = 4_000
"""Catalogues with at most this many distinct words get one token a word."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Backbone:
    """A causal LM with its tokenizer and the form of its prompts."""

    model: PreTrainedModel
    tokenizer: HFTokenizer
    prompt: Literal["compact", "instruction"]

    def task(self, dataset: Dataset, **options: Any) -> Task:  # noqa: ANN401 - passed to Task.build
        """Build the task that this backbone reads and writes."""
        if self.prompt == "compact":
            return Task.build(dataset, tokenizer=self.tokenizer, prompt=compact_prompt, **options)
        return Task.build(
            dataset,
            tokenizer=self.tokenizer,
            prompt=lambda catalogue, _, tokenizer: instruction_prompt(catalogue, tokenizer),
            **options,
        )

    def save(self, folder: Path) -> None:
        """Write a folder that `AutoModelForCausalLM.from_pretrained` and `load_backbone` read."""
        folder.mkdir(parents=True, exist_ok=True)
        self.model.save_pretrained(folder)
        self.tokenizer.tokenizer.save_pretrained(folder)
        form = {"prompt": self.prompt, "completion_template": self.tokenizer.completion_template}
        (folder / "rere.json").write_text(json.dumps(form, indent=2) + "\n", encoding="utf-8")


def load_backbone(
    name: str, titles: Sequence[str], *, seed: int = 0, max_length: int = 2048
) -> Backbone:
    """Make or load a policy.

    Args:
        name: `scratch:<size>`, a folder, or a hub id.
        titles: The catalogue, on which a scratch tokenizer is trained.
        seed: Of the scratch weights.
        max_length: Positions of a scratch model.

    Raises:
        ValueError: An unknown scratch size, or a model that cannot be had.
    """
    if name.startswith("scratch:"):
        return _scratch(name.removeprefix("scratch:"), titles, seed, max_length)
    return _pretrained(name)


def train_tokenizer(titles: Sequence[str], bpe_vocab: int) -> PreTrainedTokenizerFast:
    """Train a tokenizer on titles: words where they are few, byte-level BPE otherwise."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    special = [EOS_TOKEN, PAD_TOKEN]
    refuse_special_text(titles, special)
    words = dict.fromkeys(word for title in titles for word in title.split(" ") if word)
    if len(words) <= MAX_WORDS:
        vocabulary = {word: i for i, word in enumerate([*special, *words])}
        tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=None))
        tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "removed")
    else:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=bpe_vocab,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        tokenizer.train_from_iterator(titles, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=EOS_TOKEN, pad_token=PAD_TOKEN
    )


def _scratch(size_name: str, titles: Sequence[str], seed: int, max_length: int) -> Backbone:
    if size_name not in SCRATCH_SIZES:
        raise ValueError(
            f"`model` (='scratch:{size_name}') must be one of "
            f"{['scratch:' + name for name in SCRATCH_SIZES]}, a model folder or a hub id."
        )
    size = SCRATCH_SIZES[size_name]
    tokenizer = train_tokenizer(titles, size.bpe_vocab)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=size.hidden_size,
        intermediate_size=4 * size.hidden_size,
        num_hidden_layers=size.num_layers,
        num_attention_heads=size.num_heads,
        num_key_value_heads=size.num_heads,
        max_position_embeddings=max_length,
        tie_word_embeddings=True,
        use_sliding_window=False,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with own_generators(seed):
        model = Qwen2ForCausalLM(config)
    return Backbone(model=model, tokenizer=HFTokenizer(tokenizer), prompt="compact")


def _pretrained(name: str) -> Backbone:
    _verify(Path(name))
    form = saved_form(name)
    template = form.get("completion_template", PAPER_TEMPLATE.completion)
    try:
        tokenizer = HFTokenizer.from_pretrained(name, completion_template=template)
        model = AutoModelForCausalLM.from_pretrained(
            name, dtype=torch.float32, trust_remote_code=False
        )
    except DAMAGE as error:
        raise ValueError(
            f"`model` (={name!r}) is neither 'scratch:<size>' (sizes: {list(SCRATCH_SIZES)}), nor "
            "a folder with a Hugging Face causal LM, nor a hub id that can be reached from here: "
            f"{type(error).__name__}: {error}"
        ) from error
    return Backbone(
        model=model,
        tokenizer=tokenizer,
        prompt="compact" if form.get("prompt") == "compact" else "instruction",
    )


def _verify(folder: Path) -> None:
    """See that a folder that `rere train` wrote is what it wrote; others cannot be told."""
    try:
        verify_folder(folder)
    except DamagedError as error:
        raise DamagedError(
            f"{error}; copy the folder again, or delete {MANIFEST} if you changed it yourself."
        ) from error
