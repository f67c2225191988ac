"""What follows from the probability of every title: entropy, KL, mean reward, its gradient."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agents.policy import Policy
from agents.scoring.catalogue import MAX_TOKENS, only_shown, score_catalogue
from agents.trees.catalogue import Block, blocks
from agents.trees.pack import Trees
from agents.trees.tensors import TreeTensors
from agents.trees.trie import TorchShown
from rere_env.prompts import Prompts
from rere_env.types import Batch, FloatArray, Reward

__all__ = ["exact_policy_gradient", "expected_reward", "kl", "policy_entropy"]

# B examples, I titles.


def policy_entropy(logprobs: FloatArray) -> FloatArray:
    """Return the entropy in nats, float64 [B], of policies given by log-probabilities [B, I]."""
    entropy: FloatArray = -_mean(logprobs, logprobs)
    return entropy


def kl(logprobs: FloatArray, ref_logprobs: FloatArray) -> FloatArray:
    """Return KL(policy || reference) in nats, float64 [B]; inf where the reference rules it out."""
    possible = logprobs > -np.inf
    difference = np.subtract(logprobs, ref_logprobs, out=np.zeros_like(logprobs), where=possible)
    return _mean(logprobs, difference)


def expected_reward(logprobs: FloatArray, reward: Reward, examples: Batch) -> FloatArray:
    """Return the mean reward of a title drawn from the policy, float64 [B].

    Args:
        logprobs: [B, I] from `score_catalogue`.
        reward: A reward that judges each title by itself, such as `hit`.
        examples: The same examples.

    Raises:
        ValueError: The reward of a title depends on the group.
    """
    expected: FloatArray = _paid(logprobs, reward, examples).sum(axis=1)
    return expected


def exact_policy_gradient(
    policy: Policy,
    prompts: Prompts,
    examples: Batch,
    reward: Reward,
    *,
    max_tokens: int = MAX_TOKENS,
) -> tuple[FloatArray, list[Tensor]]:
    """Return the expected reward and its gradient, without drawing anything.

    It is the mean of the policy gradient of independent draws at temperature 1 (REINFORCE, summed
    over tokens): sum of p(title) reward(title) grad log p(title).

    Args:
        policy: What is differentiated.
        prompts: Of the examples.
        examples: B examples, at least one.
        reward: A reward that judges each title by itself, such as `hit`.
        max_tokens: Of a forward-backward pass, one prompt's own not counted.

    Returns:
        The expected reward of each example, float64 [B], and the gradient of their mean, one
        tensor for each of `policy.lm.parameters()`.

    Raises:
        ValueError: The reward of a title depends on the group.
    """
    lm, trie = policy.lm, policy.trie
    paid = _paid(score_catalogue(policy, prompts), reward, examples)
    parameters = list(lm.parameters())
    gradient = [torch.zeros_like(parameter) for parameter in parameters]
    for row in range(len(prompts)):
        shown = TorchShown(trie, prompts.take([row]))
        by_leaf = np.concatenate([[0.0], np.cumsum(paid[row, trie.host.leaf_title])])
        paid_before = torch.from_numpy(by_leaf / len(examples)).to(lm.device)
        prompt = np.asarray(prompts.ids[row], np.int64)
        for block in blocks(trie.host, trie.title_tokens, max_tokens):
            trees, slots = _behind(prompt, block, lm.device)
            edges = trie.edges(torch.from_numpy(block.nodes).to(lm.device))
            logprob = lm(trees, slots, edges, "catalogue")
            if shown.hides:
                is_shown = shown.num_titles(torch.zeros_like(edges.child), edges.child) > 0
                logprob = only_shown(logprob, edges, is_shown)
            below = paid_before[trie.hi[edges.child]] - paid_before[trie.lo[edges.child]]
            parts = torch.autograd.grad(
                (below.to(logprob.dtype) * logprob).sum(), parameters, allow_unused=True
            )
            for total, part in zip(gradient, parts, strict=True):
                if part is not None:
                    total += part
    return paid.sum(axis=1), gradient


def _behind(
    prompt: NDArray[np.int64], block: Block, device: torch.device
) -> tuple[TreeTensors, Tensor]:
    """Lay a block out behind its prompt; return the tree and the slots that decide."""
    length, size = len(prompt), len(prompt) + len(block.tokens)
    tree = Trees(
        tokens=np.concatenate([prompt, block.tokens])[None],
        positions=np.concatenate([np.arange(length), length - 1 + block.depths])[None],
        ends=np.concatenate([np.full(length, size), length + block.ends])[None],
        sizes=np.array([size]),
    )
    return TreeTensors(tree, device), torch.from_numpy(length + block.slots).to(device)


def _mean(logprobs: FloatArray, values: FloatArray) -> FloatArray:
    """Return the mean of values [B, I] under a policy, float64 [B]."""
    probability = np.exp(logprobs, dtype=np.float64)
    terms = np.zeros_like(probability)
    np.multiply(probability, values, out=terms, where=probability > 0)
    mean: FloatArray = terms.sum(axis=1)
    return mean


def _paid(logprobs: FloatArray, reward: Reward, examples: Batch) -> FloatArray:
    """Return probability times reward of every title, float64 [B, I]."""
    titles = np.tile(np.arange(logprobs.shape[1]), (len(examples), 1))
    rewards = reward(titles, examples)
    if not np.array_equal(rewards, reward(titles[:, ::-1], examples)[:, ::-1]):
        raise ValueError(
            "`reward` depends on a title's place in its group, so a single draw has no reward of "
            "its own; use one that judges each title by itself, such as `hit`."
        )
    paid: FloatArray = np.exp(logprobs, dtype=np.float64) * rewards
    return paid
