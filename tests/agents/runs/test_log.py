"""A log whose beginning is known."""

import hashlib

import pytest

from agents.files import DamagedError
from agents.runs.log import check_log, cut_log


@pytest.fixture
def log(tmp_path):
    """Six bytes."""
    file = tmp_path / "log"
    file.write_bytes(b"abcdef")
    return file


def test_what_was_logged_later_does_not_matter(log):
    """Only the beginning is known, or only its length."""
    check_log(log, 3, hashlib.sha256(b"abc").hexdigest())
    check_log(log, 3, "")
    check_log(log.with_name("none"), 0, "")


def test_another_beginning_is_damage(log):
    """As is a missing end."""
    with pytest.raises(DamagedError, match="not what was logged"):
        check_log(log, 3, hashlib.sha256(b"abd").hexdigest())
    with pytest.raises(DamagedError, match="6 bytes long where 7"):
        check_log(log, 7, "")
    with pytest.raises(DamagedError, match="0 bytes long where 1"):
        check_log(log.with_name("none"), 1, "")


def test_a_log_is_cut_and_never_made_longer(log):
    """A missing one stays missing."""
    cut_log(log, 9)
    assert log.read_bytes() == b"abcdef"
    cut_log(log, 2)
    assert log.read_bytes() == b"ab"
    cut_log(log.with_name("none"), 0)
    assert not log.with_name("none").exists()
