"""`scene` and `ansi`: what a picture says."""

from collections import Counter

import numpy as np
import pytest
from gymnasium.error import ResetNeeded

from rere_env import ReReEnv, Task
from rere_env.render.ansi import ansi, cut
from rere_env.render.scene import END, SHOWN, scene


def write(env, *titles):
    """Write whole titles."""
    for title in titles:
        for token in env.task.title_tokens[title]:
            env.step(int(token))


def scene_of(env):
    """The scene of an environment's row."""
    rows = env.surface.dynamics.new_rows(1)
    rows.restore(env.get_state()["rows"])
    return scene(env.surface.dynamics, rows, 0)


class Letters:
    """One token a letter (id = code point), EOS 0: words come in pieces."""

    vocab_size = 1_000
    eos_id = 0
    prompt_prefix = ()

    def encode(self, text):
        """Return the code points."""
        return [ord(char) for char in text]

    def encode_completions(self, titles):
        """Close each title with EOS."""
        return [[*self.encode(title), 0] for title in titles]

    def decode_completion(self, ids):
        """Join the letters."""
        return "".join(chr(i) for i in ids if i)


def test_the_picture_tells_the_story(tiny_task):
    """History, slate, the title so far, what may follow; in the end the target and its rank."""
    env = ReReEnv(tiny_task, slate_size=2, render_mode="ansi")
    env.reset(options={"example": 0})
    write(env, 5)
    env.step(int(tiny_task.title_tokens[0][0]))
    assert env.render() == (
        "history, oldest first\n"
        "   . Star Quest\n"
        "   . Star Quest II\n"
        "slate, best first (1 of 2)\n"
        "   1 Dog Show\n"
        "   2 Star_\n"
        "next token, with the titles it leaves of 3\n"
        "      2 Quest                   1 Farm\n"
    )
    for token in tiny_task.title_tokens[2][1:]:
        env.step(int(token))
    assert env.render().endswith(
        "slate, best first (2 of 2)\n"
        "   1 Dog Show\n"
        "   2 Star Farm  <- the target\n"
        "target\n"
        "   > Star Farm (hit, rank 2)\n"
    )


def test_a_miss_is_called_one(tiny_task):
    """The target is named even if the slate lacks it."""
    env = ReReEnv(tiny_task, slate_size=1, render_mode="ansi")
    env.reset(options={"example": 0})
    write(env, 5)
    assert env.render().endswith("target\n   > Star Farm (miss, not in the slate)\n")


@pytest.mark.parametrize("max_tokens", [None, 4])
def test_an_illegal_end_is_no_hit(tiny_task, max_tokens):
    """As the last info says: a slate that an illegal token ended counts for nothing."""
    env = ReReEnv(tiny_task, slate_size=2, render_mode="ansi", max_tokens=max_tokens)
    env.reset(options={"example": 1})
    write(env, 3)  # two words and the end; it is the target
    info = env.step(-1)[4]
    assert info["target_rank"] == 0
    assert env.render().endswith("   > Moon Racer (an illegal token ended the slate)\n")


def test_a_spent_budget_keeps_the_hit(tiny_task):
    """Truncation is no illegal end, not even in the middle of a title."""
    env = ReReEnv(tiny_task, slate_size=2, render_mode="ansi", max_tokens=4)
    env.reset(options={"example": 1})
    write(env, 3)
    info = env.step(int(tiny_task.title_tokens[0][0]))[4]
    assert info["target_rank"] == 1
    assert env.render().endswith("   > Moon Racer (hit, rank 1)\n")


def test_noops_are_no_illegal_end(tiny_task):
    """Under "noop" the slate stands, whatever was tried in between."""
    env = ReReEnv(tiny_task, slate_size=1, on_illegal="noop")
    env.reset(options={"example": 1})
    env.step(-1)
    write(env, 3)
    assert scene_of(env).target_rank == 1


def test_there_is_no_picture_before_the_first_reset(tiny_task):
    """It would show the answer of an example that nobody was asked."""
    with pytest.raises(ResetNeeded, match=r"before the first `reset\(\)`"):
        ReReEnv(tiny_task, slate_size=1, render_mode="ansi").render()


@pytest.mark.parametrize("seed", range(5))
def test_continuations_count_the_titles_that_remain(tiny_task, seed):
    """At every step: the next word of each title that starts so and is not in the slate."""
    env, rng = ReReEnv(tiny_task, slate_size=6), np.random.default_rng(seed)
    env.reset(seed=seed)
    over = False
    while not over:
        shown = scene_of(env)
        typed = shown.prefix.split()
        left = [title.split() for title in tiny_task.catalogue.titles if title not in shown.slate]
        left = [words for words in left if words[: len(typed)] == typed]
        expected = Counter([*words, END][len(typed)] for words in left)
        assert dict(shown.continuations) == expected
        counts = [count for _, count in shown.continuations]
        assert counts == sorted(counts, reverse=True)
        assert (shown.num_continuations, shown.num_remaining) == (len(expected), len(left))
        over = env.step(env.candidates().sample(rng)[0])[2]


def test_a_title_that_may_end_says_so(task_of):
    """However many tokens may follow, the end is among those shown."""
    task = task_of(["a", *(f"a {n} {m}" for n in range(20) for m in range(2))])
    env = ReReEnv(task, slate_size=1)
    env.reset(seed=0)
    env.step(int(task.title_tokens[0][0]))
    shown = scene_of(env)
    assert shown.continuations[-1] == (END, 1)
    assert len(shown.continuations) == SHOWN
    assert shown.num_hidden == 21 - SHOWN
    assert "        ... 9 more\n" in ansi(shown)


def test_model_ids_give_the_same_picture(dataset_of):
    """Actions are named differently, titles are not."""
    task = Task.build(dataset_of(), tokenizer=Letters())
    local, model = (
        ReReEnv(task, slate_size=2, token_ids=ids, render_mode="ansi") for ids in ("local", "model")
    )
    for env in (local, model):
        env.reset(options={"example": 0})
    for token in [*task.title_tokens[4], *task.title_tokens[0][:1]]:
        local.step(int(token))
        model.step(int(task.title_tokens.local_model[token]))
        assert local.render() == model.render()


def test_a_piece_of_a_word_is_shown_as_the_word_it_makes(dataset_of):
    """One letter a token: after "Star Q" comes "Qu"; a space alone is visible as nothing."""
    env = ReReEnv(Task.build(dataset_of(), tokenizer=Letters()), slate_size=1)
    env.reset(seed=0)
    seen = {}
    for token in env.task.title_tokens[0][:8]:
        seen[scene_of(env).prefix] = dict(scene_of(env).continuations)
        env.step(int(token))
    assert seen[""] == {"S": 3, "M": 2, "P": 2, "D": 1}
    assert seen["Sta"] == {"Star": 3}
    assert seen["Star"] == {"<blank>": 3}
    assert seen["Star "] == {"Q": 2, "F": 1}
    assert seen["Star Q"] == {"Qu": 2}


def test_control_characters_never_reach_the_screen(task_of):
    """A title cannot move the cursor or ring the bell."""
    task = task_of(["evil\x1b[2J\x07 \tquest", "plain"])
    env = ReReEnv(task, slate_size=2, render_mode="ansi")
    env.reset(options={"example": 0})
    text = env.render()
    write(env, 0, 1)
    for char in text + env.render():
        assert char.isprintable() or char == "\n"


def test_colour_adds_escape_codes_and_nothing_else(tiny_task):
    """Without them the text is the same."""
    env = ReReEnv(tiny_task, slate_size=1)
    env.reset(options={"example": 0})
    coloured = ansi(scene_of(env), color=True)
    assert "\x1b[1mhistory\x1b[0m" in coloured
    for code in ("1", "2", "1;32", "1;31", "0"):
        coloured = coloured.replace(f"\x1b[{code}m", "")
    assert coloured == ansi(scene_of(env))


def test_a_long_text_loses_its_end_or_its_beginning():
    """Never more than the width, and dots say so."""
    assert cut("abcdefgh", 8) == "abcdefgh"
    assert cut("abcdefghi", 8) == "abcde..."
    assert cut("abcdefghi", 8, keep_end=True) == "...efghi"
