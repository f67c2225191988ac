"""A Hugging Face causal LM that reads prefix trees. Knows nothing of titles, rewards or users.

Everything goes through public interfaces of transformers: a 4-D attention mask, explicit
`position_ids` and an append-only `DynamicCache`. A probe at construction compares a small tree
with separate sequences, so an architecture that ignores the mask is refused, not trained wrongly.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import DynamicCache, PreTrainedModel

from agents.ops import segment_log_softmax
from agents.torch_trie import Edges
from agents.tree import PackedTrees, pack

__all__ = ["LanguageModel", "TreeTensors"]


class TreeTensors:
    """Packed trees on a device: tokens, positions and ends, all [R, S] int64."""

    def __init__(self, packed: PackedTrees, device: torch.device) -> None:
        """Copy the arrays."""
        self.tokens = torch.from_numpy(packed.tokens).to(device)
        self.positions = torch.from_numpy(packed.positions).to(device)
        self.ends = torch.from_numpy(packed.ends).to(device)

    def ancestors(self) -> Tensor:
        """Return bool [R, S, S]: node i sees node j if j is i or an ancestor of i."""
        slot = torch.arange(self.tokens.shape[1], device=self.tokens.device)
        return (slot[None, :] <= slot[:, None]) & (slot[:, None] < self.ends[:, None, :])


class LanguageModel(nn.Module):
    """A decoder and its head behind the three calls that search, update and SFT need."""

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
        _probe(self)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.device

    @property
    def max_length(self) -> int | None:
        """Positions the model was built for; None where it does not say."""
        config = self.model.config.get_text_config()
        limits = [getattr(config, "max_position_embeddings", None), sliding_window(config)]
        return min((limit for limit in limits if limit), default=None)

    def forward(self, trees: TreeTensors, slots: Tensor, edges: Edges | None = None) -> Tensor:
        """Return log-probabilities of the next token at some nodes of packed trees.

        Args:
            trees: R trees of S nodes.
            slots: [M] positions in the flattened [R * S] nodes.
            edges: The legal continuations of each slot; None for the whole vocabulary.

        Returns:
            [E] over the edges, normalised within each slot, or [M, V]; float32.
        """
        self.check_length(int(trees.positions.max()) + 1)
        hidden = self._decoder(
            input_ids=trees.tokens,
            position_ids=trees.positions,
            attention_mask=self._additive(trees.ancestors()),
            use_cache=False,
        ).last_hidden_state
        # `embedding` and `index_select`, not `[]`: their CPU gradients are deterministic.
        return self.next_logprobs(functional.embedding(slots, hidden.flatten(0, 1)), edges)

    def prefill(self, prompts: Tensor, lengths: Tensor) -> tuple[Tensor, DynamicCache]:
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
        causal = (slot[None, :] <= slot[:, None]).expand(len(prompts), -1, -1)
        cache = DynamicCache()
        hidden = self._decoder(
            input_ids=prompts,
            position_ids=slot.expand_as(prompts),
            attention_mask=self._additive(causal),
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state
        return hidden[torch.arange(len(prompts), device=prompts.device), lengths - 1], cache

    def extend(
        self, tokens: Tensor, positions: Tensor, visible: Tensor, cache: DynamicCache
    ) -> Tensor:
        """Append query tokens to every row of the cache.

        Args:
            tokens: [B, Q].
            positions: [B, Q].
            visible: [B, Q, slots + Q] bool, the ancestors of each query, itself included.
            cache: Grows by Q slots; nothing in it is ever moved.

        Returns:
            Hidden states [B, Q, D].
        """
        hidden: Tensor = self._decoder(
            input_ids=tokens,
            position_ids=positions,
            attention_mask=self._additive(visible),
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state
        return hidden

    def next_logprobs(self, hidden: Tensor, edges: Edges | None) -> Tensor:
        """Return log-probabilities after hidden states [M, D]: [E] over edges, or all [M, V]."""
        if edges is None:
            return torch.log_softmax(self._finish(self._head(hidden)).float(), dim=-1)
        weight = functional.embedding(edges.token, self._head.weight)
        logits = (functional.embedding(edges.owner, hidden) * weight).sum(-1)
        if self._head.bias is not None:
            logits = logits + self._head.bias.index_select(0, edges.token)
        return segment_log_softmax(self._finish(logits), edges.owner, len(hidden))

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

    def _additive(self, visible: Tensor) -> Tensor:
        """Turn bool [B, Q, slots] into the additive 4-D mask that every attention accepts."""
        dtype = self.model.dtype
        mask = torch.zeros(visible.shape, dtype=dtype, device=visible.device)
        return mask.masked_fill_(~visible, torch.finfo(dtype).min)[:, None]

    def _finish(self, logits: Tensor) -> Tensor:
        """Apply what some families do after the head (Gemma 2, Granite, Cohere)."""
        config = self.model.config.get_text_config()
        if scaling := getattr(config, "logits_scaling", None):
            logits = logits / scaling
        if scale := getattr(config, "logit_scale", None):
            logits = logits * scale
        if cap := getattr(config, "final_logit_softcapping", None):
            logits = torch.tanh(logits / cap) * cap
        return logits


def sliding_window(config: Any) -> int | None:  # noqa: ANN401 - a transformers config
    """Return the window of a model whose layers do not see everything, else None."""
    if getattr(config, "use_sliding_window", True) is False:
        return None
    types = getattr(config, "layer_types", None)
    if types is not None and "sliding_attention" not in types:
        return None
    return getattr(config, "sliding_window", None)


@torch.no_grad()
def _probe(lm: LanguageModel) -> None:
    """Compare a tree of three branches with the model's own forward on each sequence."""
    size = lm.model.config.get_text_config().vocab_size
    sequences = [[t % size for t in row] for row in ([3, 5, 7, 2], [3, 5, 6], [3, 4, 7, 2, 5])]
    packed = pack(sequences)
    training, _ = lm.training, lm.eval()
    trees = TreeTensors(packed, lm.device)
    try:
        ours = lm(trees, torch.from_numpy(packed.slots[[0, 1, 2], [3, 2, 4]]).to(lm.device))
        own = torch.stack(
            [lm.model(torch.tensor([row], device=lm.device)).logits[0, -1] for row in sequences]
        )
    finally:
        lm.train(training)
    worst = (ours - torch.log_softmax(own.float(), -1)).abs().max().item()
    tolerance = 1e-3 if lm.model.dtype == torch.float32 else 0.15
    if not worst <= tolerance:
        raise ValueError(
            f"{type(lm.model).__name__} gives other log-probabilities for a packed tree than for "
            f"separate sequences (difference {worst:.2g}, allowed {tolerance:.2g}): it does not "
            "honour a 4-D attention mask with position_ids. Use a decoder such as Qwen, Llama, "
            "Mistral, Gemma, Phi, OLMo, Granite, SmolLM or GPT-2."
        )
