"""Supervised warm start: cross-entropy over the whole vocabulary on title tokens and EOS.

The training windows of one user are packed into one tree: as long as the history only grows, each
window is a prefix of the next, and every token of the user is read once.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor

from agents.language_model import LanguageModel, TreeTensors
from agents.tree import PackedTrees, pack, parts_of_similar_length
from rere_env.task import Task
from rere_env.types import Batch

__all__ = ["SFTBatch", "plan_completions", "sft_loss", "sft_update", "user_batches"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SFTBatch:
    """Trees of prompts and completions, with the tokens to be predicted.

    Attributes:
        packed: One tree a user.
        slots: [M] flattened tree slot before each completion token.
        tokens: [M] that token.
    """

    packed: PackedTrees
    slots: NDArray[np.int64]
    tokens: NDArray[np.int64]


def user_batches(
    user: NDArray[np.int64], batch_size: int, rng: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Shuffle the users and cut their examples into batches of about `batch_size` rows.

    A user's examples stay together, so that they share a tree.
    """
    _, index, counts = np.unique(user, return_inverse=True, return_counts=True)
    order = rng.permutation(len(counts))
    by_user = np.argsort(index, kind="stable")
    first = np.cumsum(counts) - counts
    batch_of = (np.cumsum(counts[order]) - 1) // batch_size
    cuts = np.flatnonzero(np.diff(batch_of)) + 1
    return [
        np.concatenate([by_user[first[u] : first[u] + counts[u]] for u in users])
        for users in np.split(order, cuts)
    ]


def plan_completions(
    prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]], rows: Sequence[int]
) -> SFTBatch:
    """Lay out prompts with their completions, one tree a row."""
    sequences = [[*p, *c[:-1]] for p, c in zip(prompts, completions, strict=True)]
    packed = pack(sequences, rows)
    slots = []
    for i, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
        own = packed.slots[i, len(prompt) - 1 : len(prompt) - 1 + len(completion)]
        slots.append(own + rows[i] * packed.tokens.shape[1])
    return SFTBatch(
        packed=packed,
        slots=np.concatenate(slots),
        tokens=np.concatenate([np.asarray(c, np.int64) for c in completions]),
    )


def sft_loss(lm: torch.nn.Module, planned: SFTBatch, device: torch.device) -> Tensor:
    """Return the mean cross-entropy a token."""
    trees = TreeTensors(planned.packed, device)
    logprobs: Tensor = lm(trees, torch.from_numpy(planned.slots).to(device))
    tokens = torch.from_numpy(planned.tokens).to(device)
    return -logprobs.gather(1, tokens[:, None]).mean()


def sft_update(
    task: Task,
    lm: LanguageModel,
    batch: Batch,
    optimizer: torch.optim.Optimizer,
    accelerator: Accelerator,
    *,
    max_grad_norm: float,
    max_tokens: int,
) -> dict[str, float]:
    """Make one optimiser step on a batch, in parts of at most `max_tokens` tree tokens."""
    optimizer.zero_grad()
    lm.train()
    parts = _plan_parts(task, batch, max_tokens)
    num_tokens = sum(len(part.tokens) for part in parts)
    total = 0.0
    for i, part in enumerate(parts):
        with nullcontext() if i == len(parts) - 1 else accelerator.no_sync(lm):
            with accelerator.autocast():
                loss = sft_loss(lm, part, accelerator.device) * (len(part.tokens) / num_tokens)
            accelerator.backward(loss)
        total += float(loss.detach())
    norm = accelerator.clip_grad_norm_(lm.parameters(), max_grad_norm)
    optimizer.step()
    return {"loss/total": total, "loss/grad_norm": float(norm), "sft/tokens": float(num_tokens)}


def _plan_parts(task: Task, batch: Batch, max_tokens: int) -> list[SFTBatch]:
    """Lay out the trees of a batch, those of similar length together."""
    prompts = [task.prompt(example.history) for example in batch]
    completions = [
        task.title_tokens.to_model_ids(task.title_tokens[title]).tolist()
        for title in batch.target_title
    ]
    # Windows with the same first item are prefixes of each other; one that has slid is not.
    trunk = np.unique(np.stack([batch.user, batch.history[:, 0]]), axis=1, return_inverse=True)[1]
    trunk = trunk.reshape(-1)
    longest = np.zeros(trunk.max() + 1, np.int64)
    np.maximum.at(
        longest, trunk, [len(p) + len(c) for p, c in zip(prompts, completions, strict=True)]
    )
    parts = []
    for trunks in parts_of_similar_length(longest, max_tokens):
        row = np.full(len(longest), -1)
        row[trunks] = np.arange(len(trunks))
        own = np.flatnonzero(row[trunk] >= 0)
        parts.append(
            plan_completions(
                [prompts[i] for i in own],
                [completions[i] for i in own],
                row[trunk[own]].tolist(),
            )
        )
    return parts
