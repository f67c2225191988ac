"""Kill, damage and starve a short run many times; print what came of it.

    make chaos                                               # a few of each, under five minutes
    make chaos ARGS="--kills 100 --renames 100 --damages 200 --disks 20"

Every run must end equal, bit for bit, to one that nothing happened to, or in one line that names
the file or folder. The exit status is 1 if one did not.
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

from tests.chaos.cases import damages, disks, kills, renames
from tests.chaos.run import in_process, outcome, train_flags, write_data

__all__ = ["main"]

GOOD = ("equal", "one line")


def main() -> int:
    """Replay and print a table; return the exit status."""
    arguments = _parser().parse_args()
    rng = np.random.default_rng(arguments.seed)
    import torch  # noqa: F401 - before the forks, which then need not

    import agents.experiment.policy  # noqa: F401

    table: dict[str, Counter[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        data = write_data(root / "data")
        ended = in_process(train_flags(data, root / "whole"))
        if ended.status != 0:
            print("\n".join(ended.said))
            return 1
        whole = outcome(root / "whole")
        kinds = {
            "kill -9 at random": kills(root, data, arguments.kills, ended.seconds, rng),
            "kill -9 at a rename": renames(root, data, arguments.renames, rng),
            "damaged file": damages(root, data, arguments.damages, rng),
            "full or read-only disk": disks(root, data, arguments.disks, rng),
        }
        for name, cases in kinds.items():
            table[name] = Counter()
            started = time.perf_counter()
            for case in cases:
                verdict, said = case.verdict(whole)
                table[name][verdict] += 1
                if verdict not in GOOD or arguments.verbose:
                    print(f"{name}: {case.name}: {verdict}\n    " + "\n    ".join(said[-3:]))
            seconds = time.perf_counter() - started
            print(f"{name}: {dict(table[name])} in {seconds:.0f} s", flush=True)
    _print(table)
    return int(any(verdict not in GOOD for counts in table.values() for verdict in counts))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--kills", type=int, default=6, help="at random moments")
    parser.add_argument("--renames", type=int, default=12, help="spread over all; 100: all")
    parser.add_argument("--damages", type=int, default=16, help="files of a stopped run")
    parser.add_argument("--disks", type=int, default=6, help="that are full or read-only")
    parser.add_argument("--seed", type=int, default=0, help="of what is chosen at random")
    parser.add_argument("--verbose", action="store_true", help="print every case")
    return parser


def _print(table: dict[str, Counter[str]]) -> None:
    verdicts = [*GOOD, *sorted({v for counts in table.values() for v in counts} - set(GOOD))]
    print(f"\n{'':24}{'cases':>7}" + "".join(f"{verdict:>12}" for verdict in verdicts))
    for name, counts in table.items():
        print(f"{name:24}{counts.total():>7}" + "".join(f"{counts[v]:>12}" for v in verdicts))


if __name__ == "__main__":
    sys.exit(main())
