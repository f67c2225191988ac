"""Where a policy comes from, and that it comes back from disk the same."""

import json
import re

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from agents.files import replace_folder
from agents.language_model import LanguageModel
from agents.lm_recommender import LMRecommender
from agents.policy import Policy, backbones, load_backbone, train_tokenizer
from agents.scoring import title_logprobs
from rere_env.prompts import PAPER_TEMPLATE, Prompts
from rere_env.tokenizer import HFTokenizer

TITLES = ("Star Quest", "Star Quest II", "Moon  Racer: deluxe", 'Rod, 3" long', "Ääkköset ☂")


def state_of(backbone):
    """All weights in one vector."""
    return torch.cat([p.detach().flatten() for p in backbone.model.parameters()])


def test_scratch_weights_are_a_function_of_the_seed():
    """Whatever the global generator was doing, which is left as it was."""
    torch.manual_seed(1)
    first = load_backbone("scratch:nano", TITLES, seed=3)
    after = torch.rand(1)
    torch.manual_seed(1)
    assert torch.rand(1) == after
    torch.manual_seed(2)
    again = load_backbone("scratch:nano", TITLES, seed=3)
    other = load_backbone("scratch:nano", TITLES, seed=4)
    assert torch.equal(state_of(first), state_of(again))
    assert not torch.equal(state_of(first), state_of(other))


def test_few_words_are_tokens_and_many_are_spelt(monkeypatch):
    """One token a word up to `MAX_WORDS` words, byte-level BPE beyond."""
    words = train_tokenizer(TITLES, 300)
    assert len(words.encode("Star Quest II")) == 3
    monkeypatch.setattr(backbones, "MAX_WORDS", 5)
    spelt = train_tokenizer(TITLES, 300)
    assert spelt.decode(spelt.encode("Unseen ☂ title")) == "Unseen ☂ title"
    assert len(spelt) <= 300


@pytest.mark.parametrize("max_words", [5, 4_000])
def test_a_saved_policy_comes_back_the_same(max_words, dataset_of, tmp_path, monkeypatch):
    """`from_pretrained` and `load_backbone` give the same tokens and log-probabilities."""
    monkeypatch.setattr(backbones, "MAX_WORDS", max_words)
    dataset = dataset_of(TITLES, [((0, 1), 2), ((4,), 3)])
    made = load_backbone("scratch:nano", TITLES)
    made.save(tmp_path / "model")
    loaded = load_backbone(str(tmp_path / "model"), TITLES)
    assert loaded.prompt == "compact"
    results = []
    for backbone in (made, loaded):
        task = backbone.task(dataset)
        prompts = [task.prompt((0, 1)), task.prompt((4,))]
        lm = LanguageModel(backbone.model.eval())
        with torch.no_grad():
            logprobs = title_logprobs(
                Policy.of(lm, task), Prompts(prompts), np.array([[0, 1, 2], [3, 4, 0]])
            )
        results.append((prompts, task.title_tokens.tokens.tolist(), logprobs))
    assert results[0][:2] == results[1][:2]
    assert torch.equal(results[0][2], results[1][2])

    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tmp_path / "model")
    prompt = torch.tensor([results[0][0][0]])
    with torch.no_grad():
        assert torch.equal(plain(prompt).logits, made.model(prompt).logits)
    for title in TITLES:
        assert tokenizer.encode(title) == made.tokenizer.encode(title)
    assert list((tmp_path / "model").glob("*.safetensors"))


@pytest.mark.xfail(reason="transformers 5.23 turns the tokenizer of any Qwen2 folder into Qwen's")
def test_a_saved_tokenizer_is_read_by_auto_tokenizer(tmp_path):
    """Whoever loads the folder without this library gets the same tokens."""
    made = load_backbone("scratch:nano", TITLES)
    made.save(tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert [tokenizer.encode(t) for t in TITLES] == [made.tokenizer.encode(t) for t in TITLES]


def test_an_environment_reads_a_saved_tokenizer(tmp_path):
    """`tokenizer=FOLDER` writes titles in the tokens the policy was trained on."""
    made = load_backbone("scratch:nano", TITLES)
    made.save(tmp_path / "model")
    read = HFTokenizer.from_pretrained(tmp_path / "model")
    assert read.encode_completions(TITLES) == made.tokenizer.encode_completions(TITLES)


def test_a_title_with_a_reserved_word_is_refused():
    """It would end in the middle."""
    with pytest.raises(ValueError, match=r"title 1, 'Star <eos> Quest', must not hold '<eos>'"):
        load_backbone("scratch:nano", ["Star", "Star <eos> Quest"])


def test_an_unknown_size_is_refused():
    """The message lists the sizes there are."""
    with pytest.raises(ValueError, match=r"'scratch:huge'.*'scratch:nano', 'scratch:tiny'"):
        load_backbone("scratch:huge", TITLES)


@pytest.mark.parametrize("name", ["nobody/has-this-model", "no_such_folder/at/all"])
def test_an_unreachable_model_is_refused(name):
    """The message says what was asked for and what would do (the tests are offline)."""
    with pytest.raises(ValueError, match=f"`model` \\(='{name}'\\) is neither 'scratch:<size>'"):
        load_backbone(name, TITLES)


def test_a_folder_without_a_model_is_refused(tmp_path):
    """An empty folder is no model."""
    with pytest.raises(ValueError, match="nor a folder with a Hugging Face causal LM"):
        load_backbone(str(tmp_path), TITLES)


@pytest.fixture
def pretrained_folder(tmp_path):
    """A tiny Llama with a byte-level BPE and a BOS token, as a hub model would lie on disk."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([PAPER_TEMPLATE.text, *TITLES], trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )
    config = LlamaConfig(
        vocab_size=len(fast),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        initializer_range=0.2,
        bos_token_id=fast.bos_token_id,
        eos_token_id=fast.eos_token_id,
        pad_token_id=fast.pad_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path / "llama")
    fast.save_pretrained(tmp_path / "llama")
    return tmp_path / "llama"


def test_a_pretrained_model_gets_the_instruction_prompt(pretrained_folder, dataset_of):
    """Without `rere.json` a folder is a general model: it reads words and writes quoted titles."""
    backbone = load_backbone(str(pretrained_folder), TITLES)
    assert backbone.prompt == "instruction"
    task = backbone.task(dataset_of(TITLES, [((0, 3), 2)]))
    text = backbone.tokenizer.tokenizer.decode(task.prompt((0, 3)))
    assert '"Star Quest", "Rod, 3" long"' in text
    assert text.endswith("### Response:\n")
    written = backbone.tokenizer.tokenizer.decode(
        task.title_tokens.to_model_ids(task.title_tokens[2])
    )
    assert written == '"Moon  Racer: deluxe"\n</s>'


def test_a_pretrained_model_recommends(pretrained_folder, dataset_of, tmp_path):
    """Every title once, with probabilities that sum to 1; the same after saving again."""
    backbone = load_backbone(str(pretrained_folder), TITLES)
    dataset = dataset_of(TITLES, [((0, 3), 2), ((1,), 4)])
    task = backbone.task(dataset)
    batch = task.split("test")
    found = LMRecommender(task, LanguageModel(backbone.model), beam=8).search(batch, 8)
    for titles, logprobs in zip(found.titles, found.logprobs, strict=True):
        assert sorted(titles.tolist()) == [-1, -1, -1, 0, 1, 2, 3, 4]
        assert np.exp(logprobs[:5]).sum() == pytest.approx(1, abs=1e-4)

    backbone.save(tmp_path / "again")
    form = json.loads((tmp_path / "again" / "rere.json").read_text(encoding="utf-8"))
    assert form == {"prompt": "instruction", "completion_template": '"{title}"\n'}
    again = load_backbone(str(tmp_path / "again"), TITLES)
    repeated = LMRecommender(again.task(dataset), LanguageModel(again.model), beam=8)
    assert (repeated.recommend(batch, 5) == found.titles[:, :5]).all()


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", bytes(64)])
def test_a_damaged_folder_is_one_line_with_its_name(name, content, tmp_path):
    """Whatever Hugging Face, tokenizers or safetensors make of it."""
    load_backbone("scratch:nano", TITLES).save(tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(str(tmp_path))):
        load_backbone(str(tmp_path), TITLES)


@pytest.mark.parametrize(
    "change",
    [
        {"vocab_size": "many"},
        {"num_attention_heads": 0},
        {"hidden_size": 47},
        {"model_type": "nosuch"},
    ],
)
def test_a_shape_that_cannot_be_is_one_line(change, tmp_path):
    """A config that its own weights contradict."""
    load_backbone("scratch:nano", TITLES).save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    (tmp_path / "config.json").write_text(json.dumps(config | change), encoding="utf-8")
    with pytest.raises(ValueError, match=re.escape(str(tmp_path))):
        load_backbone(str(tmp_path), TITLES)


@pytest.mark.parametrize(
    "form",
    [
        "[]",
        "1",
        "null",
        "{",
        "{}",
        '{"prompt": "compact"}',
        '{"prompt": "nosuch", "completion_template": "{title}"}',
        '{"prompt": "compact", "completion_template": null}',
        '{"prompt": "compact", "completion_template": "title"}',
    ],
)
def test_a_damaged_form_is_named(form, tmp_path):
    """With file, key and what to do."""
    load_backbone("scratch:nano", TITLES).save(tmp_path)
    (tmp_path / "rere.json").write_text(form, encoding="utf-8")
    with pytest.raises(ValueError, match=r"rere\.json.*; put back the file"):
        load_backbone(str(tmp_path), TITLES)


def test_a_folder_with_a_manifest_is_verified(tmp_path):
    """Whoever changed it himself deletes the manifest."""
    with replace_folder(tmp_path / "policy") as folder:
        load_backbone("scratch:nano", TITLES).save(folder)
    load_backbone(str(tmp_path / "policy"), TITLES)
    (tmp_path / "policy" / "rere.json").unlink()
    with pytest.raises(
        ValueError, match=r"rere\.json is missing; copy the folder again, or delete"
    ):
        load_backbone(str(tmp_path / "policy"), TITLES)
