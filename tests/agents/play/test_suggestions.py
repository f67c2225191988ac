"""`complete`, `pick`, `follow`: against the titles themselves, one by one."""

from itertools import chain

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from agents.play.suggestions import Completion, complete, follow, pick

EOS = 0
TITLES = ("Star Quest", "Star Quest II", "Star Farm", "star trek", "Starship", "Moon", "The  Gap")


class Catalogue:
    """Titles as words, and the slow answer to what may follow."""

    def __init__(self, titles):
        """Number the words."""
        self.titles = titles
        self.words = ["<eos>", *dict.fromkeys(w for title in titles for w in title.split(" "))]
        number = {word: i for i, word in enumerate(self.words) if i}
        self.rows = [(*(number[word] for word in title.split(" ")), EOS) for title in titles]

    def legal(self, path):
        """Look at every title."""
        begun = [row for row in self.rows if row[: len(path)] == path]
        following = [row[len(path)] for row in begun]
        return [(token, following.count(token)) for token in sorted(set(following))]

    def complete(self, typed):
        """Complete over this catalogue."""
        return complete(typed, self.words, self.legal)

    def follow(self, start):
        """Follow over this catalogue."""
        return follow(start, self.words, self.legal)


SHOP = Catalogue(TITLES)
words = st.sampled_from(["a", "A", "b", "ab", "aB", "", "ß", "SS", "2"])
titles = st.lists(words, min_size=1, max_size=4).map(" ".join).filter(str.strip)
catalogues = st.lists(titles, min_size=1, max_size=8, unique=True).map(Catalogue)
typing = st.lists(words | st.sampled_from(["s", "c"]), max_size=3).map(" ".join)


def plain(text):
    """In small letters, without repeated spaces."""
    return " ".join(word for word in text.casefold().split(" ") if word)


def starts(title, typed):
    """Whether a title begins with what was typed."""
    wanted = plain(typed)
    if wanted and typed.endswith(" "):
        wanted += " "
    return plain(title).startswith(wanted)


@given(catalogues, typing)
def test_completions_share_out_the_titles_that_begin_so(shop, typed):
    """Each title that begins with the text stands below exactly one completion, and no other."""
    found = shop.complete(typed)
    below = [
        [
            t
            for t, row in zip(shop.titles, shop.rows, strict=True)
            if row[: len(c.tokens)] == c.tokens
        ]
        for c in found
    ]
    assert [c.num_titles for c in found] == [len(titles) for titles in below]
    assert sorted(chain(*below)) == sorted(t for t in shop.titles if starts(t, typed))


@given(catalogues, typing)
def test_a_completion_goes_one_word_further_at_most(shop, typed):
    """It has as many words as were typed (one, if none), or is the end of a title."""
    for one in shop.complete(typed):
        assert starts(one.text, typed) or one.ends
        num_typed = len(plain(typed).split()) + (typed.endswith(" ") and bool(plain(typed)))
        assert len(one.text.split()) == (0 if one.ends else max(num_typed, 1))


@given(catalogues, typing)
def test_the_end_comes_first_and_then_most_titles(shop, typed):
    """The order of the list that a person sees."""
    found = shop.complete(typed)
    assert found == sorted(found, key=lambda c: (not c.ends, -c.num_titles))


@given(catalogues, typing)
def test_following_stops_where_there_is_a_choice(shop, typed):
    """Nothing is decided for the person, and nothing is asked that is decided."""
    for one in shop.complete(typed):
        whole = shop.follow(one)
        assert whole.tokens[: len(one.tokens)] == one.tokens
        assert whole.num_titles == one.num_titles
        assert whole.ends or len(shop.legal(whole.tokens)) > 1


@given(catalogues, st.data())
def test_the_only_title_that_begins_so_is_written_whole(shop, data):
    """From a beginning of it in capital letters, however long."""
    title = data.draw(st.sampled_from(shop.titles))
    text = " ".join(title.split())
    typed = text[: data.draw(st.integers(1, len(text)))].strip().upper()
    assume([starts(other, typed) for other in shop.titles].count(True) == 1)
    chosen = pick(typed, shop.complete(typed))
    row = shop.rows[shop.titles.index(title)]
    assert shop.follow(chosen) == Completion(row, title, 1)


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("", ["Star", "star", "Starship", "Moon", "The"]),
        ("m", ["Moon"]),
        ("STAR", ["Star", "star", "Starship"]),
        ("star ", ["Star Quest", "Star Farm", "star trek"]),
        ("star q", ["Star Quest"]),
        ("Star Quest ", ["Star Quest II"]),
        ("the gap", ["The  Gap"]),
        ("the   g", ["The  Gap"]),
        ("quest", []),
        ("star x", []),
    ],
)
def test_examples(typed, expected):
    """Any number of words, either case, any spaces."""
    assert [one.text for one in SHOP.complete(typed)] == expected


def test_the_end_is_offered_where_nothing_is_typed():
    """After a whole title that others continue, the end is one of the ways to go on."""

    def after_quest(path):
        return SHOP.legal((*SHOP.rows[0][:2], *path))

    found = complete("", SHOP.words, after_quest)
    assert found == [Completion((EOS,), "", 1), Completion((SHOP.rows[1][2],), "II", 1)]
    assert pick("", found) == found[0]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("moo", "Moon"),
        ("starsh", "Starship"),
        ("starship", "Starship"),
        ("star", None),  # Star or star
        ("Star", None),
        ("star q", "Star Quest"),
        ("star quest", "Star Quest"),
        ("", None),
        ("x", None),
    ],
)
def test_what_is_meant(typed, meant):
    """The only completion, or the only one whose word was typed in full."""
    chosen = pick(typed, SHOP.complete(typed))
    assert (chosen and chosen.text) == meant


def test_a_word_in_full_is_meant_even_if_another_begins_so():
    """Star is not Starship; a letter more is all that it takes."""
    shop = Catalogue(("Star Farm", "Starship"))
    assert pick("STAR", shop.complete("STAR")).text == "Star"
    assert pick("sta", shop.complete("sta")) is None
