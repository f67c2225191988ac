"""Prompts against the context of a model."""

import pytest

from agents.policy.context import FittingPrompt, count_long_prompts, fit_prompts, num_truncated

# The titles of `animal_task` have 2 to 4 tokens; a prompt is EOS and its titles.
LONGEST = 4


def test_a_prompt_that_fits_is_left_alone(animal_task):
    """Whatever is to happen to long ones."""
    for on_long in ("error", "truncate"):
        task = fit_prompts(animal_task, 128, on_long)
        assert task.prompt((0, 1)) == animal_task.prompt((0, 1))
        assert num_truncated(task) == 0


def test_the_newest_items_that_fit_are_kept_and_the_cut_is_counted(animal_task):
    """The titles "red fox runs", "owl": 3 + 4 + 2 tokens after the first."""
    history = (0, 1, 7)
    for room, kept in ((10, (0, 1, 7)), (9, (1, 7)), (7, (1, 7)), (6, (7,)), (3, (7,))):
        task = fit_prompts(animal_task, room + LONGEST - 1, "truncate")
        assert task.prompt(history) == animal_task.prompt(kept)
        assert num_truncated(task) == (kept != history)


def test_a_long_prompt_is_an_error_that_says_how_to_go_on(animal_task):
    """It names length and limit."""
    task = fit_prompts(animal_task, 9 + LONGEST - 1, "error")
    with pytest.raises(
        ValueError, match=r"3 history items has 10 tokens.*at most 9.*--on-long-prompt truncate"
    ):
        task.prompt((0, 1, 7))


def test_an_item_too_long_alone_is_an_error_either_way(animal_task):
    """Nothing of the history would be left."""
    task = fit_prompts(animal_task, 4 + LONGEST - 1, "truncate")
    with pytest.raises(ValueError, match="has 8 tokens"):
        task.prompt((0, 1))


def test_a_model_too_short_for_a_title_is_refused(animal_task):
    """There is no room for a prompt at all."""
    with pytest.raises(ValueError, match=r"longest title has 4 tokens.*at most 3"):
        fit_prompts(animal_task, 3, "truncate")


def test_a_model_without_a_limit_fits_everything(animal_task):
    """The prompt is the task's own, also where it was fitted before."""
    fitted = fit_prompts(animal_task, 7, "error")
    assert isinstance(fitted.prompt, FittingPrompt)
    assert fit_prompts(fitted, None, "error").prompt is animal_task.prompt
    assert fit_prompts(fitted, 50, "error").prompt.prompt is animal_task.prompt


def test_a_split_is_counted_before_it_is_used(animal_task):
    """Of six histories two exceed seven tokens; counting is no cutting."""
    lengths = [len(animal_task.prompt(e.history)) for e in animal_task.split("train")]
    assert sorted(lengths) == [3, 3, 7, 7, 8, 10]
    task = fit_prompts(animal_task, 7 + LONGEST - 1, "truncate")
    assert count_long_prompts(task, "train", task.split("train")) == 2
    assert num_truncated(task) == 0
    assert count_long_prompts(animal_task, "train", task.split("train")) == 0


def test_the_error_names_the_row(animal_task):
    """Split, row and user."""
    task = fit_prompts(animal_task, 7 + LONGEST - 1, "error")
    with pytest.raises(ValueError, match=r"split 'train', row 0 \(user 0\): .* 8 tokens"):
        count_long_prompts(task, "train", task.split("train"))
