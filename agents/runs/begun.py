"""What a run was begun with, so that a resumed one goes on with the same.

Compares; knows neither where the hashes come from nor what a run does.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from agents.files import DamagedError, read_json, write_json
from agents.runs.checked import from_json
from agents.runs.folder import RunFolder

__all__ = ["Begun", "check_begun", "check_config"]

ABSENT = "absent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """What must be the same when a run goes on; begun.json.

    Attributes:
        version: Of this package.
        data: Hash of the data set.
        catalogue: Hash of items and titles.
        tokenizer: Hash of what makes tokens of titles.
        trie: Hash of the titles as tokens.
        config: config.json.
        allowed: What was changed since and allowed: what it was, by name.
    """

    version: str
    data: str
    catalogue: str
    tokenizer: str
    trie: str
    config: dict[str, Any]
    allowed: dict[str, Any] = field(default_factory=dict)

    def values(self) -> dict[str, Any]:
        """Return everything by name, the flags one by one."""
        flags = {f"config.json: {name}": value for name, value in self.config.items()}
        hashes = ("version", "data", "catalogue", "tokenizer", "trie")
        return {name: getattr(self, name) for name in hashes} | flags


def check_begun(run: RunFolder, now: Begun, *, allow_changed: bool) -> None:
    """See that a run goes on with what it was begun with.

    Args:
        run: The run.
        now: What it would go on with.
        allow_changed: Note the differences in begun.json instead, and go on.

    Raises:
        ValueError: There are differences, or nothing to compare with.
    """
    if not run.begun.is_file():
        if allow_changed:
            return
        raise ValueError(
            f"{run.path} does not say what it was begun with: {run.begun.name} is missing, as in "
            "runs of older versions. If data, model and code are those of its beginning, go on "
            "with --allow-changed; else train anew."
        )
    begun = _read(run, "put it back as it was, or delete it and insist by --allow-changed")
    different = _differences(begun.values(), now.values())
    if not different:
        return
    if not allow_changed:
        raise ValueError(
            f"{run.path} would not go on as it was begun: {_listed(different)}. Put back what it "
            "was, or go on with what is there now by --allow-changed."
        )
    earlier = {name: before for name, (before, _) in different.items()}
    write_json(run.begun, asdict(replace(now, allowed=begun.allowed | earlier)))


def check_config(run: RunFolder) -> None:
    """See that config.json says what the run was trained by, as far as that is known.

    Raises:
        ValueError: It was changed, or one of the two files is damaged.
    """
    run.read_config()  # damage is not a change
    if not run.begun.is_file():
        return
    begun = _read(run, "put it back, or delete it to use the run without its guard")
    if different := _differences(begun.config, read_json(run.config)):
        raise ValueError(
            f"{run.config} is not what {run.begun.name} says the run was begun with: "
            f"{_listed(different)}. Put back what it was; a run goes on with what is there now by "
            "--allow-changed."
        )


def _read(run: RunFolder, remedy: str) -> Begun:
    try:
        return from_json(Begun, read_json(run.begun), run.begun, remedy)
    except DamagedError as error:
        raise DamagedError(f"{error}; {remedy}.") from error


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    return {
        name: pair
        for name in (*before, *(name for name in now if name not in before))
        if (pair := (before.get(name, ABSENT), now.get(name, ABSENT)))[0] != pair[1]
    }


def _listed(different: Mapping[str, tuple[Any, Any]]) -> str:
    return "; ".join(
        f"`{name}` was {_short(before)} and is {_short(now)}"
        for name, (before, now) in different.items()
    )


def _short(value: object) -> str:
    """Return a value in a few letters; the first 12 of a hash say enough."""
    text = str(value) if isinstance(value, str) else repr(value)
    return text[:12] if len(text) == 64 else text[:80]
