"""A Hugging Face causal LM that reads prefix trees. Knows nothing of titles, rewards or users.

Everything goes through public interfaces of transformers: a 4-D attention mask (one for each kind
of layer where a window slides), explicit `position_ids` and an append-only `DynamicCache`. A probe
at construction compares small trees with separate sequences, so an architecture that ignores the
mask is refused, not trained wrongly.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import DynamicCache, PreTrainedModel

from agents.language_model.cache import TreeCache
from agents.language_model.families import CHECKED, after_head, layer_windows
from agents.language_model.head import edge_logits, token_logprobs
from agents.language_model.segments import compute_dtype, segment_log_softmax
from agents.trees.pack import pack
from agents.trees.tensors import Continuations, NextTokens, TreeTensors
from agents.types import Support

__all__ = ["LanguageModel", "NextTokens", "TreeCache", "TreeTensors", "context_length"]


class LanguageModel(nn.Module):
    """A decoder and its head behind the few calls that search, update and SFT need."""

    def __init__(self, model: PreTrainedModel) -> None:
        """Wrap a causal LM.

        Raises:
            ValueError: The model has no output head, or its trees differ from its sequences.
        """
        super().__init__()
        self.model = model
        self.train(model.training)
        head = model.get_output_embeddings()
        if head is None:
            raise ValueError(
                f"{type(model).__name__} has no output embeddings; a causal LM is needed."
            )
        config = model.config.get_text_config()
        self._windows = layer_windows(config)
        self._after_head = after_head(config)
        _probe(self)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.device

    @property
    def max_length(self) -> int | None:
        """Positions the model was built for; None where it does not say."""
        return context_length(self.model)

    def forward(
        self,
        trees: TreeTensors,
        slots: Tensor,
        edges: Continuations | None = None,
        support: Support = "catalogue",
    ) -> Tensor:
        """Return log-probabilities of the next token at some nodes of packed trees.

        Args:
            trees: R trees of S nodes.
            slots: [M] positions in the flattened [R * S] nodes.
            edges: Continuations of each slot; None for the whole vocabulary.
            support: What the probabilities of `edges` are normalised over: each slot's edges, or
                the vocabulary.

        Returns:
            [E] over the edges, or [M, V]; float32 or wider.
        """
        self.check_length(trees.length)
        states = self._decoder(
            input_ids=trees.tokens,
            position_ids=trees.positions,
            attention_mask=self._mask(trees.ancestors(), trees.positions, trees.positions),
            use_cache=False,
        ).last_hidden_state
        # `embedding` and `index_select`, not `[]`: their CPU gradients are deterministic.
        states = functional.embedding(slots, states.flatten(0, 1))
        if edges is None:
            return self.next_logprobs(states)
        return self.edge_logprobs(states, edges, support)

    def prefill(self, prompts: Tensor, lengths: Tensor) -> tuple[Tensor, TreeCache]:
        """Read prompts once.

        Args:
            prompts: [B, P] token ids, padded on the right with anything.
            lengths: [B] real lengths.

        Returns:
            The hidden state after the last real token, [B, D], and the cache of P slots.
        """
        width = prompts.shape[1]
        self.check_length(width)
        slot = torch.arange(width, device=prompts.device)
        cache = TreeCache(keys=DynamicCache(), positions=slot.expand_as(prompts)[:, :0])
        causal = (slot[None, :] <= slot[:, None]).expand(len(prompts), -1, -1)
        states = self.extend(prompts, slot.expand_as(prompts), causal, cache)
        return states[torch.arange(len(prompts), device=prompts.device), lengths - 1], cache

    def extend(
        self, tokens: Tensor, positions: Tensor, visible: Tensor, cache: TreeCache
    ) -> Tensor:
        """Append query tokens to every row of the cache.

        Args:
            tokens: [B, Q].
            positions: [B, Q].
            visible: [B, Q, slots + Q] bool, the ancestors of each query, itself included.
            cache: Grows by Q slots.

        Returns:
            Hidden states [B, Q, D].
        """
        cache.positions = torch.cat([cache.positions, positions], dim=1)
        states: Tensor = self._decoder(
            input_ids=tokens,
            position_ids=positions,
            attention_mask=self._mask(visible, positions, cache.positions),
            past_key_values=cache.keys,
            use_cache=True,
        ).last_hidden_state
        return states

    def edge_logprobs(self, states: Tensor, edges: Continuations, support: Support) -> Tensor:
        """Return the log-probability of given continuations of M nodes.

        Args:
            states: [M, D] the hidden state at each node.
            edges: E continuations; under "catalogue" all legal ones of each node, under
                "vocabulary" any.
            support: What the probabilities are normalised over: the edges of a node (only their
                rows of the head are computed), or the vocabulary (in blocks of rows).

        Returns:
            [E], float32 or wider.
        """
        head = self._head
        if support == "vocabulary":
            return token_logprobs(
                states,
                head.weight,
                head.bias,
                edges.owner,
                edges.token,
                after_head=self._after_head,
            )
        logits = edge_logits(states, head.weight, head.bias, edges.owner, edges.token)
        return segment_log_softmax(self._after_head(logits), edges.owner, len(states))

    def shared_logprobs(self, states: Tensor, tokens: Tensor) -> Tensor:
        """Return the log-probabilities [M, n] of the same n legal tokens after every node [M, D].

        What `edge_logprobs` gives under "catalogue", by one matrix product.
        """
        head = self._head
        weight = functional.embedding(tokens, head.weight)
        bias = None if head.bias is None else head.bias.index_select(0, tokens)
        logits = self._after_head(functional.linear(states, weight, bias))
        return torch.log_softmax(logits.float(), dim=-1)

    def next_logprobs(self, states: Tensor) -> Tensor:
        """Return the log-probabilities [M, V] of all tokens after hidden states [M, D]."""
        return torch.log_softmax(self._after_head(self._head(states)).float(), dim=-1)

    def check_length(self, length: int) -> None:
        """Raise if a sequence is longer than the model can place.

        Raises:
            ValueError: Naming the length, the limit and what to do.
        """
        if self.max_length is not None and length > self.max_length:
            raise ValueError(
                f"a sequence of {length} tokens exceeds the model's limit of {self.max_length}; "
                "use a smaller `history_length`, a tokenizer with fewer tokens a title, or a "
                "model with a longer context."
            )

    @property
    def _decoder(self) -> Any:  # noqa: ANN401 - the decoder classes share no typed base
        return self.model.base_model

    @property
    def _head(self) -> Any:  # noqa: ANN401 - nn.Linear, or a class like it
        return self.model.get_output_embeddings()

    def _mask(
        self, visible: Tensor, query_positions: Tensor, key_positions: Tensor
    ) -> Tensor | dict[str, Tensor]:
        """Turn bool [B, Q, K] into the additive 4-D masks that every attention accepts.

        A layer with a window sees the ancestors less than a window of positions away. Where all
        layers are alike one mask serves; otherwise the decoder takes one for each kind of layer.
        """
        # Under autocast attention computes in its dtype, in which float32's lowest value is -inf.
        dtype = compute_dtype(visible.device, self.model.dtype)
        masks = {}
        for kind, window in self._windows.items():
            seen = visible
            if window is not None:
                seen = visible & (query_positions[..., None] - key_positions[:, None] < window)
            mask = torch.zeros(seen.shape, dtype=dtype, device=seen.device)
            masks[kind] = mask.masked_fill_(~seen, torch.finfo(dtype).min)[:, None]
        return masks if len(masks) > 1 else masks.popitem()[1]


def context_length(model: PreTrainedModel) -> int | None:
    """Return the positions that a model was built for; None where it does not say."""
    limit: int | None = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return limit


_MAX_PROBE = 64
"""A longer window is not probed: a long forward pass of a large model is dear."""


@torch.no_grad()
def _probe(lm: LanguageModel) -> None:
    """Compare small trees, packed and grown step by step, with separate sequences.

    Raises:
        ValueError: They differ, or the decoder does not take what it is given.
    """
    size = lm.model.config.get_text_config().vocab_size
    # Longer than the window, where that costs next to nothing.
    longest = min(lm.max_length or _MAX_PROBE, _MAX_PROBE)
    windows = [w + 2 for w in lm._windows.values() if w is not None and w + 4 <= longest]
    trunk = [(7 * i + 3) % size for i in range(max([3, *windows]))]
    branches = [[t % size for t in branch] for branch in ([5, 2], [6])]
    sequences = [trunk + branches[0], trunk + branches[1], [4 % size, *branches[0]]]
    training, _ = lm.training, lm.eval()
    try:
        own = torch.stack(
            [lm.model(torch.tensor([row], device=lm.device)).logits[0, -1] for row in sequences]
        )
        ours = torch.stack([_read_packed(lm, sequences), _read_grown(lm, trunk, branches)])
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{type(lm.model).__name__} cannot read a packed tree ({error}). {CHECKED}"
        ) from error
    finally:
        lm.train(training)
    worst = (ours - torch.log_softmax(own.float(), -1)).abs().max().item()
    tolerance = 1e-3 if lm.model.dtype == torch.float32 else 0.15
    if not worst <= tolerance:
        raise ValueError(
            f"{type(lm.model).__name__} gives other log-probabilities for a tree than for "
            f"separate sequences (difference {worst:.2g}, allowed {tolerance:.2g}): it does not "
            f"honour a 4-D attention mask with position_ids. {CHECKED}"
        )


def _read_packed(lm: LanguageModel, sequences: list[list[int]]) -> Tensor:
    """Return the log-probabilities after each sequence, [n, V], from one packed tree."""
    packed = pack(sequences)
    last = [packed.slots[i, len(sequence) - 1] for i, sequence in enumerate(sequences)]
    logprobs: Tensor = lm(TreeTensors(packed, lm.device), torch.tensor(last, device=lm.device))
    return logprobs


def _read_grown(lm: LanguageModel, trunk: list[int], branches: list[list[int]]) -> Tensor:
    """Return the same for the trunk with both branches and its second row, [3, V], by a cache.

    The second row is one token and padding, with the first branch.
    """
    first, second = branches
    short = [(4 % lm.model.config.get_text_config().vocab_size)] * len(trunk)
    lengths = torch.tensor([len(trunk), 1], device=lm.device)
    _, cache = lm.prefill(torch.tensor([trunk, short], device=lm.device), lengths)
    tokens = torch.tensor([[*first, *second]] * 2, device=lm.device)
    offsets = torch.tensor([0, 1, 0], device=lm.device)
    real = torch.arange(len(trunk), device=lm.device) < lengths[:, None]
    own = torch.tensor([[1, 0, 0], [1, 1, 0], [0, 0, 1]], device=lm.device).bool()
    visible = torch.cat([real[:, None].expand(2, 3, -1), own.expand(2, 3, 3)], dim=-1)
    states = lm.extend(tokens, lengths[:, None] + offsets, visible, cache)
    return lm.next_logprobs(torch.stack([states[0, 1], states[0, 2], states[1, 1]]))
