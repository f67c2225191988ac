"""Record what a user sees, so that a change of layout can be proven to change nothing.

    python -m tests.recorded.record --out before.json     # everything, about five minutes
    python -m tests.recorded.record --out after.json --against before.json

Knows the command, `gymnasium.make` and the names that the README promises; no module's place.

    environments   a digest of 2,000 steps of every registered id, in four forms
    runs           of `rere train --preset smoke`: digests of all weights, every metric
"""

import argparse
import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

import rere_env

__all__ = [
    "ENV_FORMS",
    "RUNS",
    "differences",
    "env_digest",
    "env_ids",
    "machine",
    "record_environment",
    "record_run",
]

NUM_STEPS = 2_000

SMOKE = ("--preset", "smoke", "--device", "cpu")
LANGUAGE_MODELS = {
    "default": (),
    "gspo_sample": ("--algorithm", "gspo", "--sampler", "sample"),
    "vocabulary": ("--support", "vocabulary"),
    "exclude_history": ("--exclude", "history"),
}
SHOP = ("--data", "toys", "--rl-steps", "8", "--rl-learning-rate", "1e-3")
SHOPS = {
    "shop_rere": (),
    "shop_dapo": ("--algorithm", "dapo"),
    "shop_s_dpo": ("--algorithm", "s_dpo"),
    "shop_rloo": ("--algorithm", "rloo", "--support", "vocabulary"),
    "shop_repaired": ("--algorithm", "rere_repaired", "--exclude", "history"),
    "shop_lora": ("--peft", "lora", "--sampler", "radix"),
    "shop_reward": ("--reward", "rere+0.1*semantic+0.1*collaborative"),
}
AGENTS = {
    "sb3": ("--algorithm", "sb3_maskable_ppo", "--train-steps", "2048"),
    "tianshou": ("--algorithm", "tianshou_dqn", "--train-steps", "2048"),
    "trl": ("--algorithm", "trl_grpo", "--train-steps", "8", "--data", "toys"),
}
RUNS: dict[str, tuple[str, ...]] = {
    **{
        f"{name}-{seed}": (*flags, "--seed", str(seed))
        for name, flags in LANGUAGE_MODELS.items()
        for seed in (0, 1)
    },
    **{f"{name}-0": (*SHOP, *flags, "--seed", "0") for name, flags in SHOPS.items()},
    **{f"{name}-0": (*flags, "--seed", "0") for name, flags in AGENTS.items()},
}
"""Flags of `rere train` by name; those on toys learn from the stand-in, where titles are hit."""

TIMES = ("seconds", "_s")

REPOSITORY = Path(__file__).resolve().parents[2]
REAL_DATA = os.environ.get("RERE_SHARED_DATA", str(REPOSITORY.parent / "shared" / "data"))

BUILT_IN = "ReRe-Games-v0"
STAND_IN = "stand-in/"
KINDS = ("Robot", "Robot Deluxe", "Kite", "Train Set")


def env_ids() -> list[str]:
    """Return every id that the package registers."""
    return sorted(name for name in gym.registry if name.startswith("ReRe-"))


def machine() -> dict[str, str]:
    """Return what decides the last bits of a float: processor, platform, versions."""
    from importlib.metadata import version

    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text(encoding="utf-8").splitlines() if cpu.exists() else []
    about = dict(line.replace("\t", "").split(": ", 1) for line in lines if ": " in line)
    libraries = ("torch", "numpy", "transformers", "stable-baselines3", "tianshou", "trl")
    return {
        "cpu": about.get("model name", platform.processor()),
        "instructions": hashlib.sha256(about.get("flags", "").encode()).hexdigest()[:12],
        "platform": platform.platform(terse=True),
        "python": platform.python_version(),
        **{name: version(name) for name in libraries},
    }


class Digest:
    """SHA-256 of nested values, type and shape included."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._sha = hashlib.sha256()

    def add(self, value: Any) -> None:
        """Add a value: arrays, numbers, text, None, dicts (in order of keys), sequences."""
        if isinstance(value, dict):
            for key in sorted(value):
                self.add(key)
                self.add(value[key])
        elif isinstance(value, np.ndarray) and value.dtype == object:
            self.add(list(value))
        elif isinstance(value, np.ndarray | np.generic):
            self._write(f"{value.dtype}{value.shape}".encode(), np.ascontiguousarray(value))
        elif isinstance(value, list | tuple):
            self._write(f"{type(value).__name__}{len(value)}".encode())
            for part in value:
                self.add(part)
        else:
            self._write(f"{type(value).__name__}:{value!r}".encode())

    def _write(self, *parts: Any) -> None:
        for part in parts:
            self._sha.update(part)

    def text(self) -> str:
        """Return it in hexadecimal."""
        return self._sha.hexdigest()


class Player:
    """Chooses tokens: mostly those of the target's title, some at random, a few illegal ones."""

    def __init__(self, env: Any, split: str, seed: int) -> None:
        """Look at the task of an environment."""
        self._env, task = env, env.task
        self._targets = task.split(split).target_title
        tokens = task.title_tokens
        self._titles = [
            tokens.tokens[low:high]
            for low, high in zip(tokens.indptr[:-1], tokens.indptr[1:], strict=True)
        ]
        self._num_tokens = tokens.num_tokens
        self._rng = np.random.default_rng(seed)

    def tokens(self, prefix: np.ndarray, example: np.ndarray) -> np.ndarray:
        """Return a token for each row: prefixes [N, L], examples [N]."""
        allowed = self._env.candidates()
        draw = self._rng.random((len(prefix), 2))
        chosen = np.zeros(len(prefix), np.int64)
        for row, (begun, number) in enumerate(zip(prefix, example, strict=True)):
            legal = allowed.tokens[allowed.indptr[row] : allowed.indptr[row + 1]]
            title = self._titles[self._targets[number]]
            done = int(np.count_nonzero(begun))
            on_its_way = done < len(title) and (begun[:done] == title[:done]).all()
            if draw[row, 0] < 0.003:
                chosen[row] = int(draw[row, 1] * self._num_tokens)
            elif on_its_way and title[done] in legal and draw[row, 0] < 0.8:
                chosen[row] = title[done]
            else:
                chosen[row] = legal[int(draw[row, 1] * len(legal))]
        return chosen


def single(name: str, split: str) -> str:
    """Digest of one environment, masks in the infos."""
    env = gym.make(name, slate_size=4, split=split)
    player, digest = Player(env.unwrapped, split, 1), Digest()
    observation, info = env.reset(seed=3)
    digest.add((observation, info))
    example = info["example"]
    for _ in range(NUM_STEPS):
        action = player.tokens(observation["prefix"][None], np.array([example]))[0]
        observation, reward, terminated, truncated, info = env.step(np.int64(action))
        digest.add((observation, reward, terminated, truncated, info))
        if terminated or truncated:
            observation, info = env.reset()
            digest.add((observation, info))
            example = info["example"]
    return digest.text()


def rows_of(name: str, split: str, num_envs: int, **options: Any) -> str:
    """Digest of a vector environment that begins episodes anew."""
    envs: Any = gym.make_vec(name, num_envs, split=split, **options)
    player, digest = Player(envs, split, 2), Digest()
    rng = np.random.default_rng(4)
    observation, infos = envs.reset(seed=5)
    digest.add((observation, infos))
    example = infos["example"].copy()
    for _ in range(NUM_STEPS // num_envs):
        if options.get("group_size", 1) > 1:
            envs.set_scores(np.arange(num_envs), rng.normal(size=num_envs))
        actions = player.tokens(observation["prefix"], example)
        observation, reward, terminated, truncated, infos = envs.step(actions)
        digest.add((observation, reward, terminated, truncated, infos))
        if "example" in infos:
            example = np.where(infos["_example"], infos["example"], example)
    return digest.text()


def vector(name: str, split: str) -> str:
    """Digest of rows under both ways to begin anew."""
    modes = ("NextStep", "SameStep")
    return " ".join(rows_of(name, split, 20, slate_size=3, autoreset_mode=mode) for mode in modes)


def grouped(name: str, split: str) -> str:
    """Digest of rows that are scored as groups."""
    return rows_of(name, split, 20, group_size=4, mask="observation", on_illegal="noop")


def decisions(name: str, split: str) -> str:
    """Digest of decisions, of one environment and of many."""
    env = rere_env.DecisionActions(gym.make(name, slate_size=4, split=split))
    envs = rere_env.VectorDecisionActions(
        gym.make_vec(name, 20, slate_size=2, split=split, autoreset_mode="SameStep")
    )
    rng, digest = np.random.default_rng(6), Digest()
    digest.add((env.reset(seed=7), envs.reset(seed=8)))
    for step in range(NUM_STEPS):
        last = env.step(rng.integers(env.action_space.n))
        digest.add(last)
        if last[2] or last[3]:
            digest.add(env.reset())
        if step % 20 == 0:
            digest.add(envs.step(rng.integers(envs.single_action_space.n, size=20)))
    return digest.text()


ENV_FORMS: dict[str, Callable[[str, str], str]] = {
    "single": single,
    "vector": vector,
    "grouped": grouped,
    "decision": decisions,
}


def env_digest(name: str, form: str) -> str:
    """Return the digests of 2,000 steps in training and in evaluation."""
    return " ".join(ENV_FORMS[form](name, split) for split in ("train", "test"))


@contextmanager
def stand_ins() -> Iterator[str]:
    """Write a small shop under the name of every data set; return the folder for `$RERE_DATA`."""
    items = [f"{maker} {kind} {n}" for maker in ("Ace", "Bee") for kind in KINDS for n in range(6)]
    rng = np.random.default_rng(9)
    with tempfile.TemporaryDirectory() as root:
        for name in ("toys", "industrial", "office", "video_games", "yelp"):
            folder = Path(root) / name
            folder.mkdir()
            lines = [f"i{n},{title}" for n, title in enumerate(items)]
            (folder / "items.csv").write_text("\n".join(["item_id,title", *lines]), "utf-8")
            for split, num_rows in (("train", 90), ("valid", 20), ("test", 40)):
                lines = ["user_id,history,item_id,timestamp"]
                for row in range(num_rows):
                    *history, target = rng.permutation(len(items))[: 2 + row % 9]
                    lines.append(f"u{row},{' '.join(f'i{n}' for n in history)},i{target},{row}")
                (folder / f"{split}.csv").write_text("\n".join(lines), "utf-8")
        yield root


@contextmanager
def data_at(root: str) -> Iterator[None]:
    """Look for data sets there."""
    before = os.environ.get("RERE_DATA")
    os.environ["RERE_DATA"] = root
    try:
        yield
    finally:
        del os.environ["RERE_DATA"]
        if before is not None:
            os.environ["RERE_DATA"] = before


def record_environment(name: str) -> dict[str, str] | None:
    """Return the digests of all forms; None where the data of an id are absent."""
    with stand_ins() as root, data_at(root if name.startswith(STAND_IN) else REAL_DATA):
        try:
            return {form: env_digest(name.removeprefix(STAND_IN), form) for form in ENV_FORMS}
        except FileNotFoundError:
            return None


def weights(folder: Path) -> dict[str, str]:
    """Return a digest of the tensors of every safetensors file, whatever they are called.

    The state before the last one (`last.old`) is left out.
    """
    from safetensors.numpy import load_file

    found = {}
    for file in sorted(folder.rglob("*.safetensors")):
        if any(part.endswith(".old") for part in file.relative_to(folder).parts):
            continue
        parts = []
        for tensor in load_file(file).values():
            digest = Digest()
            digest.add(tensor)
            parts.append(digest.text())
        name = file.relative_to(folder).as_posix()
        found[name] = hashlib.sha256("".join(sorted(parts)).encode()).hexdigest()
    return found


def timeless(value: Any) -> Any:
    """Return nested JSON without what a clock has measured."""
    if isinstance(value, dict):
        return {key: timeless(part) for key, part in value.items() if not key.endswith(TIMES)}
    return [timeless(part) for part in value] if isinstance(value, list) else value


def record_run(name: str) -> dict[str, Any]:
    """Run one of `RUNS`; return its weights, its learning curves and its test scores."""
    with tempfile.TemporaryDirectory() as folder, stand_ins() as root:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "agents.cli", "train", *SMOKE, *RUNS[name]),
                *("--runs-dir", folder, "--name", "run"),
            ],
            check=False,
            capture_output=True,
            text=True,
            env={
                **os.environ,
                "RERE_DATA": root,
                "OMP_NUM_THREADS": "1",  # sums do not depend on the cores
            },
        )
        assert done.returncode == 0, done.stderr
        run = Path(folder) / "run"
        log = run / "metrics.jsonl"
        lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
        result = json.loads((run / "result.json").read_text(encoding="utf-8"))
        return {
            "weights": weights(run),
            "curves": [timeless(json.loads(line)) for line in lines],
            "scores": timeless(
                {key: result[key] for key in ("recommenders", "comparisons", "share_of_oracle")}
            ),
        }


def trl_weights() -> str:
    """Return a digest of what TRL has learnt, which a run does not keep."""
    import torch

    from agents.budget import Budget
    from agents.registry import find_algorithm

    torch.set_num_threads(1)
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")  # `rollout_func` may change: we know
    with stand_ins() as root, data_at(root):
        task = rere_env.load_task("toys")
    learnt: Any = find_algorithm("trl_grpo").load().train(task, Budget(steps=8), seed=0)
    digest = Digest()
    for name, tensor in sorted(getattr(learnt, "policy", learnt).lm.state_dict().items()):
        digest.add((name, tensor.numpy()))
    return digest.text()


def differences(old: Any, new: Any, rtol: float = 0.0, at: str = "") -> Iterator[str]:
    """Say where two recordings differ; numbers may by `rtol`, in relation to the old one."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            if key in old and key in new:
                yield from differences(old[key], new[key], rtol, f"{at}/{key}")
            else:
                yield f"{at}/{key}: only in the {'old' if key in old else 'new'} recording"
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for place, pair in enumerate(zip(old, new, strict=True)):
            yield from differences(*pair, rtol, f"{at}[{place}]")
    elif isinstance(old, float) and isinstance(new, int | float):
        if old != new and not abs(old - new) <= rtol * abs(old):
            yield f"{at}: {old} -> {new}"
    elif old != new:
        yield f"{at}: {old!r} -> {new!r}"


def main() -> None:
    """Record, and compare where asked to."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--against", type=Path)
    parser.add_argument("--only", default="", help="part of the names of runs and environments")
    arguments = parser.parse_args()
    recording: dict[str, Any] = {"machine": machine(), "environments": {}, "runs": {}}
    for name in (*env_ids(), *(f"{STAND_IN}{name}" for name in env_ids() if name != BUILT_IN)):
        if arguments.only in name:
            recording["environments"][name] = record_environment(name)
            print(name, "" if recording["environments"][name] else "(no data)", flush=True)
    running, pool = {}, ThreadPoolExecutor(os.cpu_count())
    for name in RUNS:
        if arguments.only in name:
            running[name] = pool.submit(record_run, name)
    if arguments.only in "trl_weights":
        recording["trl_weights"] = trl_weights()
    for name, run in running.items():
        recording["runs"][name] = run.result()
        print(name, flush=True)
    arguments.out.write_text(json.dumps(recording, indent=1) + "\n", encoding="utf-8")
    if arguments.against:
        before = json.loads(arguments.against.read_text(encoding="utf-8"))
        found = list(differences(before, recording))
        print("\n".join(found) or "no difference")
        sys.exit(bool(found))


if __name__ == "__main__":
    main()
