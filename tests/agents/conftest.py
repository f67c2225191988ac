"""Small worlds and tiny random models that the tests of the agent share."""

import json
import os

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # the tests fork: no thread pools

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GemmaConfig,
    GemmaForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Olmo2Config,
    Olmo2ForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    SmolLM3Config,
    SmolLM3ForCausalLM,
)

from agents.language_model import LanguageModel
from agents.policy import Policy
from agents.trees import TorchTrie
from agents.types import Support
from rere_env import NO_ITEM, Batch, Catalogue, Dataset, Task, WordTokenizer
from rere_env.catalogue import TitleTokens
from rere_env.trie import Trie


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny models are slower on many threads, and their sums differ."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Titles:
    """A catalogue as tokens and trie, without users."""

    titles: tuple[str, ...]
    tokens: TitleTokens
    trie: Trie
    vocab_size: int

    def torch_trie(self) -> TorchTrie:
        """The trie on the CPU."""
        return TorchTrie.build(self.trie, self.tokens, torch.device("cpu"))

    def policy(self, lm: LanguageModel, support: Support = "catalogue") -> Policy:
        """A model that writes these titles."""
        return Policy(lm=lm, trie=self.torch_trie(), support=support)

    def model_ids(self, title: int) -> list[int]:
        """The completion of a title, EOS included."""
        return self.tokens.to_model_ids(self.tokens[title]).tolist()

    def title_of(self, ids: Sequence[int]) -> int:
        """The title behind a completion, found by comparison with every one."""
        return [self.model_ids(title) for title in range(len(self.titles))].index(list(ids))

    def prompts(self, *lengths: int, seed: int = 0) -> list[list[int]]:
        """Random prompts of these lengths."""
        rng = np.random.default_rng(seed)
        return [rng.integers(1, self.vocab_size, length).tolist() for length in lengths]


def make_titles(titles: Sequence[str]) -> Titles:
    """Tokenise titles, one token a word."""
    catalogue = Catalogue.from_items([f"i{n}" for n in range(len(titles))], titles)
    tokenizer = WordTokenizer.from_titles(titles)
    tokens = catalogue.tokenize(tokenizer)
    return Titles(
        titles=catalogue.titles,
        tokens=tokens,
        trie=Trie.from_sequences(tokens.indptr, tokens.tokens, tokens.num_tokens),
        vocab_size=tokenizer.vocab_size,
    )


@pytest.fixture(scope="session")
def titles_of() -> Callable[[Sequence[str]], Titles]:
    """Tokenise titles, one token a word."""
    return make_titles


@pytest.fixture(scope="session")
def many_titles() -> Titles:
    """200 titles of 1 to 6 of 12 words: many are prefixes of others, many words are forced."""
    rng = np.random.default_rng(0)
    words = [f"w{i}" for i in range(12)]
    titles = dict.fromkeys(" ".join(rng.choice(words, rng.integers(1, 7))) for _ in range(400))
    return make_titles(list(titles)[:200])


@pytest.fixture(scope="session")
def few_titles() -> Titles:
    """Seven titles, three of them prefixes of others, one wholly forced after its first word."""
    return make_titles(
        ["red", "red fox", "red fox runs", "red sea", "blue sky at night", "green", "green owl"]
    )


WINDOW = 6
"""Of the families with sliding layers: shorter than most sequences of the tests."""

FAMILY_CLASSES: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "qwen2": (Qwen2Config, Qwen2ForCausalLM, {}),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM, {"head_dim": 8}),
    "llama": (LlamaConfig, LlamaForCausalLM, {}),
    "mistral": (MistralConfig, MistralForCausalLM, {"sliding_window": WINDOW}),
    "gemma": (GemmaConfig, GemmaForCausalLM, {"head_dim": 8}),
    "gemma2": (
        Gemma2Config,
        Gemma2ForCausalLM,
        {"head_dim": 8, "sliding_window": WINDOW, "final_logit_softcapping": 20.0},
    ),
    "gemma3": (
        Gemma3TextConfig,
        Gemma3ForCausalLM,
        {"head_dim": 8, "sliding_window": WINDOW, "sliding_window_pattern": 2},
    ),
    "olmo2": (Olmo2Config, Olmo2ForCausalLM, {}),
    "phi3": (Phi3Config, Phi3ForCausalLM, {"sliding_window": None}),
    "granite": (GraniteConfig, GraniteForCausalLM, {"logits_scaling": 2.0}),
    "smollm3": (SmolLM3Config, SmolLM3ForCausalLM, {}),
    "gpt2": (GPT2Config, GPT2LMHeadModel, {}),
}
FAMILIES = tuple(FAMILY_CLASSES)


def make_model(
    family: str,
    vocab_size: int,
    *,
    max_length: int = 128,
    dtype: torch.dtype = torch.float32,
    **changes: Any,
) -> PreTrainedModel:
    """A random model whose scores are well spread (large initial weights), in eval mode."""
    config, model_class, extra = FAMILY_CLASSES[family]
    shape = {
        "vocab_size": vocab_size,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": max_length,
        "initializer_range": 0.5,
        "pad_token_id": 0,
        "bos_token_id": 0,
        "eos_token_id": 0,
    }
    if family != "gpt2":
        shape |= {"intermediate_size": 48, "num_key_value_heads": 2}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: PreTrainedModel = model_class(config(**(shape | extra | changes)))
    return model.to(dtype).eval()


@pytest.fixture(scope="session")
def model_of() -> Callable[..., PreTrainedModel]:
    """Make a random model of a family; a new one each call."""
    return make_model


@pytest.fixture(scope="session")
def lm_of() -> Callable[..., LanguageModel]:
    """Wrap a random model of a family; the same one each call, so its weights must not change."""

    @cache
    def make(family: str, vocab_size: int, dtype: torch.dtype = torch.float32) -> LanguageModel:
        return LanguageModel(make_model(family, vocab_size, dtype=dtype))

    return make


@pytest.fixture(scope="session")
def hf_beams() -> Callable[..., tuple[list[int], np.ndarray | None]]:
    """Search one prompt with Hugging Face's `generate` under a prefix constraint.

    Returns the titles, best first, and their scores (None for one beam: greedy search has none).
    """
    return hugging_face_beams


def hugging_face_beams(
    model: PreTrainedModel, world: Titles, prompt: Sequence[int], num_beams: int, support: str
) -> tuple[list[int], np.ndarray | None]:
    """See `hf_beams`."""
    continuations: dict[tuple[int, ...], set[int]] = {}
    for title in range(len(world.titles)):
        ids = world.model_ids(title)
        for length in range(len(ids)):
            continuations.setdefault(tuple(ids[:length]), set()).add(ids[length])

    def allowed(_: int, ids: torch.Tensor) -> list[int]:
        return sorted(continuations.get(tuple(ids[len(prompt) :].tolist()), {0}))

    beams = {"length_penalty": 0.0} if num_beams > 1 else {}
    out = model.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.int64),
        num_beams=num_beams,
        num_return_sequences=num_beams,
        do_sample=False,
        max_new_tokens=world.trie.max_length,
        prefix_allowed_tokens_fn=allowed,
        renormalize_logits=support == "catalogue",
        return_dict_in_generate=True,
        output_scores=True,
        **beams,
    )
    num_titles = min(num_beams, len(world.titles))
    titles = []
    for ids in out.sequences[:num_titles, len(prompt) :].tolist():
        titles.append(world.title_of(ids[: ids.index(0) + 1]))
    scores = out.sequences_scores[:num_titles].numpy() if num_beams > 1 else None
    return titles, scores


@pytest.fixture(scope="session")
def slow_logprob() -> Callable[..., list[torch.Tensor]]:
    """Score one title by one plain forward pass: its deciding tokens, or all of them."""
    return separate_logprobs


def separate_logprobs(
    model: PreTrainedModel,
    world: Titles,
    prompt: Sequence[int],
    title: int,
    support: str,
    hidden: Sequence[int] = (),
) -> list[torch.Tensor]:
    """Return, token by token, log-probabilities of the legal tokens with the chosen one first.

    Under `vocabulary` every token is legal and kept; under `catalogue` only where two or more are,
    those counted that lead to a title that is not hidden.
    """
    ids = world.model_ids(title)
    logits = model(torch.tensor([[*prompt, *ids]])).logits[0]
    every_title = [world.model_ids(t) for t in range(len(world.titles)) if t not in set(hidden)]
    kept = []
    for place, token in enumerate(ids):
        row = logits[len(prompt) + place - 1]
        legal = {t[place] for t in every_title if t[:place] == ids[:place]}
        others = range(len(row)) if support == "vocabulary" else sorted(legal)
        if support == "vocabulary" or len(legal) > 1:
            order = [token, *(o for o in others if o != token)]
            kept.append(torch.log_softmax(row[order], -1))
    return kept


def make_dataset(
    titles: Sequence[str], rows: Sequence[tuple[Sequence[int], int]], users: Sequence[int] | None
) -> Dataset:
    """A data set of (history, target) rows, the same in every split."""
    catalogue = Catalogue.from_items([f"i{n}" for n in range(len(titles))], titles)
    length = max(len(items) for items, _ in rows)
    history = np.full((len(rows), length), NO_ITEM, np.int32)
    for row, (items, _) in enumerate(rows):
        history[row, : len(items)] = items
    target = np.array([target for _, target in rows], np.int32)
    examples = Batch(
        user=np.arange(len(rows)) if users is None else np.asarray(users),
        history=history,
        target=target,
        target_title=catalogue.item_title[target],
    )
    return Dataset(
        name="tiny",
        catalogue=catalogue,
        splits=dict.fromkeys(("train", "valid", "test"), examples),
        history_length=length,
        content_hash="",
        report={},
    )


@pytest.fixture(scope="session")
def dataset_of() -> Callable[..., Dataset]:
    """Make a data set of titles and (history, target) rows; by default each row is one user."""

    def make(
        titles: Sequence[str],
        rows: Sequence[tuple[Sequence[int], int]],
        users: Sequence[int] | None = None,
    ) -> Dataset:
        return make_dataset(titles, rows, users)

    return make


@pytest.fixture(scope="session")
def successor() -> Dataset:
    """Twenty titles; what follows an item is a fixed permutation of it."""
    titles = [
        f"{colour} {noun}"
        for colour in ("red", "blue", "green", "dark")
        for noun in ("sea", "sky", "fox", "owl", "elm")
    ]
    follower = np.random.default_rng(0).permutation(20)
    return make_dataset(titles, [((i,), int(follower[i])) for i in range(20)], None)


@pytest.fixture(scope="session")
def animal_task() -> Task:
    """Eight titles, prefixes among them, and six examples; two share a history."""
    titles = [
        "red fox",
        "red fox runs",
        "red owl",
        "blue",
        "blue fox",
        "elk",
        "elk at night",
        "owl",
    ]
    rows = [((0, 1), 2), ((3,), 4), ((5, 6), 7), ((5, 6), 1), ((2, 4, 0), 3), ((7,), 0)]
    return Task.build(make_dataset(titles, rows, None))


@pytest.fixture
def accelerator() -> Accelerator:
    """An engine on the CPU, in full precision, that holds no model yet."""
    return Accelerator(cpu=True)


def with_examples(task: Task, rows: Sequence[int]) -> Task:
    """The same task on some of its examples."""
    splits = {name: batch.take(np.array(rows)) for name, batch in task.splits.items()}
    return replace(task, dataset=replace(task.dataset, splits=splits))


WALK_TITLES = [f"{colour} {animal}" for colour in ("red", "blue", "green") for animal in "ABCDEFG"]


@pytest.fixture(scope="session")
def walk_titles() -> list[str]:
    """The titles of the raw data below."""
    return WALK_TITLES


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Raw items and interactions: every user walks through the catalogue in order."""
    folder = tmp_path_factory.mktemp("source")
    items = [f"i{i},{title}" for i, title in enumerate(WALK_TITLES)]
    (folder / "items.csv").write_text("\n".join(["item_id,title", *items]), encoding="utf-8")
    rows = [
        f"u{user},i{(user + step) % len(WALK_TITLES)},{100 * step + user}"
        for user in range(40)
        for step in range(6)
    ]
    (folder / "interactions.csv").write_text(
        "\n".join(["user_id,item_id,timestamp", *rows]), encoding="utf-8"
    )
    return folder


@pytest.fixture(scope="session")
def data(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data set that `rere data build` makes of it."""
    folder = tmp_path_factory.mktemp("data") / "walk"
    from agents.cli import main

    assert main(["data", "build", str(source), str(folder)]) == 0
    return folder


@pytest.fixture(scope="session")
def logged() -> Callable[[Path], list[dict[str, float]]]:
    """What a run logged, less the time it took."""

    def lines_of(run: Path) -> list[dict[str, float]]:
        lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]

    return lines_of
