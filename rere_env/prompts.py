"""History -> prompt token ids. A prompt is a function of item ids; templates are values.

Prompts and titles are tokenised apart and joined as ids, never as text. One fixed template serves
training and test alike (the released code draws one at random per row, at test time too).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from rere_env.catalogue import Catalogue, TitleTokens
from rere_env.filters import Hidden
from rere_env.tokenizer import Tokenizer
from rere_env.types import IntArray

__all__ = [
    "PAPER_TEMPLATE",
    "InstructionTemplate",
    "Prompt",
    "Prompts",
    "compact_prompt",
    "instruction_prompt",
]

Prompt: TypeAlias = Callable[[Sequence[int]], list[int]]
"""`history item ids, oldest first -> model token ids` (at least one)."""


@dataclass(frozen=True, slots=True, eq=False)
class Prompts:
    """What a policy reads for B examples, and what it may not write for them.

    Attributes:
        ids: B prompts of model token ids, of any lengths.
        hidden: Titles that each may not be shown; None: nothing is hidden.
        targets: [B] int64 title ids of the answers; None where nobody knows them.

    >>> prompts = Prompts([[7, 8], [9]], hidden=Hidden.from_lists([[0], [1, 2]]))
    >>> len(prompts), prompts.lengths.tolist(), prompts.take([1]).hidden.of(0).tolist()
    (2, [2, 1], [1, 2])
    """

    ids: Sequence[Sequence[int]]
    hidden: Hidden | None = field(default=None, kw_only=True)
    targets: IntArray | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        """Check that the parts belong together."""
        if self.hidden is not None and self.hidden.num_rows != len(self.ids):
            raise ValueError(
                f"`hidden` (of {self.hidden.num_rows}) needs the title ids of each of the "
                f"{len(self.ids)} prompts; an empty row hides nothing."
            )
        if self.targets is not None and np.shape(self.targets) != (len(self.ids),):
            raise ValueError(
                f"`targets` of shape {np.shape(self.targets)} must hold one title id for each of "
                f"the {len(self.ids)} prompts."
            )

    @classmethod
    def joined(cls, parts: "Sequence[Prompts]") -> "Prompts":
        """Return the prompts of several batches of one task, one after the other."""
        hidden = [part.hidden for part in parts if part.hidden is not None]
        targets = [part.targets for part in parts if part.targets is not None]
        return cls(
            [ids for part in parts for ids in part.ids],
            hidden=Hidden.joined(hidden) if hidden else None,
            targets=np.concatenate(targets) if targets else None,
        )

    def __len__(self) -> int:
        """Return B."""
        return len(self.ids)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """[B] tokens of each prompt."""
        return np.array([len(ids) for ids in self.ids], np.int64)

    def take(self, rows: Sequence[int] | IntArray) -> "Prompts":
        """Select prompts, in the order given."""
        index = np.asarray(rows, np.int64)
        return Prompts(
            [self.ids[row] for row in index.tolist()],
            hidden=None if self.hidden is None else self.hidden.take(index),
            targets=None if self.targets is None else self.targets[index],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class InstructionTemplate:
    """A text around the history.

    Attributes:
        text: Holds `{history}` once; `{category}` is filled in if present.
        item: How one title is written, with `{title}`.
        separator: What stands between two titles.
        category: The word for the items, plural.
        completion: What the policy writes, with `{title}`.
    """

    text: str
    item: str = '"{title}"'
    separator: str = ", "
    category: str = "items"
    completion: str = '"{title}"\n'

    def __post_init__(self) -> None:
        """Check the place-holders."""
        for name, value, need in (
            ("text", self.text, "{history}"),
            ("item", self.item, "{title}"),
            ("completion", self.completion, "{title}"),
        ):
            if value.count(need) != 1:
                raise ValueError(f"`{name}` (={value!r}) must hold {need!r} exactly once.")

    def render(self, titles: Sequence[str]) -> str:
        """Return the prompt text for a history of titles."""
        history = self.separator.join(self.item.replace("{title}", title) for title in titles)
        return self.text.replace("{category}", self.category).replace("{history}", history)


PAPER_TEMPLATE = InstructionTemplate(
    # The structure of the paper's prompt (Alpaca form); wording our own.
    text=(
        "Below is an instruction that describes a task, paired with an input that provides "
        "further context. Write a response that completes the request.\n\n"
        "### Instruction:\nGiven the {category} a user chose, oldest first, "
        "write the title of the one the user will choose next.\n\n"
        "### Input:\n{history}\n\n"
        "### Response:\n"
    ),
)
"""Instruction, input, response: the form that pre-trained models get."""


def compact_prompt(catalogue: Catalogue, tokens: TitleTokens, tokenizer: Tokenizer) -> Prompt:
    """Return the prompt of models trained from scratch: titles, each closed by EOS.

    The separator is the very EOS that ends a completion, so a user's whole history with the next
    title is one plain sequence, and the training windows of a user are prefixes of each other.
    """
    start = tokenizer.prompt_prefix or [tokenizer.eos_id]
    return _CompactPrompt(catalogue=catalogue, tokens=tokens, start=tuple(start))


def instruction_prompt(
    catalogue: Catalogue, tokenizer: Tokenizer, template: InstructionTemplate = PAPER_TEMPLATE
) -> Prompt:
    """Return a prompt in words, for pre-trained models."""
    return _InstructionPrompt(catalogue=catalogue, tokenizer=tokenizer, template=template)


# Classes and not closures: environments hold prompts, and environments are pickled.
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _CompactPrompt:
    catalogue: Catalogue
    tokens: TitleTokens
    start: tuple[int, ...]

    def __call__(self, history: Sequence[int]) -> list[int]:
        ids = list(self.start)
        for item in history:
            title = int(self.catalogue.item_title[item])
            ids += self.tokens.model_ids(title).tolist()
        return ids


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _InstructionPrompt:
    catalogue: Catalogue
    tokenizer: Tokenizer
    template: InstructionTemplate

    def __call__(self, history: Sequence[int]) -> list[int]:
        titles = [self.catalogue.titles[self.catalogue.item_title[item]] for item in history]
        text = self.template.render(titles)
        return [*self.tokenizer.prompt_prefix, *self.tokenizer.encode(text)]
