"""What a run was begun with: every difference is named, and none passes in silence."""

from dataclasses import asdict, replace

import pytest

from agents.files import DamagedError, read_json
from agents.runs.begun import Begun, check_begun, check_config
from agents.runs.folder import RunFolder

BEGUN = Begun(
    version="0.1.0",
    data="a" * 64,
    catalogue="b" * 64,
    tokenizer="c" * 64,
    trie="d" * 64,
    config={"seed": 0, "data": "games"},
)


@pytest.fixture
def run(tmp_path):
    """A run that was begun so."""
    return RunFolder.create(tmp_path, "run", BEGUN.config, asdict(BEGUN))


def test_the_same_goes_on(run):
    """In silence."""
    check_begun(run, BEGUN, allow_changed=False)
    check_config(run)


@pytest.mark.parametrize("name", ["version", "data", "catalogue", "tokenizer", "trie"])
def test_a_difference_names_both_values(run, name):
    """And what to do."""
    now = replace(BEGUN, **{name: "e" * 64})
    message = rf"`{name}` was {getattr(BEGUN, name)[:12]} and is eeeeeeeeeeee\..*--allow-changed"
    with pytest.raises(ValueError, match=message):
        check_begun(run, now, allow_changed=False)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"seed": 1, "data": "games"}, "`config.json: seed` was 0 and is 1"),
        ({"data": "games"}, "`config.json: seed` was 0 and is absent"),
        ({"seed": 0, "data": "games", "new": 2}, "`config.json: new` was absent and is 2"),
    ],
)
def test_flags_are_compared_one_by_one(run, config, message):
    """Those that are missing and those that are new too."""
    with pytest.raises(ValueError, match=message):
        check_begun(run, replace(BEGUN, config=config), allow_changed=False)


def test_what_is_allowed_is_noted(run):
    """And allowed from then on."""
    now = replace(BEGUN, data="e" * 64)
    check_begun(run, now, allow_changed=True)
    check_begun(run, now, allow_changed=False)
    assert read_json(run.begun)["allowed"] == {"data": "a" * 64}


def test_an_older_run_says_nothing(run):
    """It goes on only where a person insists."""
    run.begun.unlink()
    check_config(run)
    with pytest.raises(ValueError, match=r"begun\.json is missing.*--allow-changed"):
        check_begun(run, BEGUN, allow_changed=False)
    check_begun(run, BEGUN, allow_changed=True)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": "0.1.0"}', '{"sed": 1}'])
def test_a_damaged_record_is_named(run, text):
    """With what to do."""
    run.begun.write_text(text)
    with pytest.raises(ValueError, match=r"begun\.json.*put it back"):
        check_begun(run, BEGUN, allow_changed=False)


def test_an_altered_config_is_no_basis_of_an_evaluation(run):
    """Its support or filter may be another's."""
    run.config.write_text('{"seed": 3, "data": "games"}')
    with pytest.raises(ValueError, match=r"`seed` was 0 and is 3\. Put back"):
        check_config(run)
    run.config.write_text("{")
    with pytest.raises(DamagedError, match=r"config\.json is damaged"):
        check_config(run)
