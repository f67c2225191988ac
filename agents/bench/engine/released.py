"""The peers: what published code of ReRe computes, and how, written anew.

Search: `generate` with G beams, which copies every prompt G times; a logits processor looks each
beam's tokens up in a dictionary of strings and adds a dense mask over the vocabulary. Update: G
copies of every prompt with one completion each, a softmax over the whole vocabulary, policy and
reference alike (TRL's GRPO has the same layout). Departures that change no result and favour the
peer: the first key is empty (released: the last three prompt tokens, tied to one tokenizer), scores
of all steps are not kept, and log-probabilities hold one row's softmax at a time.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList, PreTrainedModel

from agents.bench.engine.scores import ILLEGAL
from rere_env.catalogue import TitleTokens

__all__ = [
    "BETA",
    "ReleasedMask",
    "completion_logprobs",
    "generate_beams",
    "nested_dicts",
    "prefix_table",
    "released_gradient",
    "released_loss",
    "repeated",
]

# B prompts, G candidates each, P prompt tokens, C completion tokens, V vocabulary.

BETA = 0.04
"""Weight of the KL: TRL's default, large enough to show in a gradient."""

Allowed = Callable[[int, Tensor], list[int]]


def prefix_table(tokens: TitleTokens) -> dict[str, list[int]]:
    """Return what may follow each prefix; the key is its token ids, joined to a string."""
    followers: dict[str, set[int]] = {}
    for title in range(len(tokens.indptr) - 1):
        ids = tokens.model_ids(title).tolist()
        for length, token in enumerate(ids):
            followers.setdefault(_key(ids[:length]), set()).add(token)
    return {key: sorted(allowed) for key, allowed in followers.items()}


class ReleasedMask(LogitsProcessor):
    """Adds -1e6 to the log-probability of every token that continues no title."""

    def __init__(self, table: dict[str, list[int]], num_beams: int) -> None:
        """Start a search; a processor serves one."""
        self._table = table
        self._num_beams = num_beams
        self._num_steps = 0

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return masked log-probabilities [rows, V]."""
        scores = torch.log_softmax(scores, dim=-1)
        mask = torch.full_like(scores, ILLEGAL)
        beams = input_ids.view(-1, self._num_beams, input_ids.shape[-1])
        for prompt, sequences in enumerate(beams):
            for beam, sequence in enumerate(sequences):
                written = sequence[len(sequence) - self._num_steps :].tolist()
                allowed = self._table.get(_key(written), [])
                if allowed:
                    mask[prompt * self._num_beams + beam, allowed] = 0
        self._num_steps += 1
        return scores + mask


def nested_dicts(tokens: TitleTokens, prompt_length: int) -> Allowed:
    """Return the usual `prefix_allowed_tokens_fn`: a trie of dictionaries, walked from the root."""
    root: dict[int, dict] = {}  # type: ignore[type-arg]  # nested without end
    for title in range(len(tokens.indptr) - 1):
        node = root
        for token in tokens.model_ids(title).tolist():
            node = node.setdefault(token, {})
    eos = int(tokens.local_model[0])

    def allowed(_: int, sequence: Tensor) -> list[int]:
        node = root
        for token in sequence[prompt_length:].tolist():
            node = node.get(token, {})
        return list(node) or [eos]

    return allowed


@torch.no_grad()
def generate_beams(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    num_beams: int,
    max_new_tokens: int,
    *,
    processors: Sequence[LogitsProcessor] = (),
    allowed: Allowed | None = None,
) -> Tensor:
    """Search with Hugging Face's `generate`; return what it wrote [B, G, C], best first.

    Args:
        model: The policy.
        prompts: B prompts of one length.
        num_beams: G.
        max_new_tokens: Tokens of the longest title.
        processors: Applied to the log-probabilities, in this order.
        allowed: Constrain by Hugging Face's own processor, and renormalise over what is left.
    """
    ids = torch.tensor(prompts)
    beams = {"length_penalty": 0.0} if num_beams > 1 else {}
    generate: Any = model.generate  # from a mixin that PreTrainedModel does not name
    out = generate(
        ids,
        attention_mask=torch.ones_like(ids),
        num_beams=num_beams,
        num_return_sequences=num_beams,
        do_sample=False,
        max_new_tokens=max_new_tokens,
        logits_processor=LogitsProcessorList(processors),
        prefix_allowed_tokens_fn=allowed,
        renormalize_logits=allowed is not None,
        **beams,
    )
    written: Tensor = out[:, ids.shape[1] :]
    return written.view(len(prompts), num_beams, -1)


def repeated(
    prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[Sequence[int]]], pad: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return every prompt G times with its completions behind it.

    Returns:
        Token ids [B G, P + C], padded on the right, an attention mask of the same shape, and bool
        [B G, C]: the completions' own tokens.
    """
    rows = [title for group in completions for title in group]
    group_size = len(completions[0])
    prompt = torch.tensor(prompts).repeat_interleave(group_size, dim=0)
    lengths = torch.tensor([len(row) for row in rows])
    is_token = torch.arange(int(lengths.max())) < lengths[:, None]
    written = torch.full(is_token.shape, pad)
    written[is_token] = torch.tensor([token for row in rows for token in row])
    attention = torch.cat([torch.ones_like(prompt), is_token.long()], dim=1)
    return torch.cat([prompt, written], dim=1), attention, is_token


def completion_logprobs(
    model: PreTrainedModel, ids: Tensor, attention: Tensor, num_tokens: int
) -> Tensor:
    """Return the log-probability of each of the last C tokens, [B G, C]."""
    logits = model(
        input_ids=ids, attention_mask=attention, logits_to_keep=num_tokens + 1, use_cache=False
    ).logits[:, :-1]
    chosen = logits.gather(-1, ids[:, -num_tokens:, None])[..., 0]
    # One row at a time: the softmax of all of them is never held.
    normalizer = torch.stack([torch.logsumexp(row, dim=-1) for row in logits])
    logprobs: Tensor = chosen - normalizer
    return logprobs


def released_loss(
    logprobs: Tensor, reference: Tensor, mask: Tensor, advantages: Tensor, num_candidates: int
) -> Tensor:
    """Return REINFORCE with group advantages and a k3 KL, averaged over tokens, then titles."""
    gain = torch.exp(logprobs - logprobs.detach()) * advantages[:, None]
    log_ratio = reference - logprobs
    kl = torch.exp(log_ratio) - log_ratio - 1
    per_title = ((gain - BETA * kl) * mask).sum(1) / mask.sum(1)
    return -per_title.sum() / num_candidates


def released_gradient(
    model: PreTrainedModel,
    reference: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    completions: Sequence[Sequence[Sequence[int]]],
    advantages: Tensor,
    *,
    rows_per_pass: int,
) -> None:
    """Add the gradient of the loss to the policy's.

    Args:
        model: The policy.
        reference: The reference policy.
        prompts: B prompts of one length.
        completions: B groups of G completions.
        advantages: [B, G].
        rows_per_pass: Copies of prompts in one forward-backward pass.
    """
    pad = model.config.get_text_config().pad_token_id
    ids, attention, mask = repeated(prompts, completions, pad)
    for start in range(0, len(ids), rows_per_pass):
        some = slice(start, start + rows_per_pass)
        with torch.no_grad():
            anchor = completion_logprobs(reference, ids[some], attention[some], mask.shape[1])
        logprobs = completion_logprobs(model, ids[some], attention[some], mask.shape[1])
        gains = advantages.flatten()[some]
        released_loss(logprobs, anchor, mask[some], gains, len(ids)).backward()


def _key(ids: Sequence[int]) -> str:
    return "-".join(map(str, ids))
