"""Files to columns of text: formats, and what is said of a broken file."""

import gzip
import json
import sys

import pytest

from rere_env.data.tables import column_names, find_table, list_tables, read_table

ITEMS = [("a", 'Rod, 3" long'), ("b", "two\nlines"), ("c", "tab\there"), ("d", "é 東京 ")]
CSV = 'item_id,title,asin\na,"Rod, 3"" long",x\nb,"two\nlines",y\nc,tab\there,\nd,é 東京 ,z\n'


def write(path, text):
    """Write UTF-8 text, compressed if the name says so."""
    data = text.encode() if isinstance(text, str) else text
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize("name", ["items.csv", "items.csv.gz"])
@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["plain", "bom"])
def test_csv_keeps_quotes_commas_lines_and_tabs(tmp_path, name, mark):
    """Titles come back as they were written, with or without a byte order mark."""
    table = read_table(write(tmp_path / name, mark + CSV), ("item_id", "title"))
    assert list(zip(table.columns["item_id"], table.columns["title"], strict=True)) == ITEMS
    assert len(table) == 4


def test_csv_may_end_its_lines_as_windows_does(tmp_path):
    """A carriage return is no part of a value."""
    path = write(tmp_path / "items.csv", "item_id,title\r\na,Axe\r\n\r\nb,Bow\r\n")
    assert read_table(path, ("title",)).columns["title"] == ["Axe", "Bow"]


def test_jsonl_takes_strings_integers_and_null(tmp_path):
    """An id may be a number; null is empty."""
    path = write(
        tmp_path / "t.jsonl", '{"item_id": 7, "t": null, "x": [1]}\n\n{"item_id": "8", "t": "é"}\n'
    )
    assert read_table(path, ("item_id", "t")).columns == {"item_id": ["7", "8"], "t": ["", "é"]}


def test_parquet_takes_strings_integers_and_null(tmp_path):
    """An id may be a number; null is empty."""
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame(
        {"item_id": [7, 8], "t": ["é", None], "n": [None, None], "x": [1.5, 2]}
    )
    frame.write_parquet(tmp_path / "t.parquet")
    table = read_table(tmp_path / "t.parquet", ("item_id", "t", "n"))
    assert table.columns == {"item_id": ["7", "8"], "t": ["é", ""], "n": ["", ""]}
    assert column_names(tmp_path / "t.parquet") == ["item_id", "t", "n", "x"]


def test_parquet_of_another_type_is_refused(tmp_path):
    """A float id would be guessed at; the message says what to cast."""
    polars = pytest.importorskip("polars")
    polars.DataFrame({"item_id": [7.0]}).write_parquet(tmp_path / "t.parquet")
    with pytest.raises(ValueError, match=r"t\.parquet, column item_id: the type Float64 must be"):
        read_table(tmp_path / "t.parquet", ("item_id",))


def test_parquet_without_polars_names_the_extra(tmp_path, monkeypatch):
    """The core does not depend on polars."""
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(ImportError, match=r"pip install 'rere-env\[data\]'"):
        read_table(write(tmp_path / "t.parquet", "x"), ("item_id",))


def test_a_column_that_is_missing_is_named_beside_those_found(tmp_path):
    """The message shows the header as it was read."""
    path = write(tmp_path / "items.csv", "item_id;title\n1;Axe\n")
    with pytest.raises(ValueError, match=r"'item_id' is missing; found \['item_id;title'\], need"):
        read_table(path, ("item_id", "title"))


def test_a_column_that_occurs_twice_is_refused(tmp_path):
    """Which of the two was meant cannot be known."""
    path = write(tmp_path / "items.csv", "item_id,title,title\n1,Axe,Bow\n")
    with pytest.raises(ValueError, match="'title' is there more than once"):
        read_table(path, ("item_id", "title"))


def test_a_file_without_a_header_misses_its_columns(tmp_path):
    """An empty file has no column."""
    with pytest.raises(ValueError, match=r"'item_id' is missing; found \[\]"):
        read_table(write(tmp_path / "items.csv", ""), ("item_id",))


def test_a_row_with_too_many_fields_is_named_by_its_line(tmp_path):
    """The title before spans two lines and a line is blank: an editor shows the row in line 5."""
    path = write(tmp_path / "items.csv", 'item_id,title\n1,"two\nlines"\n\n2,Rod, long\n')
    with pytest.raises(ValueError, match=r"items\.csv, line 5: the row has 3 fields, the header 2"):
        read_table(path, ("item_id", "title"))


@pytest.mark.parametrize("title", ['"Axe', '"Axe" sharp'])
def test_a_stray_quote_is_an_error_where_its_row_starts(tmp_path, title):
    """An unclosed quote would swallow the rest of the file."""
    path = write(tmp_path / "items.csv", f"item_id,title\n1,Bow\n2,{title}\n3,Rod\n4,Saw\n")
    with pytest.raises(ValueError, match=r"items\.csv, line 3: the row that starts here is not"):
        read_table(path, ("item_id", "title"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{'item_id': 1}", "line 2: not valid JSON"),
        ("[1, 2]", r"line 2: \[1, 2\] is not an object"),
        ('{"title": "x"}', r"line 2: the column 'item_id' is missing; found \['title'\]"),
        ('{"item_id": 1.5}', "line 2, column item_id: 1.5 must be a string or an integer"),
        ('{"item_id": true}', "line 2, column item_id: True must be a string or an integer"),
    ],
)
def test_a_broken_line_of_jsonl_is_named(tmp_path, text, message):
    """Line and column, and what is wrong with it."""
    path = write(tmp_path / "t.jsonl", json.dumps({"item_id": "1"}) + "\n" + text + "\n")
    with pytest.raises(ValueError, match=message):
        read_table(path, ("item_id",))


def test_bytes_that_are_not_utf8_are_named_by_their_line(tmp_path):
    """Latin-1 files are a common mistake."""
    path = write(tmp_path / "items.csv", "item_id,title\n1,Café\n".encode("latin-1"))
    with pytest.raises(ValueError, match="line 2: the byte 0xe9 is not UTF-8; save the file as"):
        read_table(path, ("item_id",))


@pytest.mark.parametrize(
    "data",
    [b"item_id\n1\n", gzip.compress(b"item_id\n" * 99, mtime=0)[:-9]],
    ids=["plain", "cut short"],
)
def test_a_broken_gzip_is_an_error(tmp_path, data):
    """A plain file named .gz, or a download cut short."""
    (tmp_path / "items.csv.gz").write_bytes(data)
    with pytest.raises(ValueError, match=r"items\.csv\.gz cannot be decompressed"):
        read_table(tmp_path / "items.csv.gz", ("item_id",))


def test_a_broken_parquet_is_an_error(tmp_path):
    """The file is named."""
    pytest.importorskip("polars")
    with pytest.raises(ValueError, match=r"t\.parquet is not readable as Parquet"):
        read_table(write(tmp_path / "t.parquet", "PAR1 no"), ("item_id",))


def test_a_format_that_is_unknown_is_an_error(tmp_path):
    """The message lists the formats."""
    path = write(tmp_path / "items.xlsx", "")
    with pytest.raises(ValueError, match=r"in no readable format; convert it to \.csv, \.jsonl or"):
        read_table(path, ("item_id",))
    with pytest.raises(ValueError, match=r"items\.xlsx is in no readable format"):
        find_table(tmp_path, list_tables(tmp_path), "items")


def test_a_table_that_is_missing_is_named_beside_the_files_found(tmp_path):
    """The message says what was looked for and what is there."""
    write(tmp_path / "itens.csv", "")
    with pytest.raises(FileNotFoundError, match=r"no table 'items': .* folder holds itens\.csv"):
        find_table(tmp_path, list_tables(tmp_path), "items")


def test_one_table_in_two_files_is_refused(tmp_path):
    """Which of the two was meant cannot be known."""
    write(tmp_path / "items.csv", CSV)
    write(tmp_path / "items.csv.gz", CSV)
    with pytest.raises(ValueError, match=r"'items' twice: items\.csv and items\.csv\.gz; keep one"):
        list_tables(tmp_path)


def test_a_folder_that_is_missing_is_named(tmp_path):
    """The message says what such a folder holds."""
    with pytest.raises(FileNotFoundError, match=r"/nowhere does not exist; give a folder with"):
        list_tables(tmp_path / "nowhere")


def test_only_tables_are_listed(tmp_path):
    """Hidden files, folders and other formats are not tables."""
    for name in ("items.csv", "train.jsonl.gz", ".hidden.csv", "notes.txt"):
        write(tmp_path / name, "")
    (tmp_path / "folder.csv").mkdir()
    assert {name: path.name for name, path in list_tables(tmp_path).items()} == {
        "items": "items.csv",
        "train": "train.jsonl.gz",
    }


@pytest.mark.parametrize(
    ("name", "text", "columns"),
    [
        ("a.csv", CSV, ["item_id", "title", "asin"]),
        ("a.csv.gz", CSV, ["item_id", "title", "asin"]),
        ("a.jsonl", '\n{"x": 1, "y": 2}\nnot json', ["x", "y"]),
        ("a.jsonl", "not json", []),
        ("a.jsonl", "", []),
        ("a.csv", "", []),
        ("a.csv", b"\xff\xfe", []),
    ],
)
def test_column_names_are_read_from_the_top_of_a_file(tmp_path, name, text, columns):
    """What cannot be read has none."""
    assert column_names(write(tmp_path / name, text)) == columns


@pytest.mark.parametrize("name", ["t.jsonl", "t.jsonl.gz"])
@pytest.mark.parametrize(
    "value", ["[" * 100_000 + "]" * 100_000, "9" * 5_000], ids=["deep", "long_integer"]
)
def test_json_beyond_the_readers_limits_names_file_and_line(tmp_path, name, value):
    """Even in a column that nobody needs; a look at the columns says that it is no table."""
    path = write(tmp_path / name, f'{{"item_id": 1}}\n{{"item_id": 2, "x": {value}}}\n')
    with pytest.raises(ValueError, match=r"t\.jsonl.*, line 2: not valid JSON \(.*flat object"):
        read_table(path, ("item_id",))
    assert column_names(write(tmp_path / name, f'{{"x": {value}}}\n')) == []


def test_a_panic_of_polars_is_an_error_of_the_file(tmp_path, monkeypatch):
    """Some damage makes it panic, which is no Exception."""
    polars = pytest.importorskip("polars")
    polars.DataFrame({"item_id": [7]}).write_parquet(tmp_path / "t.parquet")

    def panic(*_, **__):
        raise polars.exceptions.PanicException("index out of bounds")

    monkeypatch.setattr(polars, "read_parquet", panic)
    with pytest.raises(ValueError, match=r"t\.parquet is not readable as Parquet \(index out"):
        read_table(tmp_path / "t.parquet", ("item_id",))
