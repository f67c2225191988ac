"""Files to columns of text: CSV, JSONL and Parquet, plain or .gz.

Knows where each row stands in its file, for messages. Knows nothing of items, users or time.
"""

import codecs
import csv
import io
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

from rere_env.data.compressed import open_bytes, read_bytes

__all__ = [
    "FORMATS",
    "Table",
    "column_names",
    "find_table",
    "list_tables",
    "read_table",
    "write_csv",
]

FORMATS = (".csv", ".jsonl", ".parquet")
"""Suffixes of the readable formats; each may be followed by `.gz`."""

_FIRST_BYTES = 2**20
"""What is looked at for the names of columns; a line may be as long as a file."""

_NOT_JSON = (ValueError, RecursionError)
"""What `json` raises: nesting that is too deep is found by Python's own limit."""

_FORMATS_TEXT = ".csv, .jsonl or .parquet (each plain or .gz)"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Table:
    """Some columns of one file, every value as text.

    Attributes:
        path: The file.
        columns: Column name -> the values of all rows; a null is the empty string.
    """

    path: Path
    columns: Mapping[str, Sequence[str]]

    def __len__(self) -> int:
        """Count the rows."""
        return len(next(iter(self.columns.values())))

    def place(self, row: int) -> str:
        """Say where a row starts: the line as an editor counts (Parquet has only rows)."""
        if _format(self.path) == ".parquet":
            return f"{self.path}, row {row + 1}"
        return f"{self.path}, line {_line(self.path, row)}"

    def error(self, row: int, column: str, message: str) -> ValueError:
        """Return an error that names file, line and column."""
        return ValueError(f"{self.place(row)}, column {column}: {message}")


def read_table(path: Path, required: Sequence[str]) -> Table:
    """Read the required columns of a file; other columns are ignored, so are blank lines.

    Raises:
        ValueError: The format is unknown or broken, a column is missing, a row is malformed.
        ImportError: The file is Parquet and polars is not installed.
    """
    readers = {".csv": _read_csv, ".jsonl": _read_jsonl, ".parquet": _read_parquet}
    return Table(path=path, columns=readers[_format(path)](path, required))


def column_names(path: Path) -> list[str]:
    """Return the column names of a file, reading no more of it than needed."""
    if _format(path) == ".parquet":
        return list(_parquet_frame(path, num_rows=0).columns)
    try:
        with open_bytes(path) as stream:
            text = codecs.getincrementaldecoder("utf-8-sig")().decode(stream.read(_FIRST_BYTES))
        lines = io.StringIO(text, newline="")
        if _format(path) == ".csv":
            return next(csv.reader(lines), [])
        record = json.loads(next((line for line in lines if line.strip()), "{}"))
        return list(record) if isinstance(record, dict) else []
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error, *_NOT_JSON):
        return []  # Not a table of ours; whoever needs it by name gets the error of `read_table`.


def list_tables(folder: Path) -> dict[str, Path]:
    """Map table names (`train` for `train.csv.gz`) to the readable files of a folder.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: Two files hold the same table.
    """
    if not folder.is_dir():
        raise FileNotFoundError(
            f"the data folder {folder} does not exist; give a folder with items.csv and either "
            "train.csv, valid.csv and test.csv or interactions.csv."
        )
    tables: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        plain = path.with_suffix("") if path.suffix == ".gz" else path
        if plain.suffix not in FORMATS or path.name.startswith(".") or not path.is_file():
            continue
        if plain.stem in tables:
            raise ValueError(
                f"{folder} holds the table {plain.stem!r} twice: {tables[plain.stem].name} and "
                f"{path.name}; keep one of them."
            )
        tables[plain.stem] = path
    return tables


def find_table(folder: Path, tables: Mapping[str, Path], name: str, *, instead: str = "") -> Path:
    """Return the file of a table among those that `list_tables` found.

    Args:
        folder: Where `tables` were found.
        tables: Table name -> file.
        name: The table to find.
        instead: What else would have done, for the message.

    Raises:
        FileNotFoundError: There is none; the message lists what the folder holds.
        ValueError: There is one, in a format that cannot be read.
    """
    if name in tables:
        return tables[name]
    for path in sorted(folder.glob(f"{name}.*")):
        raise ValueError(f"{path} is in no readable format; convert it to {_FORMATS_TEXT}.")
    held = ", ".join(path.name for path in sorted(folder.iterdir())) or "nothing"
    raise FileNotFoundError(
        f"{folder} has no table {name!r}{instead and f' (nor {instead})'}: add {name} as "
        f"{_FORMATS_TEXT}; the folder holds {held}."
    )


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write rows as CSV that every reader splits alike: all text is quoted."""
    with path.open("w", encoding="utf-8", newline="") as file:
        # A title may hold a line break of any kind; Python < 3.13 leaves some of them unquoted.
        writer = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
        writer.writerow(header)
        writer.writerows(rows)


def _format(path: Path) -> str:
    suffix = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    if suffix not in FORMATS:
        raise ValueError(f"{path} is in no readable format; convert it to {_FORMATS_TEXT}.")
    return suffix


def _text(path: Path) -> str:
    data = read_bytes(path)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{path}, line {line}: the byte {data[error.start]:#04x} is not UTF-8; "
            "save the file as UTF-8."
        ) from error


def _check_header(path: Path, found: Sequence[str], required: Sequence[str]) -> None:
    for name in required:
        if found.count(name) != 1:
            state = "missing" if name not in found else "there more than once"
            raise ValueError(
                f"{path}: the column {name!r} is {state}; "
                f"found {list(found)}, need {list(required)}."
            )


def _read_csv(path: Path, required: Sequence[str]) -> dict[str, list[str]]:
    # strict: an unclosed quote is an error, where csv would swallow the rest of the file.
    reader = csv.reader(io.StringIO(_text(path), newline=""), strict=True)
    try:
        header = next((row for row in reader if row), [])
        _check_header(path, header, required)
        rows = [row for row in reader if row]
    except csv.Error as error:
        raise ValueError(
            f"{path}, line {_csv_lines(path)[-1]}: the row that starts here is not valid CSV "
            f"({error}); close every quote, and write a quote inside a quoted field twice."
        ) from error
    if set(map(len, rows)) - {len(header)}:
        row = next(row for row, fields in enumerate(rows) if len(fields) != len(header))
        raise ValueError(
            f"{path}, line {_line(path, row)}: the row has {len(rows[row])} fields, the header "
            f"{len(header)} ({', '.join(header)}); quote fields that hold a comma. "
            f"Row: {rows[row]!r:.200}"
        )
    return {name: list(map(itemgetter(header.index(name)), rows)) for name in required}


def _read_jsonl(path: Path, required: Sequence[str]) -> dict[str, list[str]]:
    columns: dict[str, list[str]] = {name: [] for name in required}
    for line, text in _jsonl_records(path):
        try:
            record = json.loads(text)
        except _NOT_JSON as error:
            raise ValueError(
                f"{path}, line {line}: not valid JSON ({error}); write one flat object a line."
            ) from error
        if not isinstance(record, dict):
            raise ValueError(f"{path}, line {line}: {record!r:.80} is not an object.")
        _check_header(Path(f"{path}, line {line}"), list(record), required)
        for name in required:
            columns[name].append(_json_text(record[name], f"{path}, line {line}, column {name}"))
    return columns


def _json_text(value: Any, place: str) -> str:  # noqa: ANN401 - whatever JSON holds
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise ValueError(
        f"{place}: {value!r:.80} must be a string or an integer "
        "(a history is one string, item ids separated by spaces)."
    )


def _read_parquet(path: Path, required: Sequence[str]) -> dict[str, list[str]]:
    frame = _parquet_frame(path)
    _check_header(path, frame.columns, required)
    columns = {}
    for name in required:
        dtype = frame[name].dtype
        if not (dtype.is_integer() or str(dtype).split("(")[0] in _TEXT_TYPES):
            raise ValueError(
                f"{path}, column {name}: the type {dtype} must be a string or an integer; cast it "
                "(a history is one string, a timestamp e.g. whole seconds)."
            )
        columns[name] = frame[name].cast(str).fill_null("").to_list()
    return columns


_TEXT_TYPES = ("String", "Categorical", "Enum", "Null")


def _parquet_frame(path: Path, num_rows: int | None = None) -> Any:  # noqa: ANN401 - a polars.DataFrame; polars is optional
    try:
        import polars
    except ImportError as error:
        raise ImportError(
            f"reading {path} needs polars: pip install 'rere-env[data]' (or convert it to CSV)."
        ) from error
    source = io.BytesIO(read_bytes(path)) if path.suffix == ".gz" else path
    try:
        return polars.read_parquet(source, n_rows=num_rows)
    except (polars.exceptions.PolarsError, polars.exceptions.PanicException) as error:
        # Polars panics at some damage; a panic is no Exception, so its class is named.
        raise ValueError(f"{path} is not readable as Parquet ({error}); write it again.") from error


def _line(path: Path, row: int) -> int:
    """Find the line of a data row. Reads the file again: only errors ask."""
    if _format(path) == ".csv":
        return _csv_lines(path)[row + 1]
    return [line for line, _ in _jsonl_records(path)][row]


def _csv_lines(path: Path) -> list[int]:
    """List the line where each record starts, header first, up to the first broken one."""
    reader = csv.reader(io.StringIO(_text(path), newline=""), strict=True)
    lines, start = [], 1
    try:
        for row in reader:
            if row:
                lines.append(start)
            start = reader.line_num + 1
    except csv.Error:
        lines.append(start)
    return lines


def _jsonl_records(path: Path) -> Iterator[tuple[int, str]]:
    lines = enumerate(_text(path).split("\n"), start=1)
    return ((line, text) for line, text in lines if text.strip())
