"""Vectors of titles, against one plain forward pass a title."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from agents.policy import load_backbone, train_tokenizer
from agents.rewards.embeddings import sentence_embeddings, token_embeddings

TITLES = ["red fox", "red", "blue sky at night", "fox"]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> Path:
    """A folder with a tiny random BERT that reads at most four tokens."""
    folder = tmp_path_factory.mktemp("encoder")
    tokenizer = train_tokenizer(TITLES, 100)
    tokenizer.save_pretrained(folder)
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=len(tokenizer), intermediate_size=24, max_position_embeddings=4, **shape
        )
        BertModel(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_sentences_are_means_of_last_states(encoder, batch_size):
    """Padding and batches change nothing."""
    found = sentence_embeddings(str(encoder), TITLES, batch_size=batch_size, progress=False)
    model = BertModel.from_pretrained(encoder).eval()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(encoder)
    for title, vector in zip(TITLES, found, strict=True):
        ids = torch.tensor([tokenizer(title)["input_ids"]])
        with torch.no_grad():
            expected = model(input_ids=ids).last_hidden_state[0].mean(dim=0)
        np.testing.assert_allclose(vector, expected.numpy(), atol=1e-5)


def test_tokens_are_means_of_input_embeddings():
    """Two words are the mean of two rows of the policy's table; no EOS among them."""
    backbone = load_backbone("scratch:nano", TITLES)
    found = token_embeddings(backbone.model, backbone.tokenizer, TITLES)
    table = backbone.model.get_input_embeddings().weight.detach().numpy()
    red, fox = backbone.tokenizer.encode("red fox")
    np.testing.assert_allclose(found[0], (table[red] + table[fox]) / 2, atol=1e-6)
    np.testing.assert_allclose(found[1], table[red], atol=1e-6)


def test_titles_are_never_cut(encoder):
    """A title longer than the encoder reads is an error that names it."""
    with pytest.raises(ValueError, match="reads 4 tokens, and the title 'red red red fox fox'"):
        sentence_embeddings(str(encoder), ["red", "red red red fox fox"], progress=False)


def test_an_unknown_encoder_is_named(tmp_path):
    """Neither a folder nor reachable: the error says which encoder."""
    with pytest.raises(ValueError, match=r"`sentence_encoder` \(='.*nowhere'\) is neither"):
        sentence_embeddings(str(tmp_path / "nowhere"), TITLES, progress=False)
