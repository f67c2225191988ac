"""`raster`: pixels. What is drawn where, not how each letter looks."""

import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rere_env import ReReEnv
from rere_env.render.raster import BAR, BAR_END, LEFT_END, MARGIN, RIGHT, raster
from rere_env.render.scene import Scene, printable

WHITE = 255
EMPTY = Scene(history=(), history_length=10, slate=(), slate_size=16, prefix="")
FULL = replace(
    EMPTY,
    history=tuple(f"history {n} " + "long title " * 30 for n in range(10)),
    slate=tuple(f"slate {n} " + "W" * 300 for n in range(15)),
    prefix="a title in the making " * 20,
    continuations=tuple(("token" * 20, 1_000_000 - n) for n in range(12)),
    num_continuations=5_000,
    num_remaining=123_456_789,
)
HIT = replace(
    FULL,
    slate=(*FULL.slate, "the target " * 30),
    continuations=(),
    target="the target " * 30,
    target_rank=16,
)
MISS = replace(HIT, target_rank=0)
ILLEGAL = replace(MISS, slate=FULL.slate[:3], illegal=True)


RED, GREEN = 0, 1


def stands_out(picture, channel):
    """Where one channel is clearly stronger than both others."""
    rest = np.delete(picture, channel, axis=2).max(axis=2)
    return picture[..., channel] > rest.astype(int) + 10


def panel(picture):
    """The right column, below the line of the header."""
    return picture[90:, RIGHT:]


def assert_nothing_outside(picture):
    """The margins, the gutter between the columns and the space below are paper."""
    assert (picture[:24] == WHITE).all()
    assert (picture[-MARGIN // 2 :] == WHITE).all()
    lean = 4  # pixels by which a letter may reach beyond its measure
    assert (picture[:, : MARGIN - lean] == WHITE).all()
    assert (picture[:, lean - MARGIN :] == WHITE).all()
    assert (picture[90:, LEFT_END + lean : RIGHT - lean] == WHITE).all()


@pytest.mark.parametrize("scene", [EMPTY, FULL, HIT, MISS, ILLEGAL], ids="EFHMI")
def test_nothing_is_drawn_outside_its_place(scene):
    """Ten histories, sixteen ranks, titles of hundreds of letters: all cut to their columns."""
    picture = raster(scene)
    assert picture.dtype == np.uint8
    assert picture.shape == raster(FULL).shape
    assert_nothing_outside(picture)


@settings(max_examples=15)
@given(st.lists(st.text(max_size=120), min_size=4, max_size=4))
def test_any_text_can_be_drawn(texts):
    """What the font lacks gets a box; nothing crashes or leaves its place."""
    one, two, three, four = map(printable, texts)
    writing = replace(EMPTY, history=(one,), slate=(two,), prefix=three, continuations=((four, 1),))
    assert_nothing_outside(raster(writing))
    assert_nothing_outside(raster(replace(writing, target=two, target_rank=1)))


def test_every_step_changes_the_picture_and_nothing_else_does(tiny_task):
    """One size; a new picture for each state, the same for the same state, never the same array."""
    env = ReReEnv(tiny_task, slate_size=3, render_mode="rgb_array")
    env.reset(options={"example": 0})
    pictures = [env.render()]
    for title in (3, 0, 5):
        for token in tiny_task.title_tokens[title]:
            env.step(int(token))
            pictures.append(env.render())
            again = env.render()
            np.testing.assert_array_equal(pictures[-1], again)
            assert not np.shares_memory(pictures[-1], again)
    assert len({picture.tobytes() for picture in pictures}) == len(pictures)
    assert {picture.shape for picture in pictures} == {pictures[0].shape}
    assert all(size % 2 == 0 for size in pictures[0].shape[:2])  # video codecs want it


def test_a_hit_is_green_and_a_miss_is_red():
    """Where the target is shown, and nothing of the other colour there."""
    hit = panel(raster(HIT))
    assert stands_out(hit, GREEN).mean() > 0.1
    assert not stands_out(hit, RED).any()
    for scene in (MISS, ILLEGAL):
        miss = panel(raster(scene))
        assert stands_out(miss, RED).mean() > 0.1
        assert not stands_out(miss, GREEN).any()


def test_only_the_line_of_the_target_is_green():
    """The rank is seen at a glance: no green line for a miss, one for a hit, at its place."""
    miss, first, last = (
        np.flatnonzero(stands_out(raster(scene)[:, :LEFT_END], GREEN).any(axis=1))
        for scene in (MISS, replace(HIT, target_rank=1), HIT)
    )
    assert len(miss) == 0
    assert len(first) == len(last) == np.ptp(last) + 1 == 24
    assert last[0] - first[0] == 15 * 24


def test_more_titles_make_a_longer_bar():
    """Bars are in proportion to their counts."""
    picture = raster(replace(EMPTY, continuations=(("a", 80), ("b", 40), ("c", 10))))
    lengths = (picture[90:, BAR:BAR_END] == (0xA9, 0xC9, 0xF3)).all(axis=2).sum(axis=1)
    bars = np.split(lengths, np.flatnonzero(np.diff(lengths > 0)) + 1)[1::2]
    assert [bar.max() * 80 / bars[0].max() for bar in bars] == pytest.approx([80, 40, 10], abs=1)


def test_without_pillow_the_extra_is_named(monkeypatch):
    """An ImportError that says what to install."""
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=r"pip install 'rere-env\[render\]'"):
        raster(EMPTY)
