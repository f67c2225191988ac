"""Mutants are replayed in a copy; one that no longer fits is refused."""

import pytest

from tests.mutants.replay import Mutant, mutated, replay

MUTANT = Mutant(name="wrong_sum", file="sum.py", old="a + b", new="a - b", test="test_sum.py")


@pytest.fixture
def tree(tmp_path):
    """A function with a test."""
    (tmp_path / "sum.py").write_text("def add(a, b):\n    return a + b\n", encoding="utf-8")
    test = "from sum import add\n\ndef test_add():\n    assert add({}, 1) == 3\n"
    (tmp_path / "test_sum.py").write_text(test.format(2), encoding="utf-8")
    (tmp_path / "test_weak.py").write_text("def test_nothing():\n    pass\n", encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("text", ["a * b", "a + b; a + b"])
def test_the_old_text_must_be_found_once(text):
    """Neither never nor twice; the message names mutant and file."""
    with pytest.raises(ValueError, match=r"'wrong_sum' must find its `old` text once in sum\.py"):
        mutated(MUTANT, text)


def test_a_mutant_dies_of_a_failing_test(tree):
    """And survives a test that does not look; the file is put right again."""
    before = (tree / "sum.py").read_text(encoding="utf-8")
    assert replay(MUTANT, tree)
    weak = Mutant(name="w", file="sum.py", old="a + b", new="a - b", test="test_weak.py")
    assert not replay(weak, tree)
    assert (tree / "sum.py").read_text(encoding="utf-8") == before


def test_a_test_that_is_not_there_proves_nothing(tree):
    """Neither killed nor survived."""
    lost = Mutant(name="lost", file="sum.py", old="a + b", new="a - b", test="test_gone.py")
    with pytest.raises(RuntimeError, match=r"'lost', test_gone\.py, did not run"):
        replay(lost, tree)
