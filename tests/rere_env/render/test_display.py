"""Render modes as Gymnasium and its wrappers use them."""

import io
from contextlib import redirect_stdout

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.wrappers import RecordVideo, RenderCollection
from gymnasium.wrappers.vector import RecordVideo as RecordVectorVideo
from imageio_ffmpeg import count_frames_and_secs

from rere_env import ReReEnv, ReReVectorEnv
from rere_env.render.display import RENDER_MODES, show

GAMES = "ReRe-Games-v0"


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        """Say so."""
        return True


@pytest.fixture
def terminal(monkeypatch):
    """A terminal in an environment that wants colour."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return Terminal()


def play(env, rng, steps):
    """Take random legal steps, beginning anew after an end."""
    env.reset(seed=0)
    for _ in range(steps):
        *_, terminated, truncated, _ = env.step(env.unwrapped.candidates().sample(rng)[0])
        if terminated or truncated:
            env.reset()


@pytest.mark.parametrize("mode", RENDER_MODES)
def test_the_checkers_accept_every_mode(mode):
    """`check_env` and the passive checker of `gym.make` find nothing to say."""
    env = gym.make(GAMES, slate_size=2, render_mode=mode)
    check_env(env.unwrapped)
    play(env, np.random.default_rng(0), 5)
    env.render()
    env.close()


def test_rendering_without_a_mode_warns(tiny_task):
    """As in Gymnasium's own environments."""
    env = ReReEnv(tiny_task, slate_size=1)
    env.reset(seed=0)
    with pytest.warns(UserWarning, match="render_mode='ansi', 'human' or 'rgb_array'"):
        assert env.render() is None


@pytest.mark.parametrize("mode", ["ansi", "rgb_array"])
def test_a_vector_gives_one_picture_a_row(tiny_task, mode):
    """A tuple, equal to that of `SyncVectorEnv`."""
    rng = np.random.default_rng(0)
    native = ReReVectorEnv(3, tiny_task, slate_size=2, render_mode=mode)
    sync = gym.vector.SyncVectorEnv(
        [lambda: ReReEnv(tiny_task, slate_size=2, render_mode=mode)] * 3
    )
    for envs in (native, sync):
        envs.reset(seed=0)
    for _ in range(6):
        actions = native.candidates().sample(rng)
        for envs in (native, sync):
            envs.step(actions)
        ours, theirs = native.render(), sync.render()
        assert isinstance(ours, tuple)
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(a, b)


def test_human_rendering_needs_no_call(tiny_task, capsys):
    """`reset` and `step` print the picture; `render` returns None."""
    env = ReReEnv(tiny_task, slate_size=1, render_mode="human")
    env.reset(options={"example": 0})
    assert capsys.readouterr().out.endswith("   1 _\n" + NEXT)
    env.step(int(tiny_task.title_tokens[5][0]))
    assert "   1 Dog_\n" in capsys.readouterr().out
    assert env.render() is None
    assert "   1 Dog_\n" in capsys.readouterr().out


NEXT = """\
next token, with the titles it leaves of 8
      3 Star                    2 Moon                    2 Pinball
      1 Dog
"""


def test_human_rendering_of_a_vector_shows_every_row(tiny_task, capsys):
    """One below the other, at `reset` and at `step`."""
    envs = ReReVectorEnv(2, tiny_task, slate_size=1, render_mode="human")
    envs.reset(options={"example": [0, 5]})
    assert capsys.readouterr().out.count("history, oldest first") == 2
    envs.step(envs.candidates().sample(np.random.default_rng(0)))
    assert capsys.readouterr().out.count("history, oldest first") == 2


def test_a_terminal_is_redrawn_in_place_and_in_colour(tiny_task, terminal):
    """The cursor goes home, and what is left of an earlier picture is cleared."""
    env = ReReEnv(tiny_task, slate_size=1, render_mode="human")
    with redirect_stdout(terminal):
        env.reset(options={"example": 0})
    text = terminal.getvalue()
    assert text.startswith("\x1b[H\x1b[1mhistory\x1b[0m")
    assert text.endswith("\x1b[J")
    assert text.count("\x1b[K\n") == text.count("\n")


def test_no_color_is_respected(tiny_task, terminal, monkeypatch):
    """NO_COLOR keeps colours away, not the redrawing."""
    monkeypatch.setenv("NO_COLOR", "1")
    env = ReReEnv(tiny_task, slate_size=1, render_mode="human")
    with redirect_stdout(terminal):
        env.reset(options={"example": 0})
    assert terminal.getvalue().startswith("\x1b[Hhistory, oldest first\x1b[K\n")


def test_a_dumb_terminal_gets_plain_text(terminal, monkeypatch):
    """No escape codes where they would be printed."""
    monkeypatch.setenv("TERM", "dumb")
    show("one\ntwo\n", terminal)
    assert terminal.getvalue() == "one\ntwo\n"


def test_a_stream_that_cannot_encode_a_title_still_shows_it():
    """A question mark for each lost character, no crash."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    show("Pokémon ゼルダ\n", stream)
    stream.seek(0)
    assert stream.read() == "Pok?mon ???\n"


def test_record_video_films_an_episode(tmp_path):
    """One frame for the reset and one for each step, at the declared rate."""
    env = gym.make(GAMES, slate_size=1, render_mode="rgb_array")
    env = RecordVideo(env, str(tmp_path / "video"))
    _, info = env.reset(seed=0)
    steps, over = 0, False
    while not over:
        action = env.action_space.sample(info["action_mask"])
        _, _, over, _, info = env.step(action)
        steps += 1
    env.close()
    [file] = (tmp_path / "video").glob("*.mp4")
    frames, seconds = count_frames_and_secs(str(file))
    assert frames == steps + 1
    assert seconds == pytest.approx(frames / 4, abs=0.3)


def test_record_video_films_a_vector(tiny_task, tmp_path):
    """All rows in one picture."""
    envs = ReReVectorEnv(2, tiny_task, slate_size=1, render_mode="rgb_array")
    filmed = RecordVectorVideo(
        envs, str(tmp_path / "video"), video_length=3, step_trigger=lambda step: step == 0
    )
    filmed.reset(seed=0)
    for _ in range(5):
        filmed.step(envs.candidates().sample(np.random.default_rng(0)))
    filmed.close()
    [file] = (tmp_path / "video").glob("*.mp4")
    assert count_frames_and_secs(str(file))[0] == 4


@pytest.mark.parametrize("mode", ["ansi", "rgb_array"])
def test_render_collection_collects(tiny_task, mode):
    """One picture a step, all different, and the class's own modes stay as they are."""
    env = RenderCollection(ReReEnv(tiny_task, slate_size=1, render_mode=mode))
    env.reset(seed=0)
    for token in tiny_task.title_tokens[0]:
        env.step(int(token))
    pictures = [np.asarray(picture).tobytes() for picture in env.render()]
    assert len(set(pictures)) == len(pictures) == 1 + len(tiny_task.title_tokens[0])
    assert ReReEnv.metadata["render_modes"] == list(RENDER_MODES)
