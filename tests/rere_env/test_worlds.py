"""The tiny worlds are what they say: targets, shares and optima."""

import numpy as np
import pytest

from rere_env.worlds import WORLDS, tiny_titles


@pytest.mark.parametrize("name", WORLDS)
def test_no_recommender_beats_the_optimum(name):
    """Who knows the rows by heart, history by history, reaches it and no more."""
    world = WORLDS[name]()
    rows = world.task.split("test")
    ideal = np.zeros((len(rows), world.slate_size), np.int64)
    for history in np.unique(rows.history, axis=0):
        same = (rows.history == history).all(axis=1)
        counts = np.bincount(rows.target_title[same], minlength=world.task.catalogue.num_titles)
        ideal[same] = np.argsort(-counts, kind="stable")[: world.slate_size]
    assert (ideal[:, 0] == rows.target_title).mean() == pytest.approx(world.hit_rate)
    paid = world.task.reward(ideal, rows).sum(axis=1).mean()
    assert paid == pytest.approx(world.reward, abs=1e-6)


@pytest.mark.parametrize("name", WORLDS)
def test_the_last_item_decides(name):
    """Rows with the same last item have the same wishes in the same shares."""
    rows = WORLDS[name]().task.split("train")
    wishes = {}
    for last in np.unique(rows.history[:, -1]):
        wanted = rows.target_title[rows.history[:, -1] == last]
        wishes[int(last)] = sorted(np.bincount(wanted)[np.unique(wanted)].tolist())
    assert len({tuple(shares) for shares in wishes.values()}) == 1


def test_every_world_is_the_same_twice_and_has_equal_splits():
    """Nothing is drawn anew."""
    for make in WORLDS.values():
        a, b = make().task, make().task
        np.testing.assert_array_equal(a.split("train").history, b.split("train").history)
        assert a.split("train") is a.split("test") is a.split("valid")


def test_tiny_titles_are_distinct_and_begin_each_other():
    """Some titles are prefixes of others: the end of a title is a decision."""
    titles = tiny_titles(125)
    assert len(set(titles)) == 125
    assert any(b.startswith(a + " ") for a in titles[:12] for b in titles[:12])
    for wrong in (0, 126):
        with pytest.raises(ValueError, match="`num_titles`"):
            tiny_titles(wrong)
