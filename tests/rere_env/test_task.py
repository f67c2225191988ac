"""What environments and agents share."""

import copy
from pathlib import Path

import pytest

from rere_env import Task, hit, load_task


def test_the_target_travels_with_the_example(task_of):
    """Two equal histories with different targets keep their own."""
    task = task_of(rows=[((0, 1), 2), ((0, 1), 3)])
    first, second = task.split("train")
    assert first.history == second.history == (0, 1)
    assert (first.target_title, second.target_title) == (2, 3)


def test_the_trie_spells_the_catalogue(tiny_task):
    """Title ids of the trie are those of the catalogue."""
    assert tiny_task.trie.num_titles == tiny_task.catalogue.num_titles == 8
    assert tiny_task.decode_title(5) == "Dog Show"


def test_a_split_must_exist_and_hold_examples(task_of):
    """The known splits are listed."""
    with pytest.raises(ValueError, match=r"`split` \(='dev'\) must be one of \['test', 'train'"):
        task_of().split("dev")
    with pytest.raises(ValueError, match="'train' of 'tiny' holds no example"):
        task_of(rows=[]).split("train")


def test_another_reward_is_another_task(tiny_task):
    """`with_reward` leaves the original as it was."""
    assert tiny_task.with_reward("hit").reward is hit
    assert tiny_task.reward is not hit


def test_a_task_is_its_own_deep_copy(tiny_task):
    """Gymnasium deep-copies specs often; a task is immutable."""
    assert copy.deepcopy({"task": tiny_task})["task"] is tiny_task


def test_known_names_are_found_and_loaded_once(data_root: Path):
    """A name, its folder and a second call give the same catalogue object."""
    task = load_task("toys")
    assert task.dataset.name == "toys"
    assert load_task(data_root / "toys").catalogue is task.catalogue
    assert isinstance(task, Task)


def test_changed_files_are_loaded_anew(data_root: Path):
    """Nothing stale: an edited folder is read again."""
    before = load_task("toys").catalogue.num_titles
    with (data_root / "toys" / "items.csv").open("a") as file:
        file.write("i8,New Game\n")
    assert load_task("toys").catalogue.num_titles == before + 1


def test_a_missing_data_set_says_how_to_get_it(data_root: Path):
    """The error names the place and the command."""
    for file in (data_root / "yelp").iterdir():
        file.unlink()
    (data_root / "yelp").rmdir()
    with pytest.raises(FileNotFoundError, match="rere data build"):
        load_task("yelp")
