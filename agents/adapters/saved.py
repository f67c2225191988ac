"""Agents as files: one form for all libraries. Knows networks and settings, and no library.

    agent.json          who was trained, its settings, the hash of the titles' trie, the version
    policy.safetensors  the weights

Nothing is unpickled, and a file cannot name what is to be imported.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from safetensors import SafetensorError
from safetensors.torch import load_model, save_model
from torch import nn

import rere_env
from agents.files import write_json
from rere_env.task import Task

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = ["SETTINGS", "WEIGHTS", "load_settings", "load_weights", "save_agent"]

SETTINGS, WEIGHTS = "agent.json", "policy.safetensors"
"""The files of a saved agent."""

AgentT = TypeVar("AgentT", bound="DataclassInstance")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Form:
    """What `agent.json` holds."""

    agent: str
    library: str
    settings: dict[str, Any]
    trie_hash: str
    version: str


def save_agent(
    folder: str | Path, agent: "DataclassInstance", network: nn.Module, task: Task, *, library: str
) -> None:
    """Write a trained agent into a folder, which is made if need be.

    Args:
        folder: Where to.
        agent: A dataclass of settings: numbers, words, and tuples of them.
        network: What it has learnt.
        task: What titles it writes.
        library: Its package in `agents.adapters`.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SETTINGS).unlink(missing_ok=True)  # half of an agent must not look like a whole one
    save_model(network, str(folder / WEIGHTS))
    form = _Form(
        agent=type(agent).__name__,
        library=library,
        settings=asdict(agent),
        trie_hash=task.trie.content_hash(),
        version=rere_env.__version__,
    )
    write_json(folder / SETTINGS, asdict(form))


def load_settings(
    folder: str | Path, task: Task, kinds: Mapping[str, type[AgentT]], *, library: str
) -> AgentT:
    """Return the agent whose settings `save_agent` wrote, without what it has learnt.

    Args:
        folder: Where from.
        task: Of the titles that it was trained to write.
        kinds: The agents that may be there, by name.
        library: Their package in `agents.adapters`.

    Raises:
        FileNotFoundError: The folder holds no agent.
        ValueError: The file is broken or of an older form, or holds another agent than may be
            there, of other titles, or with other settings than this version knows.
    """
    form = _read_form(Path(folder) / SETTINGS)
    if form.library != library:
        raise ValueError(
            f"{folder}: `library` (={form.library!r}) must be {library!r}; load it with the "
            "`load_agent` of the library that trained it."
        )
    if form.agent not in kinds:
        raise ValueError(
            f"{folder}: `agent` (={form.agent!r}) must be one of {sorted(kinds)}; `load_agent` "
            "finds the right one by itself."
        )
    if form.trie_hash != task.trie.content_hash():
        raise ValueError(
            f"{folder}: the agent was trained to write other titles than those of "
            f"{task.dataset.name!r} (trie {form.trie_hash[:12]}, not "
            f"{task.trie.content_hash()[:12]}); load it with the catalogue and the tokenizer of "
            "its training."
        )
    kind = kinds[form.agent]
    if different := {field.name for field in fields(kind)} ^ form.settings.keys():
        raise ValueError(
            f"{folder}: the settings {sorted(different)} are not both in the file (written by "
            f"version {form.version}) and in {kind.__name__} (of version {rere_env.__version__}); "
            "load it with the version that wrote it, or train the agent again."
        )
    return kind(
        **{
            name: tuple(value) if isinstance(value, list) else value  # JSON has no tuples
            for name, value in form.settings.items()
        }
    )


def load_weights(folder: str | Path, network: nn.Module) -> None:
    """Read what `save_agent` wrote into a network of the same shape.

    Raises:
        FileNotFoundError: The weights are missing.
        ValueError: The file is broken, or holds weights of another network.
    """
    file = _existing(Path(folder) / WEIGHTS)
    try:
        load_model(network, file)
    except (SafetensorError, RuntimeError) as error:
        raise ValueError(
            f"{file} does not hold the weights that {SETTINGS} speaks of ({error}); copy the "
            "folder again, or train the agent again."
        ) from error


def _existing(file: Path) -> Path:
    if not file.is_file():
        raise FileNotFoundError(
            f"{file.parent} holds no saved agent: {file.name} is missing; give the folder that "
            "`save` wrote (of a run of `rere train`: its folder `agent`)."
        )
    return file


def _read_form(file: Path) -> _Form:
    try:
        found = json.loads(_existing(file).read_text(encoding="utf-8"))
    except ValueError as error:  # no JSON, or no text
        raise ValueError(
            f"{file} is broken ({error}); copy the folder again, or train the agent again."
        ) from error
    names = [field.name for field in fields(_Form)]
    missing = sorted(set(names) - found.keys()) if isinstance(found, dict) else names
    if missing:
        raise ValueError(
            f"{file} lacks {missing}: it was written before all libraries had one form, which is "
            "no longer read; train the agent again."
        )
    for name in names:
        needed = dict if name == "settings" else str
        if not isinstance(found[name], needed):
            raise ValueError(
                f"{file}: `{name}` (={found[name]!r}) must be a {needed.__name__}; copy the folder "
                "again, or train the agent again."
            )
    return _Form(**{name: found[name] for name in names})
