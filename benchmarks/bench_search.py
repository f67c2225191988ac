"""Tree search and tree update beside the plain computation. Equality is asserted first.

    python -m pytest benchmarks/bench_search.py --benchmark-only

Search: `agents.search.beam_search` beside `generate` of Hugging Face with a prefix constraint (one
dictionary look-up a beam and step: no trie walk is charged to it). Update: log-probabilities of a
group and their gradient on packed trees beside one padded batch of repeated prompts, as released
code computes them. A small random Qwen2 on the built-in world; timings say what they were taken on
in the saved JSON (`--benchmark-json`), so compare only what ran on the same machine.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from agents.bench.timing import machine
from agents.language_model import LanguageModel
from agents.policy import Policy, load_backbone
from agents.randomness import own_generators
from agents.scoring import title_logprobs
from agents.search import beam_search
from agents.trees import TorchTrie
from agents.types import Support
from rere_env import Task
from rere_env.data import games_dataset
from rere_env.prompts import Prompts

NUM_PROMPTS = 4
GROUP_SIZE = 16


@dataclass(frozen=True, kw_only=True, eq=False)
class Workload:
    """A policy, a catalogue and a few prompts."""

    task: Task
    lm: LanguageModel
    trie: TorchTrie
    prompts: list[list[int]]
    completions: list[list[int]]
    continuations: dict[tuple[int, ...], list[int]]

    def policy(self, support: Support) -> Policy:
        """What our searches are given."""
        return Policy(lm=self.lm, trie=self.trie, support=support)

    @property
    def model(self) -> PreTrainedModel:
        """The Hugging Face model itself."""
        return self.lm.model


@pytest.fixture(scope="module")
def workload() -> Workload:
    """The built-in world with the smallest scratch policy, its scores spread by large weights."""
    dataset = games_dataset()
    backbone = load_backbone("scratch:nano", dataset.catalogue.titles)
    task = backbone.task(dataset)
    with own_generators(0):
        for parameter in backbone.model.parameters():
            if parameter.ndim == 2:
                torch.nn.init.normal_(parameter, std=0.3)
    lm = LanguageModel(backbone.model.eval())
    tokens = task.title_tokens
    completions = [tokens.to_model_ids(tokens[t]).tolist() for t in range(task.trie.num_titles)]
    legal: dict[tuple[int, ...], set[int]] = {}
    for ids in completions:
        for length in range(len(ids)):
            legal.setdefault(tuple(ids[:length]), set()).add(ids[length])
    test = task.split("test")
    return Workload(
        task=task,
        lm=lm,
        trie=TorchTrie.build(task.trie, tokens, lm.device),
        prompts=[task.prompt(test[row].history) for row in range(NUM_PROMPTS)],
        completions=completions,
        continuations={prefix: sorted(tokens) for prefix, tokens in legal.items()},
    )


def tree_search(
    workload: Workload, num_beams: int, support: Support
) -> tuple[np.ndarray, np.ndarray]:
    """Ours."""
    found = beam_search(workload.policy(support), Prompts(workload.prompts), num_beams)
    return found.titles, found.logprobs


def generate_search(
    workload: Workload, num_beams: int, support: Support
) -> tuple[np.ndarray, np.ndarray]:
    """Hugging Face: prompts padded on the left, G copies of each."""
    width = max(len(prompt) for prompt in workload.prompts)
    ids = torch.zeros(len(workload.prompts), width, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(workload.prompts):
        ids[row, width - len(prompt) :] = torch.tensor(prompt)
        mask[row, width - len(prompt) :] = 1

    def allowed(_: int, sequence: Tensor) -> list[int]:
        return workload.continuations.get(tuple(sequence[width:].tolist()), [eos])

    eos = workload.task.tokenizer.eos_id
    out = workload.model.generate(
        ids,
        attention_mask=mask,
        num_beams=num_beams,
        num_return_sequences=num_beams,
        do_sample=False,
        length_penalty=0.0,
        max_new_tokens=workload.trie.max_length,
        prefix_allowed_tokens_fn=allowed,
        renormalize_logits=support == "catalogue",
        return_dict_in_generate=True,
        output_scores=True,
    )
    title = {tuple(ids): number for number, ids in enumerate(workload.completions)}
    titles = [title[tuple(row[: row.index(eos) + 1])] for row in out.sequences[:, width:].tolist()]
    shape = (len(workload.prompts), num_beams)
    return np.reshape(titles, shape), out.sequences_scores.numpy().reshape(shape)


def assert_same_titles(workload: Workload, num_beams: int, support: Support) -> None:
    """Same titles in the same order; two whose scores differ by 1e-5 may swap."""
    ours, logprobs = tree_search(workload, num_beams, support)
    theirs, scores = generate_search(workload, num_beams, support)
    np.testing.assert_allclose(logprobs, scores, atol=1e-4)
    for mine, other, score in zip(ours, theirs, logprobs, strict=True):
        near = np.abs(score[:, None] - score) <= 1e-5
        for rank in np.flatnonzero(mine != other):
            assert other[rank] in mine[near[rank]]


Search = Callable[[Workload, int, Support], tuple[np.ndarray, np.ndarray]]


@pytest.mark.parametrize("search", [tree_search, generate_search])
@pytest.mark.parametrize("support", ["catalogue", "vocabulary"])
def test_search(benchmark, workload: Workload, search: Search, support: Support):
    """The 16 best beams of a few prompts."""
    assert_same_titles(workload, GROUP_SIZE, support)
    benchmark.extra_info |= machine() | {"titles": NUM_PROMPTS * GROUP_SIZE}
    benchmark.pedantic(search, (workload, GROUP_SIZE, support), rounds=5, warmup_rounds=1)


def packed_logprobs(workload: Workload, titles: np.ndarray, support: Support) -> Tensor:
    """Ours: one tree a prompt."""
    return title_logprobs(workload.policy(support), Prompts(workload.prompts), titles)


def separate_logprobs(workload: Workload, titles: np.ndarray, support: Support) -> Tensor:
    """Plain: every candidate behind a copy of its prompt, padded to the longest."""
    rows = [(prompt, t) for prompt, row in zip(workload.prompts, titles, strict=True) for t in row]
    sequences = [torch.tensor([*prompt, *workload.completions[title]]) for prompt, title in rows]
    logits = workload.model(torch.nn.utils.rnn.pad_sequence(sequences, batch_first=True)).logits
    sums = []
    for row, (prompt, title) in enumerate(rows):
        ids = workload.completions[title]
        predicted = logits[row, len(prompt) - 1 : len(prompt) - 1 + len(ids)]
        if support == "catalogue":
            predicted = predicted + legal_only(workload, ids, predicted.shape[1])
        sums.append(torch.log_softmax(predicted, -1)[range(len(ids)), ids].sum())
    return torch.stack(sums).view(titles.shape)


def legal_only(workload: Workload, ids: Sequence[int], vocab_size: int) -> Tensor:
    """Return 0 on the legal tokens of each position and -inf elsewhere."""
    mask = torch.full((len(ids), vocab_size), -torch.inf)
    for place in range(len(ids)):
        mask[place, workload.continuations[tuple(ids[:place])]] = 0.0
    return mask


Logprobs = Callable[[Workload, np.ndarray, Support], Tensor]


def gradient(
    workload: Workload, logprobs: Logprobs, titles: np.ndarray, support: Support
) -> Tensor:
    """Forward and backward: the gradient of a weighted sum of the log-probabilities."""
    workload.model.zero_grad()
    weight = torch.linspace(-1, 1, titles.size).view(titles.shape)
    (logprobs(workload, titles, support) * weight).sum().backward()
    return torch.cat([p.grad.flatten() for p in workload.model.parameters() if p.grad is not None])


@pytest.mark.parametrize("logprobs", [packed_logprobs, separate_logprobs])
@pytest.mark.parametrize("support", ["catalogue", "vocabulary"])
def test_update(benchmark, workload: Workload, logprobs: Logprobs, support: Support):
    """Forward and backward over the groups of a few prompts."""
    titles, _ = tree_search(workload, GROUP_SIZE, support)
    with torch.no_grad():
        torch.testing.assert_close(
            packed_logprobs(workload, titles, support),
            separate_logprobs(workload, titles, support),
            atol=1e-4,
            rtol=1e-5,
        )
    ours, theirs = (
        gradient(workload, side, titles, support) for side in (packed_logprobs, separate_logprobs)
    )
    assert (ours - theirs).norm() <= 1e-4 * theirs.norm()
    benchmark.extra_info |= machine() | {"titles": titles.size}
    benchmark.pedantic(gradient, (workload, logprobs, titles, support), rounds=5, warmup_rounds=1)
