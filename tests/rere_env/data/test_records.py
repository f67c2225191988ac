"""Bad values: each is named by file, line, column and what to do about it."""

import numpy as np
import pytest

from rere_env.catalogue import Catalogue
from rere_env.data.records import (
    read_interactions,
    read_items,
    read_split,
    write_items,
    write_split,
)
from rere_env.data.splits import NO_TIME

SHOP = Catalogue.from_items(["a", "b", "c"], ["Axe", "Bow", "Axe"])


@pytest.fixture
def write(tmp_path):
    """A function that writes a CSV file of the given lines."""

    def write_lines(*lines):
        path = tmp_path / "file.csv"
        path.write_text("\n".join(lines) + "\n", "utf-8")
        return path

    return write_lines


def test_items_keep_their_order_and_titles(write):
    """The file's order is the order of ids; other columns are ignored."""
    items = read_items(write("title,x,item_id", "Axe,1,a", " Bow ,2,b", "Axe,3,c"))
    assert items.item_keys == ("a", "b", "c")
    assert items.titles == ("Axe", " Bow ")
    assert items.item_title.tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "file.csv: a catalogue needs at least one item; got none"),
        (["a,Axe", 'b," "'], "line 3, column title: the title of item 'b' is empty .* give it a"),
        (["a,Axe", ",Bow"], "line 3, column item_id: the value is empty; give the item an id"),
        (
            ["a,Axe", "b,Bow", "a,Rod"],
            r"line 4, column item_id: 'a' was used before \(.*line 2\); item ids must be distinct",
        ),
    ],
)
def test_bad_items(write, lines, message):
    """No item, no title, no id, one id twice."""
    with pytest.raises(ValueError, match=message):
        read_items(write("item_id,title", *lines))


def test_equal_titles_are_refused_on_request(write):
    """`duplicates="error"` names both places."""
    path = write("item_id,title", "a,Axe", "b,Bow", "c,Axe")
    with pytest.raises(ValueError, match=r"line 4, column title: 'Axe' was used before .*line 2"):
        read_items(path, duplicates="error")


def test_an_unknown_policy_for_duplicates_is_refused(write):
    """The message lists the policies."""
    with pytest.raises(ValueError, match=r"`duplicates` \(='drop'\) must be 'merge', 'suffix' or"):
        read_items(write("item_id,title", "a,Axe"), duplicates="drop")


def test_a_published_split_is_read_as_it_stands(write):
    """Histories may be empty and timestamps too; users are numbered as they appear."""
    users = {"u2": 0}
    samples = read_split(
        write("user_id,history,item_id,timestamp", "u1,,a,", "u2,a b,c,-5", "u1,c,c,7"),
        SHOP,
        users,
        history_length=2,
    )
    assert users == {"u2": 0, "u1": 1}
    assert samples.user.tolist() == [1, 0, 1]
    assert samples.history.tolist() == [[-1, -1], [0, 1], [2, -1]]
    assert samples.target.tolist() == [0, 2, 2]
    assert samples.timestamp.tolist() == [NO_TIME, -5, 7]
    assert samples.history.dtype == samples.target.dtype == np.int32


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("u,a z,b,1", "line 3, column history: item id 'z' is not among the 3 items of the cat"),
        ("u,a,z,1", "line 3, column item_id: item id 'z' is not .* add it to the items file or"),
        ("u,a,,1", "line 3, column item_id: item id '' is not among the 3 items"),
        ("u,a,b,1.5", "line 3, column timestamp: '1.5' is not an integer; write whole numbers"),
        ("u,a,b,2014-01-01", "line 3, column timestamp: '2014-01-01' is not an integer"),
        ("u,a,b,9223372036854775808", "line 3, column timestamp: '9223372036854775808' is not"),
        (",a,b,1", "line 3, column user_id: the value is empty; every row needs its user"),
        ("u,a b,1", r"line 3: the row has 3 fields, the header 4 \(user_id, history, item_id, ti"),
    ],
)
def test_bad_rows_of_a_split(write, line, message):
    """Unknown items, bad times, no user, a missing field."""
    path = write("user_id,history,item_id,timestamp", "u,a,b,1", line)
    with pytest.raises(ValueError, match=message):
        read_split(path, SHOP, {}, history_length=2)


def test_a_history_that_is_too_long_is_never_cut_in_silence(write):
    """The remedy names the length that the whole file needs."""
    path = write("user_id,history,item_id,timestamp", "u,a b,c,1", "u,a b c,a,2", "u,a b c a,a,3")
    with pytest.raises(
        ValueError, match=r"line 3, column history: .* 3 items.*\(=2\); pass history_length=4"
    ):
        read_split(path, SHOP, {}, history_length=2)


def test_interactions_are_columns_of_numbers(write):
    """In the order of the file."""
    users = {}
    log = read_interactions(
        write("item_id,user_id,rating,timestamp", "b,u,5,20", "a,v,1,10", "b,u,3,20"),
        SHOP,
        users,
        need_timestamp=True,
    )
    assert (log.user.tolist(), log.item.tolist()) == ([0, 1, 0], [1, 0, 1])
    assert log.timestamp is not None
    assert log.timestamp.tolist() == [20, 10, 20]


def test_an_empty_timestamp_is_an_error_where_time_is_needed(write):
    """The remedy is the protocol that needs none."""
    path = write("user_id,item_id,timestamp", "u,a,1", "u,b,")
    with pytest.raises(ValueError, match=r"line 3, column timestamp: .*protocol='leave_one_out'"):
        read_interactions(path, SHOP, {}, need_timestamp=True)


def test_timestamps_may_be_missing_altogether(write):
    """Then the order of the file is the order of time."""
    path = write("user_id,item_id,timestamp", "u,a,", "u,b,")
    assert read_interactions(path, SHOP, {}, need_timestamp=False).timestamp is None


def test_timestamps_may_not_be_missing_here_and_there(write):
    """Where such a row belongs cannot be known."""
    path = write("user_id,item_id,timestamp", "u,a,1", "u,b,")
    with pytest.raises(ValueError, match=r"line 3, column timestamp: .* fill in all or none"):
        read_interactions(path, SHOP, {}, need_timestamp=False)


def test_an_unknown_item_in_the_interactions_is_an_error(write):
    """Nothing is dropped in silence."""
    path = write("user_id,item_id,timestamp", "u,a,1", "u,z,2")
    with pytest.raises(ValueError, match="line 3, column item_id: item id 'z' is not among"):
        read_interactions(path, SHOP, {}, need_timestamp=True)


def test_what_is_written_is_read_back(tmp_path, write):
    """Line breaks, quotes and commas in titles, empty histories and times survive."""
    shop = Catalogue.from_items(["a", "b"], ['Rod, 3" \r long\n', "Axe\u2028é "])
    write_items(tmp_path / "items.csv", shop)
    assert read_items(tmp_path / "items.csv").titles == shop.titles
    users = {}
    samples = read_split(
        write("user_id,history,item_id,timestamp", '"u,1",,a,', "v,a b,b,7"),
        shop,
        users,
        history_length=3,
    )
    write_split(tmp_path / "train.csv", samples, shop, list(users))
    again = read_split(tmp_path / "train.csv", shop, copy := {}, history_length=3)
    assert copy == users
    for column in ("user", "history", "target", "timestamp", "num_before"):
        np.testing.assert_array_equal(getattr(again, column), getattr(samples, column))
