r"""Gather runs of `rere train` that differ in their seed alone into one committed file.

    python benchmarks/collect_runs.py runs/games-s0 runs/games-s1 runs/games-s2 \
        --command "rere train --seed S, S = 0, 1, 2" --out benchmarks/results/games.json

Knows result.json, not how it came about.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["collect_runs"]

SAME = ("data", "catalogue_hash", "versions", "comparison_statistics")
"""What all of the runs must agree in."""


def collect_runs(results: Sequence[Mapping[str, Any]], command: str) -> dict[str, Any]:
    """Return the runs by seed, and what they have in common.

    Raises:
        ValueError: Two runs have one seed, or differ in more than that.
    """
    seeds = [result["seed"] for result in results]
    if len(set(seeds)) != len(seeds):
        raise ValueError(f"the seeds (={seeds}) must differ; give each run once.")
    first = results[0]
    for result in results:
        configs = [{**r["config"], "seed": None} for r in (first, result)]
        if configs[0] != configs[1] or any(first[key] != result[key] for key in SAME):
            raise ValueError(
                f"the runs of the seeds {first['seed']} and {result['seed']} differ in more than "
                f"their seed: config or one of {SAME}; give runs of one command and one version."
            )
    return {
        "command": command,
        "stages": "every seed trains SFT and RL anew; the test split is read once a run",
        **{key: first[key] for key in SAME},
        "config": {**first["config"], "seed": seeds},
        "git_commits": sorted({result["git_commit"] for result in results}),
        "created": [result["created"] for result in results],
        "seconds": {str(result["seed"]): result["seconds"] for result in results},
        "seeds": {
            str(result["seed"]): {
                name: result[name] for name in ("recommenders", "comparisons", "share_of_oracle")
            }
            for result in results
        },
    }


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("runs", type=Path, nargs="+", help="run folders with a result.json")
    parser.add_argument("--command", required=True, help="what was run, to stand in the file")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    results = [json.loads((run / "result.json").read_text("utf-8")) for run in arguments.runs]
    found = collect_runs(results, arguments.command)
    arguments.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
