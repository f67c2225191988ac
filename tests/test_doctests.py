"""The examples in docstrings are run."""

import doctest
import importlib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
MODULES = [
    ".".join(file.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")
    for package in ("rere_env", "agents")
    for file in sorted((REPOSITORY / package).rglob("*.py"))
    if ">>>" in file.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_are_true(name: str) -> None:
    """What stands behind `>>>` gives what stands below it."""
    done = doctest.testmod(importlib.import_module(name))
    assert done.failed == 0


@pytest.mark.parametrize(
    ("module", "value"),
    [
        ("rere_env.types", "Batch"),
        ("rere_env.prompts", "Prompts"),
        ("agents.types", "Candidates"),
        ("agents.types", "LossInputs"),
        ("agents.trees.groups", "GroupTrees"),
        ("agents.rere.groups", "Groups"),
    ],
)
def test_central_values_have_a_worked_example(module: str, value: str) -> None:
    """Their shapes stand in the docstring, with a few lines to try."""
    text = getattr(importlib.import_module(module), value).__doc__
    assert ">>>" in text
    assert "[B" in text
