"""Items, titles and their tokens."""

import copy

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rere_env import NO_ITEM, Catalogue, WordTokenizer


def catalogue(*titles: str, **options: str) -> Catalogue:
    """Items k0, k1, ... with these titles."""
    return Catalogue.from_items([f"k{i}" for i in range(len(titles))], titles, **options)


def test_items_with_one_title_share_a_title_id():
    """Title ids follow first appearance; which items a title stands for stays known."""
    shop = catalogue("B", "A", "B", "C")
    assert shop.titles == ("B", "A", "C")
    assert shop.item_title.tolist() == [0, 1, 0, 2]
    assert shop.items_of(0).tolist() == [0, 2]
    assert (shop.num_items, shop.num_titles, shop.num_merged) == (4, 3, 1)


def test_suffix_gives_every_item_a_title_of_its_own():
    """Later duplicates get a number that no other title has."""
    shop = catalogue("A", "A", "A (2)", "A", duplicates="suffix")
    assert shop.titles == ("A", "A (3)", "A (2)", "A (4)")
    assert shop.num_merged == 0


@given(st.lists(st.sampled_from(["A", "A (2)", "A (3)", "B", "A (2) (2)"]), min_size=1))
def test_suffixed_titles_are_distinct(titles):
    """Whatever the titles look like, no two items share one, and firsts keep theirs."""
    shop = catalogue(*titles, duplicates="suffix")
    assert shop.num_titles == len(titles)
    assert set(titles) <= set(shop.titles)


def test_keys_and_titles_are_found():
    """Lookups go both ways; misses say what to do."""
    shop = catalogue("Star Quest", "Pinball")
    assert shop.item_id("k1") == 1
    assert shop.title_id("Pinball") == 1
    with pytest.raises(KeyError, match="'k9' is not in the catalogue of 2 items"):
        shop.item_id("k9")
    with pytest.raises(KeyError, match="did you mean \\['Star Quest'\\]"):
        shop.title_id("Star Qest")


@pytest.mark.parametrize(
    ("keys", "titles", "options", "message"),
    [
        ([], [], {}, "at least one item"),
        (["a"], ["A", "B"], {}, "1 item ids but 2 titles"),
        (["a", "b"], ["A", " "], {}, "row 1 .item_id 'b'., column title: the title is empty"),
        (["a", "a"], ["A", "B"], {}, "row 1, column item_id: 'a' was already used in row 0"),
        (["a", "b"], ["A", "A"], {"duplicates": "error"}, "row 1, column title: 'A' occurs before"),
        (["a"], ["A"], {"duplicates": "drop"}, "'merge', 'suffix' or 'error'"),
    ],
)
def test_bad_columns_are_errors(keys, titles, options, message):
    """Row, column, value and remedy are named."""
    with pytest.raises(ValueError, match=message):
        Catalogue.from_items(keys, titles, **options)


def test_local_ids_are_dense_with_eos_first():
    """0 is EOS, the others ascend by model id."""
    tokenizer = WordTokenizer(["unused", "z", "y"])
    tokens = catalogue("y z", "z").tokenize(tokenizer)
    assert tokens.local_model.tolist() == [0, 2, 3]
    assert tokens[0].tolist() == [2, 1, 0]
    assert tokens[1].tolist() == [1, 0]
    assert tokens.from_model_ids(np.array([3, 1, 0, 99, -5])).tolist() == [2, -1, 0, -1, -1]
    assert tokens.to_model_ids(np.array([2, 1, 0])).tolist() == [3, 2, 0]
    assert tokens.num_lossy == 0


class Lower(WordTokenizer):
    """A tokenizer that loses case."""

    def encode(self, text: str) -> list[int]:
        """Encode in lower case."""
        return super().encode(text.lower())


def test_lossy_titles_are_counted():
    """A title that does not decode to itself is counted, not refused."""
    assert catalogue("Star", "moon").tokenize(Lower(["star", "moon"])).num_lossy == 1


def test_titles_that_a_tokenizer_cannot_tell_apart_are_an_error():
    """Both titles are named."""
    with pytest.raises(ValueError, match="cannot tell 'Star' and 'star' apart"):
        catalogue("Star", "star").tokenize(Lower(["star"]))


class Mute(WordTokenizer):
    """A tokenizer that has no tokens for anything."""

    def encode(self, text: str) -> list[int]:
        """Encode nothing."""
        return []


def test_a_title_without_tokens_is_an_error():
    """The title is named."""
    with pytest.raises(ValueError, match="gives the title 'Star' no tokens"):
        catalogue("Star").tokenize(Mute([]))


def test_a_catalogue_is_its_own_deep_copy():
    """Gymnasium deep-copies specs often; the catalogue is immutable."""
    shop = catalogue("A")
    assert copy.deepcopy({"catalogue": shop})["catalogue"] is shop


def test_the_hash_sees_keys_titles_and_their_order():
    """Two catalogues have one hash only if they hold the same items in the same order."""
    hashes = {
        catalogue("A", "B").content_hash(),
        catalogue("B", "A").content_hash(),
        Catalogue.from_items(["x", "y"], ["A", "B"]).content_hash(),
    }
    assert len(hashes) == 3
    assert catalogue("A", "B").content_hash() in hashes


def test_history_titles_are_title_ids_plus_one():
    """Two items with one title are shown as one, and 0 is no item."""
    shop = catalogue("A", "B", "A")
    history = np.array([[0, 1, 2], [1, NO_ITEM, NO_ITEM]], np.int32)
    shown = shop.history_titles(history)
    assert shown.tolist() == [[1, 2, 1], [2, 0, 0]]
    assert shown.dtype == np.int32


def test_a_title_as_model_ids_ends_with_the_tokenizers_eos():
    """Local ids 1, 2, ... are model ids again."""
    tokens = catalogue("y z", "z").tokenize(WordTokenizer(["unused", "z", "y"]))
    assert [tokens.model_ids(title).tolist() for title in (0, 1)] == [[3, 2, 0], [2, 0]]
