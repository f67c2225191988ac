"""What a person may be about to type: the beginning of a title, completed to the next word.

Knows words and which of them may follow which; nothing of environments, terminals or keys.
Letters match in either case, and any number of spaces counts as one.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeAlias

from rere_env.trie import EOS

__all__ = ["Completion", "Legal", "complete", "follow", "pick"]

Path: TypeAlias = tuple[int, ...]
"""Local tokens from where the typing begins."""

Legal: TypeAlias = Callable[[Path], Sequence[tuple[int, int]]]
"""Path -> (token, titles that remain below it) of all that may follow; EOS ends a title."""


class Completion(NamedTuple):
    """One way to go on."""

    tokens: Path  # EOS last where the title ends
    text: str  # their words
    num_titles: int  # that may still be written and begin so

    @property
    def ends(self) -> bool:
        """Whether the title is complete."""
        return self.tokens[-1] == EOS


def complete(typed: str, words: Sequence[str], legal: Legal) -> list[Completion]:
    """Return every word that what was typed may be the beginning of: the end, then most titles.

    The end of the title is offered only where nothing was typed.

    Args:
        typed: Any number of words, the last one perhaps in part (a space after it: in full).
        words: The word of each local token; that of EOS is not read.
        legal: What may follow a path; the empty path is where the typing begins.
    """
    *whole, last = typed.casefold().split(" ")
    paths: list[Path] = [()]
    for word in filter(None, whole):
        paths = [
            found.tokens
            for path in paths
            for found in _next_words(path, words, legal)
            if not found.ends and words[found.tokens[-1]].casefold() == word
        ]
    found = [
        found
        for path in paths
        for found in _next_words(path, words, legal)
        if (not typed.strip(" ") if found.ends else _begins(words[found.tokens[-1]], last))
    ]
    return sorted(found, key=lambda one: (not one.ends, -one.num_titles))


def pick(typed: str, found: Sequence[Completion]) -> Completion | None:
    """Return the completion that is meant if the typing ends here, None if it is not clear.

    It is the only one, or the only one whose last word was typed in full.
    """
    last = typed.casefold().rstrip(" ").rpartition(" ")[2]
    full = [one for one in found if one.text.casefold().rpartition(" ")[2] == last]
    for candidates in (found, full):
        if len(candidates) == 1:
            return candidates[0]
    return None


def follow(start: Completion, words: Sequence[str], legal: Legal) -> Completion:
    """Go on for as long as a single token may follow, to the end of the title if it comes."""
    path, num_titles = start.tokens, start.num_titles
    while path[-1:] != (EOS,) and len(choices := legal(path)) == 1:
        [(token, num_titles)] = choices
        path = (*path, token)
    return _completion(path, words, num_titles)


def _next_words(path: Path, words: Sequence[str], legal: Legal) -> Iterator[Completion]:
    """Give each word that may follow a path, and the end; repeated spaces are empty words."""
    for token, num_titles in legal(path):
        longer = (*path, token)
        if token != EOS and not words[token]:
            yield from _next_words(longer, words, legal)
        else:
            yield _completion(longer, words, num_titles)


def _completion(path: Path, words: Sequence[str], num_titles: int) -> Completion:
    return Completion(path, " ".join(words[token] for token in path if token != EOS), num_titles)


def _begins(word: str, typed: str) -> bool:
    return word.casefold().startswith(typed)
