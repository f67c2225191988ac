"""What titles mean, as vectors: from the policy's own tokens, or from any sentence encoder."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm.auto import tqdm
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedModel

from rere_env.tokenizer import Tokenizer

__all__ = ["check_encoder", "sentence_embeddings", "token_embeddings"]


def token_embeddings(
    model: PreTrainedModel, tokenizer: Tokenizer, titles: Sequence[str]
) -> NDArray[np.float32]:
    """Return the mean of each title's input token embeddings, [titles, D]. Needs no other model.

    Args:
        model: A causal LM; its table of input embeddings is read as it stands.
        tokenizer: Its own.
        titles: Texts, each of at least one token.
    """
    embedding = cast(nn.Embedding, model.get_input_embeddings())
    table = embedding.weight.detach().float().cpu()
    rows = [tokenizer.encode(title) for title in titles]
    length = torch.tensor([len(row) for row in rows])
    tokens = torch.tensor([token for row in rows for token in row])
    title = torch.repeat_interleave(torch.arange(len(rows)), length)
    total = torch.zeros(len(rows), table.shape[1]).index_add_(0, title, table[tokens])
    means: NDArray[np.float32] = (total / length[:, None]).numpy()
    return means


def sentence_embeddings(
    encoder: str,
    titles: Sequence[str],
    *,
    batch_size: int = 64,
    device: torch.device | str = "cpu",
    progress: bool = True,
) -> NDArray[np.float32]:
    """Return the mean of each title's last hidden states under an encoder, [titles, D].

    Args:
        encoder: A Hugging Face folder or hub id that `AutoModel` loads; no remote code is run.
        titles: Texts.
        batch_size: Titles encoded together; of similar length, so that little is padding.
        device: Where to compute.
        progress: Show a progress bar.

    Raises:
        ValueError: The encoder cannot be had, or a title is longer than it reads.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(encoder, trust_remote_code=False)
        model = AutoModel.from_pretrained(encoder, dtype=torch.float32, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise _no_encoder(encoder, error) from error
    model = model.to(device).eval()
    rows: list[list[int]] = tokenizer(list(titles), truncation=False)["input_ids"]
    _check_lengths(rows, titles, model.config, encoder)
    order = np.argsort([len(row) for row in rows], kind="stable")
    means = np.empty((len(rows), model.config.hidden_size), np.float32)
    starts = range(0, len(order), batch_size)
    for start in tqdm(starts, "sentence encoder", leave=False, disable=not progress):
        some = order[start : start + batch_size]
        means[some] = _mean_states(model, [rows[row] for row in some]).cpu().numpy()
    return means


def check_encoder(encoder: str | None) -> None:
    """Refuse an encoder that cannot be had, before anything is trained; reads its config alone.

    Raises:
        ValueError: It is neither None nor a model.
    """
    if encoder is None:
        return
    try:
        AutoConfig.from_pretrained(encoder, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise _no_encoder(encoder, error) from error


def _no_encoder(encoder: str, error: Exception) -> ValueError:
    return ValueError(
        f"`sentence_encoder` (={encoder!r}) is neither a folder with a Hugging Face encoder, "
        f"nor a hub id that can be reached from here: {error}"
    )


def _mean_states(model: Any, rows: Sequence[Sequence[int]]) -> Tensor:  # noqa: ANN401 - AutoModel
    """Encode rows of token ids; padding is masked, so its id does not matter."""
    tokens = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.int64)
    mask = torch.zeros_like(tokens)
    for place, row in enumerate(rows):
        tokens[place, : len(row)] = torch.tensor(row)
        mask[place, : len(row)] = 1
    mask = mask.to(model.device)
    with torch.no_grad():
        states = model(
            input_ids=tokens.to(model.device), attention_mask=mask
        ).last_hidden_state.float()
    total: Tensor = (states * mask[..., None]).sum(dim=1)
    return total / mask.sum(dim=1, keepdim=True)


def _check_lengths(
    rows: Sequence[Sequence[int]],
    titles: Sequence[str],
    config: Any,  # noqa: ANN401 - of any model
    encoder: str,
) -> None:
    limit = getattr(config, "max_position_embeddings", None)
    longest = max(range(len(rows)), key=lambda row: len(rows[row]))
    if limit is not None and len(rows[longest]) > limit:
        raise ValueError(
            f"`sentence_encoder` (={encoder!r}) reads {limit} tokens, and the title "
            f"{titles[longest]!r} has {len(rows[longest])}; use an encoder that reads more."
        )
    if not all(rows):
        raise ValueError(
            f"`sentence_encoder` (={encoder!r}) makes no token of the title "
            f"{titles[[len(row) for row in rows].index(0)]!r}; use another encoder."
        )
