"""Text to token ids and back. The only place where text becomes tokens.

A tokenizer owns its completion template: what a policy writes for a title (the bare title, or
the paper's `"title"` and a line break). Knows nothing of catalogues, tries or users.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

__all__ = ["HFTokenizer", "Tokenizer", "WordTokenizer", "refuse_special_text", "saved_form"]


PROMPTS = ("compact", "instruction")
"""The forms of a prompt that `rere.json` may name."""


class Tokenizer(Protocol):
    """What the catalogue and the prompts need from a tokenizer."""

    @property
    def vocab_size(self) -> int:
        """Number of ids, special tokens included."""
        ...

    @property
    def eos_id(self) -> int:
        """Id that ends every completion."""
        ...

    @property
    def prompt_prefix(self) -> list[int]:
        """Ids that open every prompt (the BOS token of a model that has one)."""
        ...

    def encode(self, text: str) -> list[int]:
        """Encode text as it stands, without special tokens."""
        ...

    def encode_completions(self, titles: Sequence[str]) -> list[list[int]]:
        """Encode what the policy writes for each title; every row ends with `eos_id`."""
        ...

    def decode_completion(self, ids: Sequence[int]) -> str:
        """Return the title behind the ids of a completion, EOS included or not."""
        ...


class WordTokenizer:
    """One token a word, split on single spaces, so that every title round-trips exactly.

    Built in, offline and dependency-free: the default of the environments. Id 0 is EOS.
    """

    def __init__(self, words: Iterable[str]) -> None:
        """Number the words from 1 in the order given, each once."""
        self.prompt_prefix: list[int] = []
        self.words: tuple[str, ...] = ("<eos>", *dict.fromkeys(words))
        self._ids = {word: i for i, word in enumerate(self.words) if i > 0}

    @classmethod
    def from_titles(cls, titles: Iterable[str]) -> "WordTokenizer":
        """Take every word of the titles, in order of first appearance."""
        return cls(word for title in titles for word in title.split(" "))

    @property
    def vocab_size(self) -> int:
        """Number of words plus EOS."""
        return len(self.words)

    @property
    def eos_id(self) -> int:
        """Id of EOS, always 0."""
        return 0

    def encode(self, text: str) -> list[int]:
        """Return one id a word.

        Raises:
            ValueError: A word is not in the vocabulary.
        """
        try:
            return [self._ids[word] for word in text.split(" ")]
        except KeyError as missing:
            raise ValueError(
                f"the word {missing.args[0]!r} of {text!r} is not in the vocabulary of "
                f"{len(self._ids)} words; build the WordTokenizer from the titles it must encode "
                "(`WordTokenizer.from_titles(titles)`) or use a subword tokenizer."
            ) from None

    def encode_completions(self, titles: Sequence[str]) -> list[list[int]]:
        """Return the words of each title and EOS."""
        return [[*self.encode(title), self.eos_id] for title in titles]

    def decode_completion(self, ids: Sequence[int]) -> str:
        """Join the words with single spaces; EOS is dropped."""
        return " ".join(self.words[i] for i in ids if i != self.eos_id)


class HFTokenizer:
    """A Hugging Face tokenizer; transformers is imported when one is loaded."""

    def __init__(self, tokenizer: Any, *, completion_template: str = "{title}") -> None:  # noqa: ANN401 - a transformers object
        r"""Wrap a loaded tokenizer.

        Args:
            tokenizer: A `transformers.PreTrainedTokenizerBase`.
            completion_template: Text around `{title}`; the paper's prompt wants '"{title}"\n'.

        Raises:
            ValueError: The template lacks `{title}`, or the tokenizer has no EOS token.
        """
        if completion_template.count("{title}") != 1:
            raise ValueError(
                f"`completion_template` (={completion_template!r}) must hold '{{title}}' once."
            )
        if tokenizer.eos_token_id is None:
            raise ValueError(
                f"the tokenizer {tokenizer.name_or_path!r} has no EOS token, which must end every "
                "title; set `tokenizer.eos_token` to one of its tokens."
            )
        self.tokenizer = tokenizer
        self.completion_template = completion_template

    @classmethod
    def from_pretrained(
        cls, name_or_path: str | Path, *, completion_template: str | None = None
    ) -> "HFTokenizer":
        """Load by hub id or local folder (no remote code).

        Args:
            name_or_path: A hub id, or a folder.
            completion_template: Default: what the folder's `rere.json` says, else the bare title.

        Raises:
            ImportError: transformers is not installed; the message names the extra.
        """
        try:
            from transformers import AutoTokenizer, PreTrainedTokenizerFast
        except ImportError as error:
            raise ImportError(
                "HFTokenizer needs transformers: pip install 'rere-env[llm]'."
            ) from error
        form = saved_form(name_or_path)
        # AutoTokenizer gives a Qwen2 folder Qwen's own pre-tokenizer, whatever tokenizer.json says.
        loader = PreTrainedTokenizerFast if form.get("prompt") == "compact" else AutoTokenizer
        if completion_template is None:
            completion_template = form.get("completion_template", "{title}")
        return cls(
            loader.from_pretrained(str(name_or_path), trust_remote_code=False),
            completion_template=completion_template,
        )

    @property
    def vocab_size(self) -> int:
        """Number of ids, added tokens included."""
        return len(self.tokenizer)

    @property
    def eos_id(self) -> int:
        """Id of the tokenizer's EOS token."""
        return int(self.tokenizer.eos_token_id)

    def content_hash(self) -> str:
        """Return the sha256 of the vocabulary, its rules and the template."""
        fast = getattr(self.tokenizer, "backend_tokenizer", None)
        rules = sorted(self.tokenizer.get_vocab().items()) if fast is None else fast.to_str()
        form = [rules, self.completion_template, self.eos_id]
        return hashlib.sha256(json.dumps(form).encode()).hexdigest()

    @property
    def prompt_prefix(self) -> list[int]:
        """What the tokenizer itself puts before text, less a closing EOS."""
        ids = list(self.tokenizer.encode("", add_special_tokens=True))
        return ids[:-1] if ids and ids[-1] == self.eos_id != self.tokenizer.bos_token_id else ids

    def encode(self, text: str) -> list[int]:
        """Encode text as it stands, without special tokens."""
        return list(self.tokenizer.encode(text, add_special_tokens=False))

    def encode_completions(self, titles: Sequence[str]) -> list[list[int]]:
        """Encode each title in its template and close it with EOS.

        Raises:
            ValueError: A title holds the text of a special token, which would be read as one.
        """
        if not titles:
            return []
        refuse_special_text(titles, self._special_text())
        texts = [self.completion_template.replace("{title}", title) for title in titles]
        rows = self.tokenizer(texts, add_special_tokens=False)["input_ids"]
        return [[*row, self.eos_id] for row in rows]

    def _special_text(self) -> set[str]:
        """Return the texts that the tokenizer reads as special tokens, wherever they stand."""
        added = getattr(self.tokenizer, "added_tokens_decoder", {}).values()
        return {token.content for token in added if token.special}

    def decode_completion(self, ids: Sequence[int]) -> str:
        """Decode and take the title out of the template."""
        text = self.tokenizer.decode(
            [i for i in ids if i != self.eos_id],
            skip_special_tokens=False,
            clean_up_tokenization_spaces=False,
        )
        before, after = self.completion_template.split("{title}")
        return str(text).removeprefix(before).removesuffix(after)


def refuse_special_text(titles: Sequence[str], special: Iterable[str]) -> None:
    """Refuse titles that would end a prompt, or say who speaks, instead of being read.

    Raises:
        ValueError: A title holds the text of a special token.
    """
    found = re.compile("|".join(map(re.escape, sorted(special, key=len, reverse=True))) or "(?!)")
    for row, title in enumerate(titles):
        if match := found.search(title):
            raise ValueError(
                f"title {row}, {title!r}, must not hold {match[0]!r}, which the tokenizer reads as "
                "a special token and not as text; rename the title in the items file."
            )


def saved_form(folder: str | Path) -> dict[str, str]:
    """Return how a folder of `rere train` writes prompts and titles; empty for any other.

    Raises:
        ValueError: Its `rere.json` is damaged, or of another version.
    """
    marker = Path(folder) / "rere.json"
    if not marker.is_file():
        return {}
    remedy = "put back the file that `rere train` wrote"
    try:
        form = json.loads(marker.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{marker} is damaged: it is not JSON ({error}); {remedy}.") from error
    if not isinstance(form, dict) or form.keys() != {"prompt", "completion_template"}:
        raise ValueError(
            f"{marker} must be an object of `prompt` and `completion_template`; {remedy}."
        )
    if form["prompt"] not in PROMPTS:
        raise ValueError(
            f"{marker}: `prompt` (={form['prompt']!r}) must be one of {list(PROMPTS)}; {remedy}."
        )
    template = form["completion_template"]
    if not isinstance(template, str) or template.count("{title}") != 1:
        raise ValueError(
            f"{marker}: `completion_template` (={template!r}) must hold '{{title}}' once; {remedy}."
        )
    return form
