"""`rere play`: lines in, pictures and a score out."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from types import SimpleNamespace

import numpy as np
import pytest

from agents.cli import main
from agents.commands import play as command
from agents.play.game import Game, play
from rere_env import Batch, ReReEnv, Task


@pytest.fixture
def game(animal_task: Task) -> Game:
    """Two titles to write for somebody with "red fox", "red fox runs", who took "red owl"."""
    return Game(ReReEnv(animal_task, split="test", slate_size=2, mask="lazy"), 0)


def feed(lines: Iterable[str]) -> Callable[[str], str]:
    """Read from a list, then end of file."""
    rest = iter(lines)

    def read(prompt: str) -> str:
        print(prompt, end="")
        try:
            return next(rest)
        except StopIteration:
            raise EOFError from None

    return read


def slate(game: Game) -> Sequence[str]:
    """The titles written so far."""
    return game.scene.slate


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["owl", "elk a"], ["owl", "elk at night"]),  # clear at once
        (["Red OWL", "red fox runs"], ["red owl", "red fox runs"]),  # any case, any number of words
        (["red", "owl", "blue", ""], ["red owl", "blue"]),  # word by word; Enter ends
        (["red fox", "", "red fox"], ["red fox", "red fox runs"]),  # the rest is forced
        (["e", "", "e"], ["elk", "elk at night"]),  # so is what an unclear title leaves
        (["o", "z", "elk", "at"], ["owl", "elk at night"]),  # what is illegal changes nothing
        (["  owl  ", "\telk", "elk at"], ["owl", "elk at night"]),  # spaces around are nothing
        (["red", "<", "owl", "red", "back", "elk", "at"], ["owl", "elk at night"]),
        (["owl", "<", "elk", "at", "blue", "fox"], ["elk at night", "blue fox"]),  # undo a title
    ],
)
def test_lines_become_titles(game: Game, lines: list[str], expected: list[str]) -> None:
    """What was typed is in the slate, and the game is over when it is full."""
    play(game, feed(lines))
    assert list(slate(game)) == expected
    assert game.outcome is not None


def test_a_number_picks_from_the_printed_list(game: Game, capsys) -> None:
    """The list stands under the picture from the start: here the third is "elk"."""
    play(game, feed(["3", "2", "q"]))
    out = capsys.readouterr().out
    assert "   1) red [3]       2) blue [2]      3) elk [2]\n   4) owl <end>\n" in out
    assert "   1) <end>              2) at night <end>" in out
    assert list(slate(game)) == ["elk at night"]


def test_a_number_that_is_a_word_is_a_word(dataset_of, capsys) -> None:
    """After "zoo", 2 continues the title; 3 is no word there, so it picks the third."""
    titles = ["zoo 2", "zoo 4", "zoo 5", "ant"]
    task = Task.build(dataset_of(titles, [((0,), 1)]))
    for line, expected in (("2", "zoo 2"), ("3", "zoo 5"), ("5", "zoo 5")):
        game = Game(ReReEnv(task, slate_size=2), 0)
        play(game, feed(["zoo", line]))
        assert list(slate(game)) == [expected]


def test_an_unclear_line_lists_what_may_follow(game: Game, capsys) -> None:
    """Every way to go on, with counts; a title that is decided is shown to its end."""
    play(game, feed(["red fox", "r"]))
    out = capsys.readouterr().out
    assert "next, with the titles it leaves of 2\n   1) <end>          2) runs <end>\n" in out


def test_an_illegal_line_says_so_and_lists_from_the_legal_part(game: Game, capsys) -> None:
    """After "red cat": red is right, so the foxes and the owl are listed."""
    play(game, feed(["red cat"]))
    out = capsys.readouterr().out.split("0 of 2")[-1]
    assert "No title that may still be written goes on with 'red cat'." in out
    assert "next, with the titles it leaves of 3\n   1) red fox [2]" in out


def test_a_written_title_is_offered_no_more(game: Game, capsys) -> None:
    """The slate holds distinct titles."""
    play(game, feed(["owl", "owl"]))
    assert "goes on with 'owl'" in capsys.readouterr().out
    assert list(slate(game)) == ["owl"]


@pytest.mark.parametrize("lines", [["owl", "q"], ["owl"]], ids=["q", "end of input"])
def test_quitting_scores_nothing(game: Game, lines: list[str], capsys) -> None:
    """An unfinished slate has no reward and the answer is not told."""
    play(game, feed(lines))
    out = capsys.readouterr().out
    assert out.endswith("Stopped; an unfinished slate has no score.\n")
    assert "target" not in out
    assert game.outcome is None


def test_interrupting_is_quitting(game: Game, capsys) -> None:
    """Control-C leaves no traceback."""

    def interrupted(prompt: str) -> str:
        raise KeyboardInterrupt

    play(game, interrupted)
    assert "Stopped" in capsys.readouterr().out


def test_help_explains_the_keys(game: Game, capsys) -> None:
    """Each key has a line."""
    play(game, feed(["?"]))
    out = capsys.readouterr().out
    assert all(f"\n  {key} " in out for key in ("words", "Tab", "Enter", "3", "<, back", "?", "q"))


def test_capital_letters_write_what_a_key_would_mean(dataset_of) -> None:
    """A title called "q" or "back" can be written."""
    task = Task.build(dataset_of(["q", "back", "owl"], [((0,), 1)]))
    game = Game(ReReEnv(task, slate_size=2), 0)
    play(game, feed(["Q", "BACK"]))
    assert list(slate(game)) == ["q", "back"]


def test_the_end_shows_target_rank_and_reward(game: Game, capsys) -> None:
    """The environment's reward, and no oracle where none is known."""
    play(game, feed(["owl", "red owl"]))
    out = capsys.readouterr().out
    assert "   2 red owl  <- the target\n" in out
    assert "   > red owl (hit, rank 2)\n" in out
    assert game.outcome is not None
    assert game.reward == pytest.approx(sum(game.outcome["item_rewards"]))
    assert out.endswith(f"\nreward {game.reward:.3f}\n")
    assert "oracle" not in out


def test_an_undone_title_costs_nothing(animal_task: Task) -> None:
    """Only the slate that is left counts."""
    rewards = []
    for lines in (["owl", "red owl"], ["elk at", "<", "blue fox", "<", "owl", "red owl"]):
        game = Game(ReReEnv(animal_task, split="test", slate_size=2), 0)
        play(game, feed(lines))
        rewards.append(game.reward)
    assert rewards[0] == rewards[1] > 0


class FirstTitles:
    """An oracle that believes in low numbers."""

    def recommend(self, examples: Batch, k: int) -> np.ndarray:
        """Return 0, 1, 2, ..."""
        return np.arange(k)[None]

    def probabilities(self, examples: Batch) -> np.ndarray:
        """Return a half, a quarter, ..."""
        return 0.5 ** np.arange(1, 9)[None]


def test_the_oracle_s_slate_stands_beside_the_person_s(game: Game, capsys) -> None:
    """With its reward, the chances of both, and a star at the target."""
    play(game, feed(["red owl", "owl"]), FirstTitles())  # type: ignore[arg-type]
    *_, first, second, rewards, chances = capsys.readouterr().out.splitlines()
    assert first.split() == ["1", "*", "red", "owl", "red", "fox"]
    assert second.split() == ["2", "owl", "red", "fox", "runs"]
    assert rewards.split() == ["reward", f"{game.reward:.3f}", "reward", "0.000"]
    assert chances.split()[-2:] == ["12.9%", "75.0%"]  # 1/8 + 1/256 and 1/2 + 1/4


def test_tab_completes_words_and_titles(game: Game) -> None:
    """Whole lines, with a space where more must follow; None after the last."""

    def all_of(typed: str) -> list[str | None]:
        return [game.tab(typed, state) for state in range(3)]

    assert all_of("r") == ["red ", None, None]
    assert all_of("red f") == ["red fox ", None, None]
    assert all_of("elk a") == ["elk at night", None, None]
    assert all_of("red ") == ["red fox ", "red owl ", None]
    assert all_of("x") == [None, None, None]


def test_tab_is_bound_through_readline(game: Game, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under GNU readline and libedit alike; without either the game still runs."""
    for doc, binding in (("GNU readline", "tab: complete"), ("libedit", "bind ^I rl_complete")):
        calls: dict[str, object] = {}
        fake = SimpleNamespace(
            __doc__=doc,
            set_completer=lambda f, calls=calls: calls.update(completer=f),
            set_completer_delims=lambda d, calls=calls: calls.update(delims=d),
            parse_and_bind=lambda b, calls=calls: calls.update(binding=b),
        )
        monkeypatch.setitem(sys.modules, "readline", fake)  # type: ignore[arg-type]
        command._complete_on_tab(game)
        assert calls == {"completer": game.tab, "delims": "", "binding": binding}
    monkeypatch.setitem(sys.modules, "readline", None)  # type: ignore[arg-type]
    command._complete_on_tab(game)


def run(lines: str, *flags: str) -> subprocess.CompletedProcess[str]:
    """`rere play` in a process of its own, fed through a pipe; ends with the libraries loaded."""
    code = (
        "import sys; from agents.cli import main; status = main(sys.argv[1:]); "
        "print('heavy', {'torch', 'transformers', 'accelerate', 'PIL'} & set(sys.modules)); "
        "sys.exit(status)"
    )
    return subprocess.run(
        [sys.executable, "-c", code, "play", *flags],
        input=lines,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        timeout=120,
    )


def test_a_game_of_the_built_in_world_through_a_pipe() -> None:
    """Numbers alone lead to a full slate; the oracle answers, and torch was never loaded."""
    process = run("1\n" * 60, "--slate-size", "2", "--example", "0")
    assert process.returncode == 0, process.stderr
    assert process.stderr == ""
    assert "\n1> 1\n" in process.stdout  # what came through the pipe is shown
    assert "you                                   the oracle" in process.stdout
    assert "chance of a hit" in process.stdout
    assert process.stdout.endswith(
        "This was example 0 of test: --example 0 asks it again.\nheavy set()\n"
    )


def test_a_seed_draws_the_same_example_again() -> None:
    """Nothing typed: the game stops and names its example."""
    first, second = (run("", "--seed", "7").stdout for _ in range(2))
    assert first == second
    assert "This was example" in first


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--split", "nosuch"], "must be one of"),
        (["--example", "4748"], r"must lie in 0..4747"),
        (["--slate-size", "0"], "at least 1"),
        (["--data", "no/such/folder"], "no/such/folder"),
    ],
)
def test_bad_flags_are_clear_errors(flags: list[str], message: str, capsys) -> None:
    """Status 2 and one line that says how to mend it."""
    assert main(["play", *flags]) == 2
    assert message in capsys.readouterr().err
