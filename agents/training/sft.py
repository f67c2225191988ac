"""Supervised warm start: cross-entropy over the whole vocabulary on title tokens and EOS.

The windows of one user are read as one tree (`agents.trees.users`).
"""

from contextlib import nullcontext

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor

from agents.language_model import LanguageModel
from agents.policy.device import PassLimit
from agents.processes import everyone, part
from agents.trees.tensors import NextTokens, TreeTensors
from agents.trees.users import SFTBatch, plan_users
from rere_env.task import Task
from rere_env.types import Batch

__all__ = ["sft_loss", "sft_update"]


def sft_loss(lm: torch.nn.Module, planned: SFTBatch, device: torch.device) -> Tensor:
    """Return the mean cross-entropy a token; the logits are never held all at once."""

    def move(array: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(array).to(device, non_blocking=True)

    slots = move(planned.slots + planned.row * planned.trees.tokens.shape[1])
    tokens = NextTokens(owner=torch.arange(len(slots), device=device), token=move(planned.tokens))
    logprobs: Tensor = lm(TreeTensors(planned.trees, device), slots, tokens, "vocabulary")
    return -logprobs.mean()


def sft_update(
    task: Task,
    lm: LanguageModel,
    batch: Batch,
    optimizer: torch.optim.Optimizer,
    accelerator: Accelerator,
    *,
    max_grad_norm: float,
    budget: PassLimit,
) -> dict[str, float]:
    """Make one optimiser step on a batch, in parts that the budget allows.

    Args:
        batch: All examples of the step; every process plans them, and learns from its trees.
    """
    planned = plan_users(task, batch)
    rows, weight = part(len(planned.trees.sizes), accelerator)
    own = planned.take(rows)
    lm.train()

    def gradient(max_tokens: int) -> Tensor:
        optimizer.zero_grad()
        parts = own.parts(max_tokens)
        total = torch.zeros((), device=accelerator.device)
        for i, some in enumerate(parts):
            with nullcontext() if i == len(parts) - 1 else accelerator.no_sync(lm):
                share = weight * len(some.tokens) / len(planned.tokens)
                with accelerator.autocast():
                    loss = sft_loss(lm, some, accelerator.device) * share
                accelerator.backward(loss)
            total += loss.detach()
        return total

    # Each part was weighed for the mean over processes.
    losses = everyone(float(budget.run(gradient)), accelerator)
    norm = accelerator.clip_grad_norm_(lm.parameters(), max_grad_norm)
    optimizer.step()
    return {
        "loss/total": sum(losses) / len(losses),
        "loss/grad_norm": float(norm),
        "sft/tokens": float(len(planned.tokens)),
        "sft/tokens_read": float(planned.trees.sizes.sum()),
    }
