"""Log-probabilities of given titles under a policy, on packed trees: what the update computes.

One tree a prompt: the prompt once, then the union of its candidates' tokens. Under
`support="catalogue"` only what decides is kept: nothing after a title's last choice, and the head
only on the rows of legal continuations.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agents.language_model import LanguageModel, TreeTensors
from agents.ops import segment_sum
from agents.torch_trie import Edges, TorchTrie
from agents.tree import PackedTrees, pack
from agents.types import Support
from rere_env.catalogue import TitleTokens
from rere_env.trie import Trie
from rere_env.types import NO_TITLE, IntArray

__all__ = ["GroupScores", "GroupTrees", "exact_kl", "plan_groups", "score_groups", "title_logprobs"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GroupTrees:
    """The forward pass that scores B groups, laid out (NumPy; the same for policy and reference).

    Attributes:
        packed: One tree a prompt.
        slots: [M] flattened tree slots that are followed by a kept token, each once.
        nodes: [M] the trie node at each of those slots.
        place: [B, G, T] index into the M slots of each kept token, 0 in the padding.
        tokens: [B, G, T] the model token id chosen there.
        edge: [B, G, T] which child of the node that is.
        mask: [B, G, T] bool, True on kept tokens.
    """

    packed: PackedTrees
    slots: NDArray[np.int64]
    nodes: NDArray[np.int64]
    place: NDArray[np.int64]
    tokens: NDArray[np.int64]
    edge: NDArray[np.int64]
    mask: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GroupScores:
    """Log-probabilities of the kept tokens.

    Attributes:
        logprobs: [B, G, T] float32, 0 in the padding.
        mask: [B, G, T] bool.
        place: [B, G, T] the slot of each kept token.
        legal: [E] log-probabilities of every legal continuation of every slot; None under
            `support="vocabulary"`.
        owner: [E] the slot of each of those.
    """

    logprobs: Tensor
    mask: Tensor
    place: Tensor
    legal: Tensor | None
    owner: Tensor | None


def plan_groups(
    trie: Trie,
    tokens: TitleTokens,
    prompts: Sequence[Sequence[int]],
    titles: IntArray,
    support: Support = "catalogue",
) -> GroupTrees:
    """Lay out the trees of B prompts with G titles each; `NO_TITLE` slots keep no token.

    Args:
        trie: The catalogue.
        tokens: Its titles as tokens.
        prompts: B prompts of model token ids.
        titles: [B, G] title ids.
        support: Which tokens are kept: those that decide, or all.
    """
    num_groups, group_size = titles.shape
    is_title = titles.reshape(-1) != NO_TITLE
    paths = trie.paths(np.where(is_title, titles.reshape(-1), 0))  # [B * G, L] nodes below root
    before = np.concatenate([np.zeros((len(paths), 1), np.int64), paths[:, :-1]], axis=1)
    keep = (paths > 0) & is_title[:, None]
    if support == "catalogue":
        keep &= trie.num_children(before) > 1
    columns = np.arange(paths.shape[1])
    # The last kept token is predicted, never read.
    num_read = np.max(np.where(keep, columns, 0), axis=1, initial=0)

    model_tokens = tokens.to_model_ids(trie.tokens[np.maximum(paths, 1) - 1])
    rows = np.repeat(np.arange(num_groups), group_size)
    packed = pack(
        [
            [*prompts[row], *model_tokens[i, : num_read[i]].tolist()]
            for i, row in enumerate(rows.tolist())
        ],
        rows.tolist(),
    )
    prompt_lengths = np.array([len(prompt) for prompt in prompts])[rows]

    # Move the kept tokens of each title to the front: [B * G, T].
    width = max(int(keep.sum(axis=1).max()), 1)
    order = np.argsort(~keep, axis=1, kind="stable")[:, :width]
    mask = np.take_along_axis(keep, order, 1)
    depth = np.where(mask, order, 0)
    slot = packed.slots[np.arange(len(rows))[:, None], prompt_lengths[:, None] - 1 + depth]
    flat = np.where(mask, slot + rows[:, None] * packed.tokens.shape[1], -1)
    node = np.take_along_axis(before, depth, 1)
    child = np.take_along_axis(paths, depth, 1)

    slots, first, place = np.unique(flat, return_index=True, return_inverse=True)
    if slots[0] == -1:  # the padding
        slots, first, place = slots[1:], first[1:], place - 1
    place = np.maximum(place.reshape(flat.shape), 0)
    shape = (num_groups, group_size, width)
    return GroupTrees(
        packed=packed,
        slots=slots,
        nodes=node.reshape(-1)[first],
        place=place.reshape(shape),
        tokens=np.take_along_axis(model_tokens, depth, 1).reshape(shape),
        edge=np.where(mask, child - 1 - trie.first[node], 0).reshape(shape),
        mask=mask.reshape(shape),
    )


def score_groups(
    lm: torch.nn.Module, trie: TorchTrie, plan: GroupTrees, support: Support, device: torch.device
) -> GroupScores:
    """Run one forward pass over the planned trees, with gradient if grad mode is on.

    Args:
        lm: A `LanguageModel`, possibly wrapped for distributed training.
        trie: The catalogue on the device.
        plan: From `plan_groups` under the same support.
        support: What the probabilities are normalised over.
        device: Where the model is.
    """
    place = torch.from_numpy(plan.place).to(device)
    mask = torch.from_numpy(plan.mask).to(device)
    if len(plan.slots) == 0:  # a catalogue of one title decides nothing
        zeros = torch.zeros(plan.mask.shape, device=device)
        return GroupScores(logprobs=zeros, mask=mask, place=place, legal=None, owner=None)
    slots = torch.from_numpy(plan.slots).to(device)
    trees = TreeTensors(plan.packed, device)
    edges: Edges | None = None
    if support == "catalogue":
        edges = trie.edges(torch.from_numpy(plan.nodes).to(device))
        legal = lm(trees, slots, edges)
        chosen = _gather(legal, edges.first[place] + torch.from_numpy(plan.edge).to(device))
    else:
        legal = lm(trees, slots)
        token = torch.from_numpy(plan.tokens).to(device)
        chosen = _gather(legal.flatten(), place * legal.shape[1] + token)
    return GroupScores(
        logprobs=torch.where(mask, chosen, 0.0),
        mask=mask,
        place=place,
        legal=legal if edges is not None else None,
        owner=edges.owner if edges is not None else None,
    )


def exact_kl(policy: GroupScores, reference: GroupScores) -> Tensor | None:
    """Return KL(policy || reference) [B, G, T] at every decision, summed over its children.

    None under `support="vocabulary"`, where only the chosen tokens' log-probabilities are kept.
    """
    if policy.legal is None or reference.legal is None or policy.owner is None:
        return None
    num_slots = int(policy.owner[-1]) + 1
    term = policy.legal.exp() * (policy.legal - reference.legal)
    at_slot = segment_sum(term, policy.owner, num_slots)
    return torch.where(policy.mask, _gather(at_slot, policy.place), 0.0)


def title_logprobs(
    lm: LanguageModel,
    trie: Trie,
    tokens: TitleTokens,
    prompts: Sequence[Sequence[int]],
    titles: IntArray,
    support: Support = "catalogue",
) -> Tensor:
    """Return the log-probability of each given title, [B, G]; 0 for `NO_TITLE`."""
    plan = plan_groups(trie, tokens, prompts, titles, support)
    device_trie = TorchTrie.build(trie, tokens, lm.device)
    return score_groups(lm, device_trie, plan, support, lm.device).logprobs.sum(-1)


def _gather(values: Tensor, index: Tensor) -> Tensor:
    """`values[index]` with a gradient that is deterministic on the CPU."""
    return values.index_select(0, index.flatten()).view(index.shape)
