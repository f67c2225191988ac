"""From a JSON object to a dataclass of numbers and words: every key and every type is checked."""

from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = ["from_json"]

ValueT = TypeVar("ValueT", bound="DataclassInstance")


def from_json(kind: type[ValueT], values: Mapping[str, Any], file: Path, remedy: str) -> ValueT:
    """Return the dataclass that a JSON object describes.

    Args:
        kind: Its fields are words, numbers, choices of words, objects, or None.
        values: By field; fields with a default may be missing.
        file: Where they were read, for the messages.
        remedy: What to do about a wrong file; ends the message.

    Raises:
        ValueError: A key is unknown or missing, or a value is of another type or no choice.
    """
    known = {field.name: field for field in fields(kind)}
    if unknown := sorted(values.keys() - known.keys()):
        raise ValueError(
            f"{file}: unknown keys {unknown}: misspelt, or of another version; {remedy}."
        )
    needed = {
        name
        for name, field in known.items()
        if field.default is MISSING and field.default_factory is MISSING
    }
    if missing := sorted(needed - values.keys()):
        raise ValueError(f"{file}: the keys {missing} are missing; {remedy}.")
    hints = get_type_hints(kind)
    for name, value in values.items():
        if not _fits(value, hints[name]):
            raise ValueError(
                f"{file}: `{name}` (={value!r}) must be {_words(hints[name])}; {remedy}."
            )
    return kind(**values)


def _fits(value: object, hint: Any) -> bool:  # noqa: ANN401 - a type hint is any object
    origin = get_origin(hint)
    if origin is Literal:
        return isinstance(value, str) and value in get_args(hint)
    if origin in (Union, UnionType):
        return any(_fits(value, part) for part in get_args(hint))
    if origin is dict:
        part = get_args(hint)[1]
        return isinstance(value, dict) and all(_fits(each, part) for each in value.values())
    if hint is Any:
        return True
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if issubclass(hint, str) and hint is not str:  # an enumeration of words
        return isinstance(value, str) and value in list(hint)
    return isinstance(value, hint)


def _words(hint: Any) -> str:  # noqa: ANN401 - a type hint is any object
    """Return what a type is called in JSON."""
    origin = get_origin(hint)
    if origin is Literal:
        return f"one of {list(get_args(hint))}"
    if origin in (Union, UnionType):
        return " or ".join(_words(part) for part in get_args(hint))
    if issubclass(origin or hint, str) and hint is not str:
        return f"one of {[str(value) for value in hint]}"
    names = {str: "a word", int: "a whole number", float: "a number", bool: "true or false"}
    return names.get(hint, "null" if hint is NoneType else "an object")
