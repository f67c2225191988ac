"""What results are compared with before they count: slow, plain, one title at a time."""

from collections.abc import Mapping, Sequence
from heapq import nlargest

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from agents.bench.engine.scores import UserScores
from agents.bench.engine.workload import Workload
from rere_env.catalogue import TitleTokens
from rere_env.types import IntArray

__all__ = [
    "assert_same_gradient",
    "assert_same_titles",
    "catalogue_gradient",
    "decision_beams",
    "recall",
]

TOLERANCE = 1e-5


def decision_beams(scores: UserScores, user: int, num_beams: int) -> list[int]:
    """Return the titles that G beams find which all advance one decision a round, best first."""
    trie, table = scores.trie, scores.table[user]
    finished: list[tuple[float, int, bool]] = []  # score, title, True
    frontier = [(0.0, 0)]
    while frontier:
        found = []
        for score, node in frontier:
            end = trie.chain_end[node]
            for child in range(trie.first[end] + 1, trie.first[end + 1] + 1):
                is_title = bool(trie.hi[child] - trie.lo[child] == 1)
                what = int(trie.leaf_title[trie.lo[child]]) if is_title else child
                found.append((score + float(table[child]), what, is_title))
        best = nlargest(num_beams, finished + found)
        frontier = [(score, node) for score, node, is_title in best if not is_title]
        finished = nlargest(num_beams, (f for f in finished + found if f[2]))
    return [title for _, title, _ in finished]


def assert_same_titles(ours: IntArray, theirs: IntArray, logprobs: NDArray[np.float64]) -> None:
    """Assert equal titles [B, G] in equal order; two whose scores differ by 1e-5 may swap.

    Args:
        ours: Title ids.
        theirs: Title ids.
        logprobs: [B, I] of every title.

    Raises:
        AssertionError: With the users that differ.
    """
    scores = [np.take_along_axis(logprobs, titles, 1) for titles in (ours, theirs)]
    wrong = (ours != theirs) & (np.abs(scores[0] - scores[1]) > TOLERANCE)
    distinct = [len(set(row)) == len(row) for titles in (ours, theirs) for row in titles.tolist()]
    if wrong.any() or not all(distinct):
        users = np.flatnonzero(wrong.any(axis=1)).tolist()
        raise AssertionError(f"the titles of users {users} differ; nothing is reported.")


def recall(found: IntArray, logprobs: NDArray[np.floating]) -> float:
    """Return which share of the G most probable titles [B, I] is among those found [B, G]."""
    best = np.argsort(-logprobs, axis=1, kind="stable")[:, : found.shape[1]]
    shares = [
        len(set(a) & set(b)) / len(a) for a, b in zip(best.tolist(), found.tolist(), strict=True)
    ]
    return float(np.mean(shares))


def assert_same_gradient(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> float:
    """Return the relative difference of two gradients.

    Raises:
        AssertionError: It exceeds 1e-5.
    """
    difference = sum(float((a - b).square().sum()) for a, b in zip(ours, theirs, strict=True))
    error = float((difference / sum(float(b.square().sum()) for b in theirs)) ** 0.5)
    if not error <= TOLERANCE:
        raise AssertionError(f"the gradients differ by {error:.1e}; nothing is reported.")
    return error


def catalogue_gradient(
    workload: Workload,
    reference: PreTrainedModel,
    titles: IntArray,
    advantages: Tensor,
    beta: float,
) -> None:
    """Add the gradient of GRPO over the legal tokens, with its exact KL, one title at a time.

    Args:
        workload: The policy; the first users' prompts are used.
        reference: The reference policy.
        titles: [B, G].
        advantages: [B, G].
        beta: Weight of the KL.
    """
    legal = _legal_tokens(workload.task.title_tokens)
    groups = zip(workload.prompts, workload.completions(titles), advantages.tolist(), strict=False)
    for prompt, completions, gains in groups:
        for ids, gain in zip(completions, gains, strict=True):
            decisions = [n for n in range(len(ids)) if len(legal[tuple(ids[:n])]) > 1]
            sequence = torch.tensor([[*prompt, *ids]])
            at = [len(prompt) + n - 1 for n in decisions]
            with torch.no_grad():
                anchor = reference(sequence).logits[0, at]
            logits = workload.model(sequence).logits[0, at]
            total = logits.new_zeros(())
            for place, n in enumerate(decisions):
                allowed = legal[tuple(ids[:n])]
                p = torch.log_softmax(logits[place, allowed], -1)
                q = torch.log_softmax(anchor[place, allowed], -1)
                kl = (p.exp() * (p - q)).sum()
                total = total + gain * p[allowed.index(ids[n])] - beta * kl
            (-total / len(decisions) / titles.size).backward()


def _legal_tokens(tokens: TitleTokens) -> Mapping[tuple[int, ...], list[int]]:
    followers: dict[tuple[int, ...], set[int]] = {}
    for title in range(len(tokens.indptr) - 1):
        ids = tuple(tokens.model_ids(title).tolist())
        for length, token in enumerate(ids):
            followers.setdefault(ids[:length], set()).add(token)
    return {prefix: sorted(allowed) for prefix, allowed in followers.items()}
