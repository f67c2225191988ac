"""Files and folders that are replaced in one step."""

import pytest

from agents.files import (
    MANIFEST,
    DamagedError,
    older,
    read_json,
    replace_folder,
    restore_folder,
    sha256,
    verify_folder,
    write_json,
)


def fill(folder, text):
    """Replace a folder by one that holds `text`."""
    with replace_folder(folder) as new:
        (new / "file").write_text(text)


def fill_half(folder):
    """Be stopped while filling."""
    with replace_folder(folder) as new:
        (new / "half").write_text("half")
        raise KeyboardInterrupt


def test_a_folder_is_replaced_at_once(tmp_path):
    """Nothing of the old one stays, and no scratch folder either."""
    fill(tmp_path / "last", "one")
    fill(tmp_path / "last", "two")
    assert (tmp_path / "last" / "file").read_text() == "two"
    assert [path.name for path in tmp_path.iterdir()] == ["last"]


def test_a_crash_while_filling_keeps_the_old_folder(tmp_path):
    """The half-filled one is thrown away next time."""
    fill(tmp_path / "last", "one")
    with pytest.raises(KeyboardInterrupt):
        fill_half(tmp_path / "last")
    assert (tmp_path / "last" / "file").read_text() == "one"
    fill(tmp_path / "last", "two")
    assert sorted(path.name for path in (tmp_path / "last").iterdir()) == ["file", MANIFEST]


def test_restoring_an_undamaged_folder_does_nothing(tmp_path):
    """Neither where it exists nor where it never did."""
    fill(tmp_path / "last", "one")
    restore_folder(tmp_path / "last")
    restore_folder(tmp_path / "other")
    assert [path.name for path in tmp_path.iterdir()] == ["last"]


def test_the_folder_before_is_kept_where_it_is_asked_for(tmp_path):
    """One of them."""
    for text in ("one", "two", "three"):
        with replace_folder(tmp_path / "last", keep_older=True) as new:
            (new / "file").write_text(text)
    assert (tmp_path / "last" / "file").read_text() == "three"
    assert (older(tmp_path / "last") / "file").read_text() == "two"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last", "last.old"]


def test_a_manifest_guards_files_of_all_depths(tmp_path):
    """Whatever is written into the folder."""
    with replace_folder(tmp_path / "last") as new:
        (new / "deep").mkdir()
        (new / "deep" / "file").write_text("content")
    assert read_json(tmp_path / "last" / MANIFEST).keys() == {"deep/file"}
    verify_folder(tmp_path / "last", needs_manifest=True)
    (tmp_path / "last" / "deep" / "file").write_text("contenT")
    with pytest.raises(DamagedError, match=r"deep.file is damaged"):
        verify_folder(tmp_path / "last")


def test_a_folder_from_elsewhere_cannot_be_verified(tmp_path):
    """It passes, unless a manifest must be there."""
    verify_folder(tmp_path)
    with pytest.raises(DamagedError, match=r"manifest\.json is missing"):
        verify_folder(tmp_path, needs_manifest=True)


def test_the_hash_of_the_beginning_of_a_file(tmp_path):
    """As if the rest were not there."""
    (tmp_path / "all").write_text("abcdef")
    (tmp_path / "part").write_text("abc")
    assert sha256(tmp_path / "all", 3) == sha256(tmp_path / "part")


def test_a_disk_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    """And nothing beside it."""
    write_json(tmp_path / "file.json", {"a": 1})

    def fails(descriptor):
        raise OSError("No space left on device")

    monkeypatch.setattr("agents.files.os.fsync", fails)
    with pytest.raises(OSError, match="No space"):
        write_json(tmp_path / "file.json", {"a": 2})
    assert read_json(tmp_path / "file.json") == {"a": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["file.json"]
