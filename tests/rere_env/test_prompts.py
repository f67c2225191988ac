"""Histories to prompt ids."""

import pickle

import pytest

from rere_env.prompts import InstructionTemplate, compact_prompt, instruction_prompt


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
