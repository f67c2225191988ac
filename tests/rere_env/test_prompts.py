"""Histories to prompt ids."""

import pickle

import numpy as np
import pytest

from rere_env.filters import Hidden
from rere_env.prompts import InstructionTemplate, Prompts, compact_prompt, instruction_prompt


class Letters:
    """A tokenizer whose ids are code points, with a BOS."""

    vocab_size, eos_id, prompt_prefix = 0x110000, 0, [1]

    def encode(self, text):
        """Return code points."""
        return [ord(letter) for letter in text]


def test_the_compact_prompt_is_titles_closed_by_eos(tiny_task):
    """EOS opens the prompt and closes each title: a prefix of the longer history's prompt."""
    prompt = compact_prompt(tiny_task.catalogue, tiny_task.title_tokens, tiny_task.tokenizer)
    encode = tiny_task.tokenizer.encode
    assert prompt([0, 5]) == [0, *encode("Star Quest"), 0, *encode("Dog Show"), 0]
    assert prompt([0, 5])[: len(prompt([0]))] == prompt([0])
    assert prompt([]) == [0]


def test_the_instruction_prompt_reads_like_text(tiny_task):
    """Titles are quoted and joined; the tokenizer's own prefix comes first."""
    template = InstructionTemplate(text="Chose {category}: {history}. Next: ", category="games")
    prompt = instruction_prompt(tiny_task.catalogue, Letters(), template)
    ids = prompt([0, 5])
    assert ids[0] == 1
    assert "".join(map(chr, ids[1:])) == 'Chose games: "Star Quest", "Dog Show". Next: '


def test_braces_in_titles_are_left_alone():
    """A title is data, not a format string."""
    template = InstructionTemplate(text="{history}")
    assert template.render(["{category} {title}"]) == '"{category} {title}"'


@pytest.mark.parametrize("field", ["text", "item", "completion"])
def test_a_template_without_its_place_holder_is_an_error(field):
    """The field and the place-holder are named."""
    with pytest.raises(ValueError, match=f"`{field}` .* exactly once"):
        InstructionTemplate(**{"text": "{history}", field: "nothing"})


def test_prompts_can_be_pickled(tiny_task):
    """Environments hold them, and environments go to other processes."""
    prompt = pickle.loads(pickle.dumps(tiny_task.prompt))
    assert prompt([0, 5]) == tiny_task.prompt([0, 5])


PROMPTS = Prompts(
    [[7, 8], [9], [5, 6, 7]],
    hidden=Hidden.from_lists([[0], [], [2, 1]]),
    targets=np.array([3, 4, 5]),
)


def test_prompts_are_taken_with_what_belongs_to_them():
    """In the order given."""
    taken = PROMPTS.take([2, 0])
    assert taken.ids == [[5, 6, 7], [7, 8]]
    assert [taken.hidden.of(row).tolist() for row in range(2)] == [[1, 2], [0]]
    assert taken.targets.tolist() == [5, 3]
    assert taken.lengths.tolist() == [3, 2]


def test_joined_prompts_are_the_prompts_of_both():
    """What was taken apart comes together again."""
    joined = Prompts.joined([PROMPTS.take([0, 1]), PROMPTS.take([2])])
    assert joined.ids == PROMPTS.ids
    assert joined.hidden.titles.tolist() == PROMPTS.hidden.titles.tolist()
    assert joined.hidden.indptr.tolist() == PROMPTS.hidden.indptr.tolist()
    assert joined.targets.tolist() == PROMPTS.targets.tolist()
    assert len(joined) == 3


def test_prompts_without_a_filter_hide_nothing():
    """None stays None."""
    plain = Prompts([[1], [2]])
    assert plain.take([1]).hidden is None
    assert Prompts.joined([plain, plain]).targets is None


def test_parts_of_one_filter_belong_together():
    """Some with and some without would shift the rows of the others."""
    with pytest.raises(ValueError, match="`hidden`"):
        Prompts.joined([PROMPTS, Prompts([[1]], targets=np.array([0]))])
    with pytest.raises(ValueError, match="`targets`"):
        Prompts.joined([PROMPTS, Prompts([[1]], hidden=Hidden.from_lists([[]]))])


def test_a_task_makes_prompts_with_its_filter(tiny_task):
    """Ids, hidden titles and targets of the same rows."""
    batch = tiny_task.split("train")
    prompts = tiny_task.with_exclude("history").prompts(batch)
    assert list(prompts.ids) == [tiny_task.prompt(example.history) for example in batch]
    assert prompts.targets.tolist() == batch.target_title.tolist()
    assert prompts.hidden.of(0).tolist() == [0, 1]
    assert tiny_task.prompts(batch).hidden is None
