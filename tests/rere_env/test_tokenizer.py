"""Words to ids and back; Hugging Face tokenizers behind the same protocol."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rere_env import HFTokenizer, WordTokenizer


@given(st.lists(st.text(min_size=1), min_size=1, max_size=5))
def test_every_title_round_trips(titles):
    """Single spaces separate words, so double spaces, tabs and any script survive."""
    tokenizer = WordTokenizer.from_titles(titles)
    for title, ids in zip(titles, tokenizer.encode_completions(titles), strict=True):
        assert tokenizer.decode_completion(ids) == title
        assert ids[-1] == tokenizer.eos_id == 0
        assert 0 not in ids[:-1]


def test_words_are_numbered_by_first_appearance():
    """Id 0 is EOS; the order of the titles decides the rest."""
    tokenizer = WordTokenizer.from_titles(["b a", "a c"])
    assert tokenizer.words == ("<eos>", "b", "a", "c")
    assert tokenizer.encode("c b") == [3, 1]
    assert tokenizer.vocab_size == 4


def test_the_word_eos_is_an_ordinary_word():
    """A title may hold the text that we print for EOS."""
    tokenizer = WordTokenizer.from_titles(["<eos> x"])
    assert 0 not in tokenizer.encode("<eos> x")
    assert tokenizer.decode_completion(tokenizer.encode("<eos> x")) == "<eos> x"


def test_an_unknown_word_is_an_error():
    """The word and the remedy are named."""
    with pytest.raises(ValueError, match="'cat' of 'a cat' is not in the vocabulary of 1 words"):
        WordTokenizer(["a"]).encode("a cat")


@pytest.fixture(scope="module")
def bpe():
    """A byte-level BPE of our own, behind transformers."""
    tokenizers = pytest.importorskip("tokenizers")
    transformers = pytest.importorskip("transformers")
    raw = tokenizers.ByteLevelBPETokenizer()
    raw.train_from_iterator(["Star Quest", "Moon Racer", '"'], vocab_size=300, show_progress=False)
    raw.add_special_tokens(["<eos>"])
    return transformers.PreTrainedTokenizerFast(tokenizer_object=raw._tokenizer, eos_token="<eos>")


@pytest.mark.parametrize("template", ["{title}", '"{title}"\n'])
def test_a_hugging_face_tokenizer_wraps_titles_in_its_template(bpe, template):
    """The completion is the filled template and EOS; decoding takes the title out again."""
    tokenizer = HFTokenizer(bpe, completion_template=template)
    titles = ["Star Quest", 'Moon  "Racer"', "日本\tStar"]
    for title, ids in zip(titles, tokenizer.encode_completions(titles), strict=True):
        assert ids[-1] == tokenizer.eos_id
        assert ids[:-1] == tokenizer.encode(template.replace("{title}", title))
        assert tokenizer.decode_completion(ids) == title
    assert tokenizer.encode_completions([]) == []
    assert tokenizer.prompt_prefix == []


def test_bad_templates_and_tokenizers_are_errors(bpe):
    """A template needs its title once, a tokenizer its EOS."""
    with pytest.raises(ValueError, match=r"must hold '\{title\}' once"):
        HFTokenizer(bpe, completion_template="title")
    mute = type("Mute", (), {"eos_token_id": None, "name_or_path": "mute"})()
    with pytest.raises(ValueError, match="'mute' has no EOS token"):
        HFTokenizer(mute)


@pytest.mark.parametrize("title", ["<eos>", "red <eos> fox", "red<eos>fox"])
def test_text_of_a_special_token_in_a_title_is_refused(bpe, title):
    """It would be read as the token: the row, the text and the remedy are named."""
    tokenizer = HFTokenizer(bpe)
    with pytest.raises(ValueError, match=rf"title 1, '{title}', must not hold '<eos>'.*rename"):
        tokenizer.encode_completions(["Star", title])
    assert tokenizer.encode_completions(["<eo>s", "eos", "<EOS>"])
