"""Figures in README and docs are those of the committed results."""

import json
import re
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


def load(name):
    """A script of benchmarks/, which is no package."""
    spec = spec_from_file_location(name, REPOSITORY / "benchmarks" / f"{name}.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


figures, collect = load("figures"), load("collect_runs")


@pytest.mark.parametrize("page", figures.PAGES)
def test_every_block_is_what_the_results_give(page):
    """Made anew, no page changes."""
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    assert figures.fill(text) == text


def test_every_block_is_shown_somewhere():
    """No text is made for nobody."""
    pages = "".join((REPOSITORY / page).read_text(encoding="utf-8") for page in figures.PAGES)
    assert {found.group(1) for found in figures.BLOCK.finditer(pages)} == figures.BLOCKS.keys()


def test_a_changed_figure_is_found():
    """And put right."""
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    [digit, *_] = re.findall(r"\d\.\d", next(figures.BLOCK.finditer(text)).group())
    wrong = text.replace(digit, "9.9")
    assert wrong != text
    assert figures.fill(wrong) == text or digit in text.split("<!-- figures")[0]


def test_an_unknown_block_is_refused():
    """By a list of what there is."""
    with pytest.raises(ValueError, match="`figures: speed` must be one of"):
        figures.fill("<!-- figures: speed -->\n<!-- /figures -->")


def test_small_ratios_keep_their_digits():
    """A single round has no range."""
    assert figures.times({"median": 0.457, "low": 0.451, "high": 0.468}) == "0.46 (0.45-0.47)"
    assert figures.times({"median": 17.2, "low": 17.2, "high": 17.2}) == "17 (one round)"
    assert figures.share(0.0132) == ".0132"
    assert figures.signed(-0.0132) == "-.0132"


def result(seed, **changes):
    """What a run leaves, in short."""
    return {
        "seed": seed,
        "config": {"seed": seed, "preset": "default"},
        "data": {"name": "games"},
        "catalogue_hash": "c",
        "versions": {},
        "comparison_statistics": {},
        "git_commit": "abc",
        "created": "2026-11-28",
        "seconds": {},
        "recommenders": {},
        "comparisons": [],
        "share_of_oracle": {},
        **changes,
    }


def test_runs_of_one_command_are_gathered_by_seed():
    """With what they have in common."""
    found = collect.collect_runs([result(0), result(1)], "rere train --seed S")
    assert list(found["seeds"]) == ["0", "1"]
    assert found["config"]["seed"] == [0, 1]
    assert found["git_commits"] == ["abc"]
    json.dumps(found)


def test_runs_that_differ_in_more_than_their_seed_are_refused():
    """Or have the same."""
    other = result(1, config={"seed": 1, "preset": "smoke"})
    with pytest.raises(ValueError, match="differ in more than their seed"):
        collect.collect_runs([result(0), other], "")
    with pytest.raises(ValueError, match="must differ"):
        collect.collect_runs([result(0), result(0)], "")
