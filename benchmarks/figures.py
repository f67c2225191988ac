"""Every figure in README and docs, from the JSON files committed beside this script.

    python benchmarks/figures.py     # fills the marked blocks; CI sees to it that none changes

A block stands between `<!-- figures: NAME -->` and `<!-- /figures -->`; its text is made here and
nowhere else. Knows what the files hold, not how it was measured.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

__all__ = ["BLOCKS", "fill"]

REPOSITORY = Path(__file__).resolve().parents[1]
PAGES = ("README.md", "docs/results.md", "docs/algorithms.md")
BLOCK = re.compile(r"<!-- figures: (\w+) -->\n.*?<!-- /figures -->", re.DOTALL)

Row = Sequence[str]


def fill(text: str) -> str:
    """Return a page with the text of every block made anew.

    Raises:
        ValueError: A block has an unknown name.
    """

    def block(found: re.Match[str]) -> str:
        name = found.group(1)
        if name not in BLOCKS:
            raise ValueError(f"`figures: {name}` must be one of {sorted(BLOCKS)}.")
        return f"<!-- figures: {name} -->\n{BLOCKS[name]()}\n<!-- /figures -->"

    return BLOCK.sub(block, text)


@cache
def results(name: str) -> dict[str, Any]:
    """Return a file of benchmarks/results."""
    file = REPOSITORY / "benchmarks" / "results" / f"{name}.json"
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


def table(head: Row, rows: Sequence[Row]) -> str:
    """Lay out a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def share(value: float, digits: int = 4) -> str:
    """Write a number of 0..1 without its zero."""
    return f"{value:.{digits}f}".removeprefix("0")


def signed(value: float) -> str:
    """Write a difference with its sign."""
    return ("+" if value >= 0 else "-") + share(abs(value))


def times(ratio: Mapping[str, float]) -> str:
    """Write a ratio with its spread; a single round has none."""
    digits = 2 if ratio["median"] < 1 else 1 if ratio["median"] < 10 else 0
    median, low, high = (f"{ratio[key]:.{digits}f}" for key in ("median", "low", "high"))
    if ratio["low"] == ratio["high"]:
        return f"{median} (one round)"
    return f"{median} ({low}-{high})"


def environment() -> str:
    """The environment beside the same one in plain Python, and beside CartPole."""
    found = results("env")
    names = (
        ("unmasked", "no legal actions on either side"),
        ("ragged_151936", "legal actions of 151,936 as ragged lists, on both sides"),
        ("dense_151936", "legal actions of 151,936 as dense masks, on both sides"),
        ("masked_151936", "not like for like: ours ragged, the peer's dense"),
        ("cartpole", "another peer: Gymnasium's vector environment of CartPole-v1, no masks"),
    )
    rows = [
        [what, *(times(found["ratios"][f"{name}_{backend}"]) for backend in ("numpy", "numba"))]
        for name, what in names
        if f"{name}_numpy" in found["ratios"]
    ]
    setting, ratios = found["setting"], found["ratios"]
    return "\n".join(
        [
            "Steps per second over those of the same environment in plain Python under "
            f"`SyncVectorEnv`, {setting['num_envs']:,} users, "
            f"{setting['titles']:,} titles, {found['machine']['processor']}, CPU time of one core "
            f"(`{found['command']}`; median and range of {setting['repeats']} rounds):",
            "",
            table(["", "NumPy", "compiled"], rows),
            "",
            "A step over a million titles costs "
            f"{times(ratios['million_titles'])} times one over 11 thousand without legal actions, "
            f"and {times(ratios['million_titles_csr'])} times with them.",
        ]
    )


def engine() -> str:
    """The engine beside the released algorithm, and what is equal in each row."""
    search, update, step = results("search"), results("update"), results("step")
    beside, facts = search["beside"], search["facts"]

    def recall(name: str) -> str:
        return share(facts[f"recall_{name}"], 2)

    rows = [
        [
            "search, 16 beams, full vocabulary",
            times(search["ratios"]["beam16_vocabulary"]),
            "the same titles in the same order",
        ],
        [
            "search, 16 beams, legal tokens, beside `generate` under Hugging Face's constraint",
            times(beside["constrained_vs_parity_catalogue"]),
            "the same titles in the same order",
        ],
        [
            "search, 16 beams by decisions over the legal tokens",
            times(search["ratios"]["beam16_catalogue"]),
            f"not equal: of the true best 16 ours finds {recall('radix')}, theirs "
            f"{recall('released')}",
        ],
        [
            "the exact 50 best titles, certified",
            times(search["ratios"]["beam50_exact"]),
            f"not equal: ours finds {recall('exact_wide')} of them, theirs "
            f"{recall('released_wide')}",
        ],
        [
            "update, full vocabulary",
            times(update["ratios"]["update_vocabulary"]),
            "the same gradient",
        ],
        [
            "update, legal tokens",
            times(update["ratios"]["update_catalogue"]),
            "not equal: the gradient of the masked policy, checked title by title",
        ],
        [
            "a whole training step, legal tokens",
            times(step["ratios"]["step_catalogue"]),
            "not equal: search and update of the two rows above",
        ],
    ]
    setting = search["settings"]["small"]
    half = search["ratios"]["prefill_limit_half_b"]
    return "\n".join(
        [
            f"CPU time of the peer over ours, small model, {setting['world']['titles']:,} Toys "
            f"titles, one thread of an {search['machine']['processor']} (`rere bench search | "
            "update | step`; median and range of the rounds):",
            "",
            table(["", "times as fast", "what is equal"], rows),
            "",
            f"Searching 16 titles costs {times(search['ratios']['prefill_limit'])} times what "
            f"reading the prompt alone costs, and {times(half)} times in the shape of Qwen2-0.5B.",
        ]
    )


GAMES_NAMES = {
    "popularity": "popularity",
    "co_occurrence": "co-occurrence",
    "sft": "SFT",
    "rere": "ReRe",
    "oracle": "oracle",
}


def over_seeds(recommender: str, metric: str) -> list[float]:
    """Return a metric of every seed."""
    seeds = results("games")["seeds"].values()
    return [seed["recommenders"][recommender][metric]["value"] for seed in seeds]


def mean_and_range(values: Sequence[float], digits: int = 4) -> str:
    """Write a mean with the lowest and the highest, where they differ."""
    low, high = share(min(values), digits), share(max(values), digits)
    return share(fmean(values), digits) + ("" if low == high else f" ({low}-{high})")


def games(metrics: Sequence[str] = ("hit_rate@10", "ndcg@10", "expected_ndcg@10")) -> str:
    """The recommenders of `make train`, means over seeds of the whole pipeline."""
    best = fmean(over_seeds("oracle", "expected_ndcg@10"))
    rows = []
    for name, words in GAMES_NAMES.items():
        part = fmean(over_seeds(name, "expected_ndcg@10")) / best
        cells = [mean_and_range(over_seeds(name, metric)) for metric in metrics]
        rows.append([words, *cells, f"{part:.0%}"])
    head = ["", *(metric.replace("_ndcg", " ndcg") for metric in metrics), "of the oracle"]
    return f"{_about_games()}\n\n{table(head, rows)}"


def games_in_full() -> str:
    """The same with more metrics."""
    return games(("hit_rate@1", "hit_rate@10", "hit_rate@50", "ndcg@10", "expected_ndcg@10"))


def _about_games() -> str:
    found = results("games")
    one = next(iter(found["seeds"].values()))["recommenders"]["oracle"]
    seeds = (
        "one seed"
        if len(found["seeds"]) == 1
        else (f"mean of {len(found['seeds'])} seeds of the whole pipeline (lowest-highest)")
    )
    commits = ", ".join(commit[:7] for commit in found["git_commits"])
    return (
        f"`{found['command']}` ({seeds}; commit {commits}, {found['created'][0][:10]}): "
        f"{one['num_examples']:,} test rows of {one['num_users']:,} users, full-catalogue ranking."
    )


def games_differences() -> str:
    """Paired differences of neighbours by seed."""
    seeds = results("games")["seeds"]
    wanted = [
        (a, b, metric)
        for a, b in (("rere", "sft"), ("sft", "co_occurrence"))
        for metric in ("ndcg@10", "expected_ndcg@10", "hit_rate@10")
    ]
    rows = []
    for a, b, metric in wanted:
        cells = []
        for seed in seeds.values():
            [row] = [
                row
                for row in seed["comparisons"]
                if (row["a"], row["b"], row["metric"]) == (a, b, metric)
            ]
            interval = f"({signed(row['low'])}, {signed(row['high'])})"
            cells.append(f"{signed(row['value'])} {interval} p {row['p_value_holm']:.4f}")
        words = f"{GAMES_NAMES[a]} - {GAMES_NAMES[b]}, {metric.replace('_ndcg', ' ndcg')}"
        rows.append([words, *cells])
    about = results("games")["comparison_statistics"]["interval"]
    text = (
        f"Paired differences, 95 % {about['method']} over users, {about['num_resamples']:,} "
        "resamples; p after Holm's correction for all comparisons of a run:"
    )
    return f"{text}\n\n{table(['', *(f'seed {seed}' for seed in seeds)], rows)}"


def algorithms() -> str:
    """The comparison at equal time: levels alone, since its cells do not name their users."""
    found = results("algorithms")
    metrics = ("expected_ndcg@10", "ndcg@10", "hit_rate@1", "hit_rate@10")
    rows = []
    for name, row in found["rows"].items():
        cells = []
        for metric in metrics:
            value = row["metrics"][metric]
            mean, low, high = (share(value[key]) for key in ("mean", "low", "high"))
            cells.append(mean if low == high else f"{mean} ({low}-{high})")
        seeds = str(row["num_seeds"]) if row["num_seeds"] else ""
        rows.append([name + ("*" if row["from_nothing"] else ""), seeds, *cells])
    plan = found["plan"]
    commits = sorted(
        {commit[:7] for row in found["rows"].values() for commit in row["git_commits"]}
    )
    text = (
        f"`{found['command']}` (commit {', '.join(commits)}): {plan['seconds']:g} seconds of one "
        "core each; mean over seeds of RL (lowest-highest), all from one SFT checkpoint; * from "
        "nothing:"
    )
    head = ["", "seeds", *(metric.replace("_ndcg", " ndcg") for metric in metrics)]
    return f"{text}\n\n{table(head, rows)}"


BLOCKS: Mapping[str, Callable[[], str]] = {
    "environment": environment,
    "engine": engine,
    "games": games,
    "games_in_full": games_in_full,
    "games_differences": games_differences,
    "algorithms": algorithms,
}


def main() -> None:
    """Write the pages whose figures have changed, and name them."""
    for name in PAGES:
        page = REPOSITORY / name
        text = page.read_text(encoding="utf-8")
        if (filled := fill(text)) != text:
            page.write_text(filled, encoding="utf-8")
            print(f"{name}: figures made anew")


if __name__ == "__main__":
    main()
