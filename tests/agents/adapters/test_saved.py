"""Saved agents: what is written is read, and whatever is wrong with the files is said."""

import json
from dataclasses import dataclass

import pytest
import torch
from torch import nn

import rere_env
from agents.adapters.saved import SETTINGS, WEIGHTS, load_settings, load_weights, save_agent
from rere_env.worlds import fifty_items, successor


@dataclass(frozen=True, slots=True, kw_only=True)
class Parrot:
    """Settings of no library."""

    beam: int = 1
    layers: tuple[int, ...] = (8,)


KINDS = {"Parrot": Parrot}
TASK = successor().task


@pytest.fixture
def folder(tmp_path):
    """A saved parrot."""
    save_agent(
        tmp_path / "a" / "b", Parrot(beam=3, layers=(2, 4)), nn.Linear(2, 3), TASK, library="toy"
    )
    return tmp_path / "a" / "b"


def edit(folder, **changes):
    """Change what the settings file says; None: leave it out."""
    form = json.loads((folder / SETTINGS).read_text("utf-8")) | changes
    kept = {name: value for name, value in form.items() if value is not None}
    (folder / SETTINGS).write_text(json.dumps(kept), "utf-8")


def load(folder, task=TASK, library="toy"):
    """Read the settings of a parrot."""
    return load_settings(folder, task, KINDS, library=library)


def test_settings_and_weights_come_back(folder):
    """Tuples too; the files are JSON and safetensors, and say which version wrote them."""
    assert sorted(file.name for file in folder.iterdir()) == [SETTINGS, WEIGHTS]
    assert load(folder) == Parrot(beam=3, layers=(2, 4))
    assert json.loads((folder / SETTINGS).read_text("utf-8")) == {
        "agent": "Parrot",
        "library": "toy",
        "settings": {"beam": 3, "layers": [2, 4]},
        "trie_hash": TASK.trie.content_hash(),
        "version": rere_env.__version__,
    }
    network, other = nn.Linear(2, 3), nn.Linear(2, 3)
    save_agent(folder, Parrot(), network, TASK, library="toy")  # over the old one
    load_weights(folder, other)
    assert torch.equal(network.weight, other.weight)
    assert load(folder) == Parrot()


def test_another_library_or_agent_or_other_titles_are_refused(folder):
    """Each error says what to do."""
    with pytest.raises(ValueError, match=r"`library` \(='toy'\) must be 'sb3'; load it with"):
        load(folder, library="sb3")
    with pytest.raises(ValueError, match=r"other titles than those of 'fifty_items'.*load it with"):
        load(folder, fifty_items().task)
    edit(folder, agent="os.system")
    with pytest.raises(ValueError, match=r"`agent` \(='os.system'\) must be one of \['Parrot'\]"):
        load(folder)


def test_an_agent_of_an_older_form_is_to_be_trained_again(folder):
    """Both old forms lack the library; so does a file that holds no object at all."""
    edit(folder, library=None, version=None)
    with pytest.raises(ValueError, match=r"lacks \['library', 'version'\].*train the agent again"):
        load(folder)
    (folder / SETTINGS).write_text("[]", "utf-8")
    with pytest.raises(ValueError, match=r"lacks .*train the agent again"):
        load(folder)


def test_settings_that_this_version_does_not_know_are_refused(folder):
    """One too many and one missing are both named."""
    edit(folder, settings={"beam": 3, "wings": 2}, version="9.0")
    with pytest.raises(ValueError, match=r"\['layers', 'wings'\].*version 9.0.*train the agent"):
        load(folder)


@pytest.mark.parametrize("text", ["{", '{"agent": 1'])
def test_a_broken_settings_file_is_named(folder, text):
    """Half a file is no JSON."""
    (folder / SETTINGS).write_text(text, "utf-8")
    with pytest.raises(ValueError, match=rf"{SETTINGS} is broken .*; copy the folder again"):
        load(folder)


def test_a_value_of_another_type_is_named(folder):
    """Whoever edits the file hears of it."""
    edit(folder, settings=[1])
    with pytest.raises(ValueError, match=r"`settings` \(=\[1\]\) must be a dict"):
        load(folder)


def test_missing_files_are_named(folder):
    """The error tells which folder to give."""
    (folder / WEIGHTS).unlink()
    with pytest.raises(FileNotFoundError, match=f"{WEIGHTS} is missing; give the folder"):
        load_weights(folder, nn.Linear(2, 3))
    with pytest.raises(FileNotFoundError, match=f"{SETTINGS} is missing; give the folder"):
        load(folder.parent)


def test_broken_weights_and_weights_of_another_network_are_refused(folder):
    """Neither an error of safetensors nor one of torch comes through."""
    with pytest.raises(ValueError, match=f"{WEIGHTS} does not hold the weights"):
        load_weights(folder, nn.Linear(2, 4))
    (folder / WEIGHTS).write_bytes(b"12345")
    with pytest.raises(ValueError, match=f"{WEIGHTS} does not hold the weights"):
        load_weights(folder, nn.Linear(2, 3))


def test_an_interrupted_save_leaves_no_agent(folder, monkeypatch):
    """New weights under old settings would load."""

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("agents.adapters.saved.save_model", fail)
    with pytest.raises(OSError, match="disk full"):
        save_agent(folder, Parrot(), nn.Linear(2, 3), TASK, library="toy")
    with pytest.raises(FileNotFoundError, match=SETTINGS):
        load(folder)
