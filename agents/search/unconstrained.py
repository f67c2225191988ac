"""Titles written with nothing that keeps a policy to the catalogue, to see how often it leaves it.

Any token of the vocabulary may come next. What is written is matched by the catalogue's own
tokenisation: the first token that leaves the trie, or leads to hidden titles only, makes a sequence
illegal, whatever its text would read like. A title is legal when its EOS is written.

For comparison: every token costs a step and the whole head. Knows nothing of rewards or ranking
metrics.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from agents.language_model import LanguageModel
from agents.language_model.head import MAX_BLOCK_BYTES
from agents.policy import Policy
from agents.search.choices import check_group_size, take
from agents.trees import TorchShown, TorchTrie
from agents.trees.tensors import pad_prompts
from agents.types import Candidates
from rere_env.prompts import Prompts
from rere_env.types import NO_TITLE

__all__ = ["sample_unconstrained", "unconstrained_beam"]

# B prompts, G sequences a prompt, M = B * G, V tokens of the vocabulary.

OUTSIDE = -1
"""Where a sequence is that no title which may be shown begins with; the others are at a node."""


@torch.no_grad()
def sample_unconstrained(
    policy: Policy,
    prompts: Prompts,
    group_size: int,
    *,
    generator: torch.Generator | None = None,
    temperature: float = 1.0,
) -> Candidates:
    """Draw G sequences for each prompt from the policy as it is, with replacement.

    A draw that has left the catalogue is given up at once: nothing that follows could make it a
    title. So the illegal draws are a share of 1 - (sum of all titles' probabilities under
    `support="vocabulary"`), in the mean, at temperature 1.

    Args:
        policy: What writes, in eval mode.
        prompts: B prompts.
        group_size: G.
        generator: Source of randomness, on the policy's device; None: torch's own.
        temperature: Logits are divided by it before a draw; the log-probabilities of the result
            are the policy's own.

    Returns:
        Titles [B, G], duplicates among them, the most probable first; the illegal draws are last,
        as `NO_TITLE` with -inf, and counted in `num_illegal`.

    Raises:
        ValueError: Another support, or a temperature that is not positive.
    """
    check_group_size(group_size)
    lm, trie = _unbound(policy)
    if not temperature > 0:
        raise ValueError(f"`temperature` (={temperature}) must be positive; 1 is the policy.")
    written, shown = _Written(policy, prompts), TorchShown(trie, prompts)
    shape = (len(prompts), group_size)
    walker = torch.arange(group_size, device=lm.device).expand(shape)
    node = torch.zeros(shape, dtype=torch.int64, device=lm.device)
    score = torch.zeros(shape, device=lm.device)
    after = written.root.expand(-1, group_size, -1)
    going = torch.ones_like(node, dtype=torch.bool)
    while True:
        token, logprob = _draw(lm, after.flatten(0, 1), temperature, generator)
        token, logprob = token.view(shape), logprob.view(shape)
        node = torch.where(going, _follow(trie, shown, node, token), node)
        score = torch.where(going, score + logprob, score)
        going = going & (node != OUTSIDE) & (trie.num_children(node.clamp(min=0)) > 0)
        if not going.any():
            break
        parent = walker if written.is_read else torch.zeros_like(walker)
        after = written.read(torch.where(going, token, 0), parent)
    title = torch.where(node == OUTSIDE, NO_TITLE, trie.leaf_title[trie.lo[node.clamp(min=0)]])
    return _candidates(title, torch.where(node == OUTSIDE, -torch.inf, score), sort=True)


@torch.no_grad()
def unconstrained_beam(
    policy: Policy,
    prompts: Prompts,
    group_size: int,
    *,
    generator: torch.Generator | None = None,
) -> Candidates:
    """Return what a beam search of width G finds that nothing keeps to the catalogue.

    The beams are those of Hugging Face's `generate(num_beams=G, length_penalty=0)` with as many new
    tokens as the longest title has. A beam that has left the catalogue is written to its end all
    the same: it takes the place of another, and keeps its rank among the titles found. That is what
    an evaluation has to see; a group to train on must hold its titles first, as
    `sample_unconstrained` gives them.

    Args:
        policy: What writes, in eval mode.
        prompts: B prompts.
        group_size: G.
        generator: Not used: the search is deterministic.

    Returns:
        Distinct titles [B, G] in the order of the beams; an illegal beam is `NO_TITLE` with -inf,
        wherever it ranks, and counted in `num_illegal`.

    Raises:
        ValueError: Another support.
    """
    check_group_size(group_size)
    lm, trie = _unbound(policy)
    written, shown = _Written(policy, prompts), TorchShown(trie, prompts)
    shape = (len(prompts), group_size)
    node = torch.zeros(len(prompts), 1, dtype=torch.int64, device=lm.device)
    score = torch.zeros(len(prompts), 1, device=lm.device)
    pool_title = torch.full(shape, NO_TITLE, device=lm.device)
    pool_score = torch.full(shape, -torch.inf, device=lm.device)
    is_best = torch.arange(2 * group_size, device=lm.device) < group_size
    after = written.root
    for tokens_left in reversed(range(trie.max_length)):
        # 1. The best 2 G continuations of all beams: at most G of them end.
        found, parent, token = _continue(lm, after, score, 2 * group_size)
        child = _follow(trie, shown, node.gather(1, parent), token)
        ends = (token == trie.eos) | (tokens_left == 0)
        # 2. Those that end among the best G join the pool.
        is_title = (token == trie.eos) & (child != OUTSIDE) & is_best
        title = torch.where(is_title, trie.leaf_title[trie.lo[child.clamp(min=0)]], NO_TITLE)
        pool = torch.cat([pool_score, torch.where(ends & is_best, found, -torch.inf)], 1)
        pool_score, best = torch.topk(pool, group_size, dim=1)
        pool_title = torch.cat([pool_title, title], 1).gather(1, best)
        # 3. The best of the others go on, unless the pool of their row is final.
        score, best = torch.topk(torch.where(ends, -torch.inf, found), group_size, dim=1)
        score = torch.where(score[:, :1] > pool_score[:, -1:], score, -torch.inf)
        if not (score > -torch.inf).any():
            break
        node = child.gather(1, best)
        after = written.read(token.gather(1, best), parent.gather(1, best))
    return _candidates(
        pool_title, torch.where(pool_title == NO_TITLE, -torch.inf, pool_score), sort=False
    )


class _Written:
    """B prompts, each read once, and the sequences after them, which grow token by token."""

    def __init__(self, policy: Policy, prompts: Prompts) -> None:
        lm, trie = policy.lm, policy.trie
        padded, lengths, is_real = (tensor.to(lm.device) for tensor in pad_prompts(prompts))
        # The last token of a sequence is never read.
        lm.check_length(padded.shape[1] + trie.max_length - 1)
        root, self._cache = lm.prefill(padded, lengths)
        self._lm = lm
        self._length = lengths[:, None]
        self._visible = is_real[:, None]  # [B, sequences, slots]
        self.root = root[:, None]  # [B, 1, D], what the first tokens follow
        self.is_read = False

    def read(self, token: Tensor, parent: Tensor) -> Tensor:
        """Read one token after G of the sequences a prompt; return the hidden states [B, G, D].

        Args:
            token: [B, G].
            parent: [B, G] places of the sequences among those of the last read (at first: 0).
        """
        own = torch.eye(token.shape[1], dtype=torch.bool, device=token.device)
        own = own.expand(len(token), -1, -1)
        self._visible = torch.cat([take(self._visible, parent), own], -1)
        position = self._length.expand_as(token)
        self._length = self._length + 1
        self.is_read = True
        return self._lm.extend(token, position, self._visible, self._cache)


def _follow(trie: TorchTrie, shown: TorchShown, node: Tensor, token: Tensor) -> Tensor:
    """Return the nodes [B, K] that tokens lead to, `OUTSIDE` where nothing is to be shown."""
    edges = trie.edges(node.clamp(min=0).flatten())
    taken = edges.token == token.flatten()[edges.owner]
    child = torch.full_like(node, OUTSIDE).flatten()
    child = child.index_put((edges.owner[taken],), edges.child[taken]).view_as(node)
    row = torch.arange(len(node), device=node.device)[:, None].expand_as(node)
    is_inside = (node != OUTSIDE) & (child != OUTSIDE)
    is_inside &= shown.num_titles(row, child.clamp(min=0)) > 0
    return torch.where(is_inside, child, OUTSIDE)


def _draw(
    lm: LanguageModel, states: Tensor, temperature: float, generator: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """Draw a token after each hidden state [M, D]; return them and their log-probabilities."""
    tokens, logprobs = [], []
    for part in states.split(_rows_at_a_time(lm)):
        logprob = lm.next_logprobs(part)
        chance = torch.softmax(logprob / temperature, -1)
        token = torch.multinomial(chance, 1, generator=generator)
        tokens.append(token[:, 0])
        logprobs.append(logprob.gather(1, token)[:, 0])
    return torch.cat(tokens), torch.cat(logprobs)


def _continue(
    lm: LanguageModel, states: Tensor, score: Tensor, num_kept: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Find the best continuations of the beams of each row, by hidden states [B, K, D].

    Returns:
        Scores, beams and tokens [B, num_kept], best first; -inf where there are fewer.
    """
    tokens, logprobs = [], []
    for part in states.flatten(0, 1).split(_rows_at_a_time(lm)):
        logprob = lm.next_logprobs(part)
        best = torch.topk(logprob, min(num_kept, logprob.shape[1]), dim=1)
        tokens.append(best.indices)
        logprobs.append(best.values)
    token, logprob = (torch.cat(parts).view(*score.shape, -1) for parts in (tokens, logprobs))
    width = token.shape[2]
    missing = max(num_kept - score.shape[1] * width, 0)
    table = functional.pad((score[..., None] + logprob).flatten(1), (0, missing), value=-torch.inf)
    found, place = torch.topk(table, num_kept, dim=1)
    place = place.clamp(max=score.shape[1] * width - 1)  # what is missing points anywhere
    return found, place // width, token.flatten(1).gather(1, place)


def _rows_at_a_time(lm: LanguageModel) -> int:
    """Return how many rows of float32 logits over the vocabulary fit a block."""
    vocab_size: int = lm.model.config.get_text_config().vocab_size
    return max(MAX_BLOCK_BYTES // (4 * vocab_size), 1)


def _candidates(title: Tensor, score: Tensor, *, sort: bool) -> Candidates:
    if sort:
        order = torch.argsort(score, dim=1, descending=True, stable=True)
        title, score = title.gather(1, order), score.gather(1, order)
    titles = title.cpu().numpy()
    return Candidates(
        titles=titles,
        logprobs=score.cpu().numpy().astype(np.float32),
        num_illegal=(titles == NO_TITLE).sum(axis=1),
    )


def _unbound(policy: Policy) -> tuple[LanguageModel, TorchTrie]:
    if policy.support != "vocabulary":
        raise ValueError(
            f"`support` (={policy.support!r}) must be 'vocabulary' where nothing keeps a policy to "
            "the catalogue: over the legal tokens alone nothing illegal has a probability. Use "
            "`sample` or `beam_search` for titles only."
        )
    return policy.lm, policy.trie
