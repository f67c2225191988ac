"""The conformance checks: what is right passes, and each broken rule is named."""

from dataclasses import replace
from itertools import count

import numpy as np
import pytest

from rere_env import NO_TITLE, Batch, Task
from rere_env.testing import check_recommender, check_same_episodes, hashed_policy
from rere_env.testing.episodes import NativeSource
from rere_env.worlds import copy_last, ordered_slates, successor


class Counter:
    """A recommender that keeps the rules: what followed the last item most often, then by id."""

    def __init__(self, task: Task):
        self.task = task
        train, size = task.split("train"), task.catalogue.num_titles
        self.counts = np.zeros((size, size))
        np.add.at(self.counts, (self.last(train), train.target_title), 1)

    def last(self, examples: Batch):
        """Return the title that ends each history."""
        ends = np.arange(len(examples)), examples.history_length - 1
        return self.task.catalogue.item_title[examples.history[ends]]

    def recommend(self, examples: Batch, k: int):
        """Return what followed the last title, most often first."""
        hidden = self.task.hidden(examples)
        titles = np.full((len(examples), k), NO_TITLE)
        for row, counts in enumerate(self.counts[self.last(examples)]):
            order = np.argsort(-counts, kind="stable")
            if hidden is not None:
                order = order[~np.isin(order, hidden.of(row))]
            titles[row, : len(order)] = order[:k]
        return titles


class Broken:
    """A recommender that does something to the answer of a good one."""

    def __init__(self, task: Task, spoil):
        self.good, self.spoil = Counter(task), spoil

    def recommend(self, examples: Batch, k: int):
        """Return the spoilt answer."""
        return self.spoil(self.good.recommend(examples, k), examples)


TASK = copy_last().task
BARRED = TASK.with_exclude("history")


@pytest.mark.parametrize("task", [TASK, BARRED, TASK.with_exclude(["item-3", "item-4"])])
@pytest.mark.parametrize("k", [1, 5, 12, 40])
def test_a_good_recommender_passes(task, k):
    """With and without a filter, for short lists and for those beyond the catalogue."""
    check_recommender(Counter(task), task, k=k)


def change_examples(titles, examples):
    """Write into the arguments."""
    examples.history[0, 0] = 7
    return titles


def repeat_the_first(titles, examples):
    """Show the best title twice."""
    titles[:, -1] = titles[:, 0]
    return titles


def write(place, value):
    """Write something into the first list."""

    def spoil(titles, examples):
        titles[0, place] = value
        return titles

    return spoil


def show_the_hidden(titles, examples):
    """Begin with what the user has had."""
    titles[:, 0] = examples.history[:, 0]
    return titles


def turned(titles, places):
    """Turn each list by so many places, its padding left at the end."""
    for row, place in zip(titles, np.broadcast_to(places, len(titles)), strict=True):
        row[row >= 0] = np.roll(row[row >= 0], place)
    return titles


CALLS = count()


def turn_with_every_call(titles, examples):
    """Remember how often it was asked."""
    return turned(titles, next(CALLS))


def turn_by_place(titles, examples):
    """Treat the first rows otherwise than the last."""
    return turned(titles, np.arange(len(titles)))


def turn_by_neighbours(titles, examples):
    """Let all rows decide together."""
    return turned(titles, examples.user.sum())


def read_the_target(titles, examples):
    """Put the answer first."""
    at = np.arange(len(titles))
    place = (titles == examples.target_title[:, None]).argmax(axis=1)
    titles[at, place], titles[at, 0] = titles[at, 0], titles[at, place].copy()
    return titles


@pytest.mark.parametrize(
    ("task", "spoil", "message"),
    [
        (TASK, lambda titles, _: titles[:, :-1], r"must return an array of shape \(32, 5\)"),
        (
            TASK,
            lambda titles, _: titles.tolist(),
            "got list of shape None. Pad short lists with NO_TITLE",
        ),
        (TASK, lambda titles, _: titles.astype(float), "integer title ids; got dtype float64"),
        (TASK, write(0, 12), r"title ids from 0 to 11, or NO_TITLE \(-1\); got \[12, "),
        (TASK, write(0, -2), r"title ids from 0 to 11, or NO_TITLE \(-1\); got \[-2, "),
        (TASK, repeat_the_first, "distinct titles in each list"),
        (BARRED, show_the_hidden, "must not return titles that the task hides"),
        (TASK, write(2, NO_TITLE), "NO_TITLE at the end of a list only"),
        (TASK, write(-1, NO_TITLE), r"must fill its lists .* \(here 5 or more\)"),
        (TASK, change_examples, r"has changed `examples\.history`; work on a copy"),
        (TASK, turn_with_every_call, "same lists when asked the same again, but 32 of 32 differ"),
        (TASK, turn_by_place, "same lists when asked in another order"),
        (TASK, turn_by_neighbours, "same lists when asked in batches of 1, 2 and the rest"),
        (TASK, read_the_target, "same lists when asked with other targets"),
    ],
)
def test_each_broken_rule_is_named(task, spoil, message):
    """One recommender for each rule, and it breaks no other before."""
    with pytest.raises(AssertionError, match=message):
        check_recommender(Broken(task, spoil), task, k=5)


def test_a_short_list_at_k_1_or_beyond_the_catalogue_is_found():
    """The two extreme lengths are asked for, whatever `k` is."""
    asked = []

    class Listener(Counter):
        def recommend(self, examples, k):
            asked.append(k)
            return super().recommend(examples, k)

    check_recommender(Listener(TASK), TASK, k=5)
    assert {1, 5, 15} == set(asked)


def test_chance_is_allowed_where_it_is_announced():
    """`deterministic=False` compares no answers, but the other rules hold."""
    rng = np.random.default_rng(0)

    def shuffle(titles, examples):
        return turned(titles, rng.integers(9))

    check_recommender(Broken(TASK, shuffle), TASK, k=5, deterministic=False)
    with pytest.raises(AssertionError, match="distinct titles"):
        check_recommender(Broken(TASK, repeat_the_first), TASK, k=5, deterministic=False)


@pytest.mark.parametrize("decisions", [False, True])
@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize(
    "options",
    [
        {"slate_size": 1},
        {"slate_size": 3, "exclude": "history", "mask": "lazy"},
        {"slate_size": 2, "max_tokens": 5, "mask": "observation"},
    ],
    ids=str,
)
def test_a_frozen_policy_lives_through_the_same_episodes(decisions, split, options):
    """Gymnasium's single environment and the native one under three autoreset modes agree."""
    check_same_episodes(ordered_slates().task, decisions=decisions, split=split, **options)


def test_an_environment_can_be_named_by_its_id():
    """The built-in world, as registered."""
    check_same_episodes("ReRe-Games-v0", slate_size=2, num_envs=2, num_episodes=1)


def test_any_function_of_the_observation_is_a_policy():
    """It is asked with arrays of one row, as its own library would be with many."""
    task, shapes = successor().task, set()
    table = np.random.default_rng(0).random((13, task.title_tokens.num_tokens))

    def by_last_title(observation):
        shapes.add(observation["history"].shape)
        return table[observation["history"][:, -1]]

    check_same_episodes(task, by_last_title, slate_size=1)
    assert shapes == {(1, 3)}


class Tampered:
    """A source that passes on what the vector environment shows, but for one thing."""

    def __init__(self, task, what):
        self.source = NativeSource("ReRe-Games-v0", 3, mode="SameStep", task=task, slate_size=2)
        self.what = what

    def reset(self, seed):
        """Begin, perhaps with another seed."""
        return self.source.reset(seed + (self.what == "seed"))

    def action_masks(self):
        """Return the masks, or all ones."""
        masks = self.source.action_masks()
        return np.ones_like(masks) if self.what == "masks" else masks

    def step(self, actions):
        """Act and change what is told."""
        return [self.tamper(moment) for moment in self.source.step(actions)]

    def tamper(self, moment):
        """Change one thing."""
        observation, reward, terminated, truncated, info = moment.step
        if self.what == "rewards":
            reward += 1
        if self.what == "end" and terminated:
            terminated, truncated = False, True
        if self.what == "last_info" and terminated:
            info = {**info, "target_rank": 9}
        if self.what == "prefix":
            observation = {**observation, "prefix": observation["prefix"] * 0}
        return moment._replace(step=(observation, reward, terminated, truncated, info))


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("seed", "mine differs from gym.make in row 0, episode 0: `history` of observation 0"),
        ("prefix", "`prefix` of observation 1"),
        ("masks", "what is legal in step 0"),
        ("rewards", "`rewards` is"),
        ("end", "`end` is truncated, not terminated"),
        ("last_info", "`last_info` is .*'target_rank': 9"),
    ],
)
def test_a_surface_that_shows_something_else_is_found(what, message):
    """Each thing that a surface hands on is compared."""
    task = ordered_slates().task
    with pytest.raises(AssertionError, match=message):
        check_same_episodes(task, sources={"mine": Tampered(task, what)}, slate_size=2)


def test_the_default_policy_is_fixed_by_the_observation_and_the_seed():
    """Equal rows score alike, other seeds otherwise."""
    row = {key: np.arange(3)[None] for key in ("history", "slate", "prefix")}
    first = hashed_policy(4, seed=0)(row)
    assert first.shape == (1, 4)
    np.testing.assert_array_equal(first, hashed_policy(4, seed=0)(row))
    assert (first != hashed_policy(4, seed=1)(row)).all()


def test_a_split_smaller_than_the_draw_is_taken_whole():
    """Eight examples are enough."""
    rows = TASK.split("test").take(slice(8))
    small = replace(TASK, dataset=replace(TASK.dataset, splits={"test": rows}))
    check_recommender(Counter(TASK), small)
