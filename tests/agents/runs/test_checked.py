"""JSON files of a run whose keys and values are not what they must be."""

import pytest

from agents.files import DamagedError, write_json
from agents.runs.folder import RunFolder


@pytest.fixture
def run(tmp_path):
    """A new run."""
    return RunFolder.create(tmp_path, "run", {"seed": 0})


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ({"sed": 0}, r"unknown keys \['sed'\]"),
        ({"seed": "x"}, r"`seed` \(='x'\) must be a whole number"),
        ({"seed": True}, r"`seed`"),
        ({"data": True}, r"`data`"),
        ({"history_length": {}}, r"`history_length`"),
        ({"exclude": 0}, r"`exclude` \(=0\) must be one of"),
        ({"preset": "nosuch"}, r"`preset`"),
    ],
)
def test_a_config_is_checked_key_by_key(written, message, tmp_path):
    """File, key, value and remedy."""
    run = RunFolder.create(tmp_path, "run", written)
    with pytest.raises(ValueError, match=rf"config\.json: {message}.*put back"):
        run.read_config()


@pytest.mark.parametrize("text", ["", "[]", "null", "{", "[" * 100_000, b"\xff"])
def test_a_broken_config_is_named(text, run):
    """Whatever is broken about it."""
    run.config.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DamagedError, match=r"config\.json is damaged.*put back"):
        run.read_config()


@pytest.mark.parametrize("written", [{"steps": 1}, {"step": "x"}, {"stage": "x"}, {"seconds": 1}])
def test_progress_is_checked_key_by_key(written, run):
    """Even where no manifest guards it."""
    run.last.mkdir(parents=True)
    write_json(run.last / "progress.json", written)
    with pytest.raises(ValueError, match=r"progress\.json: .*resume with the version"):
        run.load_progress()
