"""`rere data check`: what is peculiar about a data set."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import tyro

from rere_env.data.audit import audit
from rere_env.data.known import load_data
from rere_env.tokenizer import HFTokenizer

__all__ = ["Check"]

CATALOGUE = {
    "items": "items",
    "titles": "distinct titles",
    "items_sharing_a_title": "items that share their title",
    "prefix_titles": "titles that another title begins with",
    "titles_with_untidy_spaces": "titles with double or outer spaces, or TABs",
    "titles_with_html_entities": "titles with HTML entities",
    "titles_not_in_train": "titles that never occur in training",
}
TRIE = {
    "tokens": "different tokens",
    "nodes": "nodes",
    "branching_nodes": "nodes with a choice",
    "max_branching": "most choices at a node",
    "tokens_per_title_mean": "tokens a title, mean",
    "tokens_per_title_max": "tokens a title, most",
    "decisions_per_title_mean": "decisions a title, mean",
    "decisions_per_title_max": "decisions a title, most",
    "lossy_titles": "titles that the tokenizer does not give back",
}
SPLIT = {
    "rows": "rows",
    "users": "users",
    "history_length_mean": "items of a history, mean",
    "empty_histories": "empty histories",
    "cold_targets": "targets that never occur in training",
    "repeat_targets": "targets that are in the history",
    "shared_title_targets": "targets that share their title",
    "ambiguous_histories": "equal history, other target in the split",
    "lookup_errors": "wrong if targets were looked up by history",
}
OVERLAP = {
    "users": "the same user",
    "equal_rows": "the same history and target",
    "ambiguous_histories": "the same history, another target",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """Read a data set as training would, and count what can flatter or punish a recommender.

    Shared and prefix titles, targets that are cold, repeated or ambiguous, overlaps of the splits,
    what the same list for everybody would hit, and how much of a title is a choice at all.

    Examples:
        rere data check my_data
        rere data check industrial --train-split train_plus --json

    Attributes:
        data: Folder, the name of a data set in $RERE_DATA, or `games`.
        train_split: Which split counts as training.
        tokenizer: Hub id or folder; default: one token a word.
        history_length: Most items of a history.
        json: Print JSON.
    """

    data: Annotated[str, tyro.conf.Positional]
    train_split: str = "train"
    tokenizer: str | None = None
    history_length: int = 10
    json: bool = False

    def run(self) -> None:
        """Load, count and print."""
        dataset = load_data(self.data, self.history_length)
        tokenizer = None if self.tokenizer is None else HFTokenizer.from_pretrained(self.tokenizer)
        found = audit(dataset, train=self.train_split, tokenizer=tokenizer)
        print(json.dumps(found, indent=2, allow_nan=False) if self.json else _text(found))


def _text(found: Mapping[str, Any]) -> str:
    catalogue = found["catalogue"]
    lines = [f"{found['data']}  (sha256 {found['content_hash'][:12]})", "", "as read or built"]
    lines += [_line(key, number) for key, number in found["counts"].items()]
    lines += ["", "catalogue"]
    for key, label in CATALOGUE.items():
        total = catalogue["items" if key.startswith("items") else "titles"]
        lines.append(_line(label, catalogue[key], None if key in ("items", "titles") else total))
    lines += ["", f"prefix tree ({found['trie']['tokenizer']})"]
    lines += [_line(label, found["trie"][key]) for key, label in TRIE.items()]
    for name, split in found["splits"].items():
        role = ", which counts as training" if name == found["train_split"] else ""
        lines += ["", f"split {name}{role}"]
        for key, label in SPLIT.items():
            counted = key not in ("rows", "users", "history_length_mean")
            lines.append(_line(label, split[key], split["rows"] if counted else None))
        lines.append(f"  {'hit rate @10, most sold in training':<46}{_rate(split, 'popularity')}")
        lines.append(
            f"  {'hit rate @10, best list in hindsight':<46}{_rate(split, 'best_constant')}"
        )
    for pair, overlap in found["overlaps"].items():
        first, second = pair.split("/")
        lines += ["", f"rows of {second} that have in {first}"]
        rows = found["splits"][second]["rows"]
        lines += [_line(label, overlap[key], rows) for key, label in OVERLAP.items()]
    return "\n".join(lines)


def _line(label: str, number: float, total: int | None = None) -> str:
    text = f"{number:>12,}" if isinstance(number, int) else f"{number:>12,.2f}"
    share = f"{number / total:>9.2%}" if total else ""
    return f"  {label:<46}{text}{share}"


def _rate(split: Mapping[str, Any], name: str) -> str:
    return f"{split[f'{name}_hit_rate@10']:>21.2%}"
