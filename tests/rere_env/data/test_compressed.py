"""A file that grows when it is read is refused in time."""

import gzip
import tracemalloc

import pytest

from rere_env.data.compressed import LIMIT_VARIABLE, max_uncompressed, read_bytes
from rere_env.data.tables import column_names, read_table


@pytest.fixture
def bomb(tmp_path):
    """64 MB in 64 kB: one line without an end."""
    path = tmp_path / "items.csv.gz"
    path.write_bytes(gzip.compress(b"0" * 64_000_000))
    return path


def test_a_bomb_is_refused_at_the_limit(bomb, monkeypatch):
    """The message names file, limit and remedy; memory stays near the limit."""
    monkeypatch.setenv(LIMIT_VARIABLE, "1000000")
    tracemalloc.start()
    with pytest.raises(ValueError, match=rf"items\.csv\.gz .*at most 1,000,000.*{LIMIT_VARIABLE}"):
        read_table(bomb, ("item_id",))
    assert column_names(bomb) == []
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16_000_000


def test_the_limit_can_be_raised(bomb, monkeypatch):
    """To the very size."""
    monkeypatch.setenv(LIMIT_VARIABLE, "64000000")
    assert len(read_bytes(bomb)) == 64_000_000


@pytest.mark.parametrize("value", ["", "0", "-1", "1 GiB", "1e9"])
def test_the_limit_is_a_number_of_bytes(monkeypatch, value):
    """Anything else is an error that names the variable."""
    monkeypatch.setenv(LIMIT_VARIABLE, value)
    with pytest.raises(ValueError, match=rf"{LIMIT_VARIABLE} \(='{value}'\) must be a number"):
        max_uncompressed()


def test_plain_files_have_no_limit(tmp_path, monkeypatch):
    """Their size is on the disk for all to see."""
    monkeypatch.setenv(LIMIT_VARIABLE, "1")
    (tmp_path / "a.csv").write_bytes(b"abc")
    assert read_bytes(tmp_path / "a.csv") == b"abc"
