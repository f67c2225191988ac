"""A head over a large vocabulary, in blocks: logits and log-probabilities of some tokens only.

`token_logprobs` normalises over the whole vocabulary without ever holding the logits of M hidden
states over V tokens: a block of rows is computed, reduced to its log-sum-exp and the logits of the
asked-for tokens, and computed again by the backward pass. `edge_logits` computes nothing but the
asked-for logits, and keeps none of the rows that it gathers. Knows nothing of models or trees.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from agents.language_model.segments import compute_dtype, segment_sum

__all__ = ["MAX_BLOCK_BYTES", "AfterHead", "edge_logits", "token_logprobs"]

MAX_BLOCK_BYTES = 2**27
"""Most bytes of float32 logits, or of gathered rows, that are held at once (one row at least)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AfterHead:
    """What some families do to the logits: `cap * tanh(scale * logits / cap)`."""

    scale: float = 1.0
    cap: float | None = None

    def __call__(self, logits: Tensor) -> Tensor:
        """Return the finished logits."""
        if self.scale != 1.0:
            logits = logits * self.scale
        return logits if self.cap is None else torch.tanh(logits / self.cap) * self.cap

    def backward_(self, gradient: Tensor, finished: Tensor) -> Tensor:
        """Turn the gradient of the finished logits into that of the raw ones, in place."""
        if self.cap is not None:
            gradient.mul_(1 - (finished / self.cap) ** 2)
        return gradient if self.scale == 1.0 else gradient.mul_(self.scale)


def token_logprobs(
    states: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    owner: Tensor,
    token: Tensor,
    *,
    after_head: AfterHead | None = None,
    max_bytes: int = MAX_BLOCK_BYTES,
) -> Tensor:
    """Return log softmax(states weight^T + bias) at E (row, token) pairs.

    Args:
        states: [M, D].
        weight: [V, D].
        bias: [V] or None.
        owner: [E] the row of each pair.
        token: [E] the token of each pair.
        after_head: Applied to the logits.
        max_bytes: Size of a block.

    Returns:
        [E], float32 or wider.
    """
    result: Tensor = _TokenLogprobs.apply(  # type: ignore[no-untyped-call]  # torch's
        states, weight, bias, owner, token, after_head or AfterHead(), max_bytes
    )
    return result


def edge_logits(
    states: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    owner: Tensor,
    token: Tensor,
    *,
    max_bytes: int = MAX_BLOCK_BYTES,
) -> Tensor:
    """Return (states weight^T + bias) at E (row, token) pairs; see `token_logprobs`."""
    logits: Tensor = _EdgeLogits.apply(  # type: ignore[no-untyped-call]  # torch's
        states, weight, owner, token, max_bytes
    )
    return logits if bias is None else logits + bias.index_select(0, token)


class _EdgeLogits(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch's untyped context
        states: Tensor,
        weight: Tensor,
        owner: Tensor,
        token: Tensor,
        max_bytes: int,
    ) -> Tensor:
        blocks = _blocks(len(token), states.shape[1], max_bytes)
        ctx.save_for_backward(states, weight, owner, token)
        ctx.blocks = blocks
        dtype = torch.promote_types(states.dtype, weight.dtype)
        logits = states.new_zeros(len(token), dtype=dtype)
        for b in blocks:
            rows = weight.index_select(0, token[b])
            logits[b] = (states.index_select(0, owner[b]) * rows).sum(-1)
        return logits

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:  # noqa: ANN401
        [gradient] = gradients
        states, weight, owner, token = ctx.saved_tensors
        grad_hidden = torch.zeros_like(states) if ctx.needs_input_grad[0] else None
        grad_weight = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None
        for b in ctx.blocks:
            pull = gradient[b, None]
            if grad_hidden is not None:
                rows = pull * weight.index_select(0, token[b])
                grad_hidden.index_add_(0, owner[b], rows.to(states.dtype))
            if grad_weight is not None:
                rows = pull * states.index_select(0, owner[b])
                grad_weight.index_add_(0, token[b], rows.to(weight.dtype))
        return grad_hidden, grad_weight, None, None, None


class _TokenLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch's untyped context
        states: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        owner: Tensor,
        token: Tensor,
        after_head: AfterHead,
        max_bytes: int,
    ) -> Tensor:
        dtype = compute_dtype(weight.device, weight.dtype)
        blocks = _blocks(len(states), len(weight), max_bytes)
        precise = torch.promote_types(dtype, torch.float32)
        chosen = states.new_zeros(len(token), dtype=precise)
        normalizer = states.new_zeros(len(states), dtype=precise)
        logits = None
        for block in blocks:
            logits = _logits(states[block], weight, bias, after_head, dtype)
            normalizer[block] = torch.logsumexp(logits, dim=-1)
            inside, place = _places(owner, token, block, len(weight))
            chosen = torch.where(inside, logits.view(-1)[place], chosen)
        # A single block is kept: at its peak the backward pass would hold it anyway.
        kept = logits if len(blocks) == 1 else None
        ctx.save_for_backward(states, weight, bias, owner, token, normalizer, kept)
        ctx.after_head, ctx.dtype, ctx.blocks = after_head, dtype, blocks
        return chosen - normalizer.index_select(0, owner)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:  # noqa: ANN401
        [gradient] = gradients
        states, weight, bias, owner, token, normalizer, kept = ctx.saved_tensors
        needs_hidden, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        grad_hidden = torch.zeros_like(states) if needs_hidden else None
        grad_weight = torch.zeros_like(weight) if needs_weight else None
        grad_bias = torch.zeros_like(bias) if needs_bias else None
        head = weight.to(ctx.dtype)
        of_row = segment_sum(gradient, owner, len(states))
        for block in ctx.blocks:
            logits = kept
            if logits is None:
                logits = _logits(states[block], weight, bias, ctx.after_head, ctx.dtype)
            # d log p_t / d logits = [t] - p
            grad = (logits - normalizer[block, None]).exp_().mul_(-of_row[block, None])
            inside, place = _places(owner, token, block, len(weight))
            grad.view(-1).scatter_add_(0, place, torch.where(inside, gradient, 0.0))
            grad = ctx.after_head.backward_(grad, logits).to(ctx.dtype)
            if grad_hidden is not None:
                grad_hidden[block] = (grad @ head).to(states.dtype)
            if grad_weight is not None:
                _add_product(grad_weight, grad.T, states[block].to(ctx.dtype))
            if grad_bias is not None:
                grad_bias += grad.sum(0)
        return grad_hidden, grad_weight, grad_bias, None, None, None, None


def _blocks(num_rows: int, width: int, max_bytes: int) -> list[slice]:
    """Cut rows of `width` float32 values into blocks."""
    size = max(max_bytes // (4 * width), 1)
    return [slice(start, min(start + size, num_rows)) for start in range(0, num_rows, size)]


def _logits(
    states: Tensor, weight: Tensor, bias: Tensor | None, after_head: AfterHead, dtype: torch.dtype
) -> Tensor:
    """Return finished logits in float32 or wider."""
    bias = None if bias is None else bias.to(dtype)
    logits = functional.linear(states.to(dtype), weight.to(dtype), bias)
    return after_head(logits.to(torch.promote_types(dtype, torch.float32)))


def _places(owner: Tensor, token: Tensor, block: slice, vocab_size: int) -> tuple[Tensor, Tensor]:
    """Return which pairs lie in a block of rows, and where in its flattened logits (else 0)."""
    inside = (owner >= block.start) & (owner < block.stop)
    return inside, torch.where(inside, (owner - block.start) * vocab_size + token, 0)


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    """`total += a @ b`, without a temporary where the dtypes allow it."""
    if total.dtype == a.dtype:
        total.addmm_(a, b)
    else:
        total += a @ b
