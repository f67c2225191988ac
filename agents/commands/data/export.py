"""`rere data export`: episodes of an expert as an offline data set."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec
from tqdm import tqdm

import rere_env
from agents.baselines import CoOccurrence, Popularity
from agents.reporting.provenance import git_commit, package_versions
from agents.reporting.results import ORACLE
from rere_env.data import ORIGINS, find_data
from rere_env.data.known import GAMES
from rere_env.envs import ReReVectorEnv
from rere_env.offline import Episode, TargetExpert, choose_examples, expert_episodes
from rere_env.offline.minari import DataCard, MaskFormat, choose_masks, write_minari
from rere_env.task import Task
from rere_env.types import Recommender

__all__ = ["Export"]

REPOSITORY = "https://github.com/rere-env/rere-env"
EXPERTS = ("target", "popularity", "co_occurrence", ORACLE)
NUM_ENVS = 256
GIB = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """Write the titles of an expert into the environment and store the episodes (extra `offline`).

    Experts: `target` (the answer; in a longer slate then the most popular titles), `popularity`,
    `co_occurrence`, `oracle` (where the law is known, as in the built-in world), or a policy: a
    run, a model folder or a hub id. Each example of the split is one episode: observations,
    tokens, rewards, ends and the legal actions beside every observation. Minari's
    `recover_environment()` makes the environment again, `recover_environment(eval_env=True)` the
    same on the test split.

    Examples:
        rere data export --minari rere/games-target-v0
        rere data export --minari rere/games-oracle-v0 --expert oracle --slate-size 16
        rere data export --minari rere/mine-rere-v0 --expert runs/mine --num-episodes 5000

    Attributes:
        minari: Id of the data set to write: (namespace/)name-v0. Minari keeps it in
            $MINARI_DATASETS_PATH, else in ~/.minari/datasets.
        data: Folder, the name of a data set in $RERE_DATA, or `games`; default: `games`, or what
            the run was trained on.
        split: Whose examples are played.
        expert: Who acts.
        slate_size: K, titles of an episode.
        num_episodes: How many examples, drawn without repetition; default: all of the split.
        seed: Of that draw.
        tokens: Actions are the catalogue's dense ids, or the tokenizer's.
        tokenizer: Of the environment: hub id or folder; default: one token a word.
        reward: A name of `rere_env.rewards.REWARDS`.
        masks: Legal actions dense, ragged (csr) or not at all; auto: dense up to 20,000 actions.
        train_split: What popularity and co_occurrence count.
        beam: Width of a policy's search, at least K.
        author: Of the data set.
        author_email: Of the data set.
        overwrite: Replace a data set of the same id.
        device: Where a policy computes.
    """

    minari: str
    data: str | None = None
    split: str = "train"
    expert: str = "target"
    slate_size: int = 1
    num_episodes: int | Literal["all"] = "all"
    seed: int = 0
    tokens: Literal["local", "model"] = "local"
    tokenizer: str | None = None
    reward: str = "rere"
    masks: MaskFormat = "auto"
    train_split: str = "train"
    beam: int = 50
    author: str | None = None
    author_email: str | None = None
    overwrite: bool = False
    device: Literal["auto", "cpu", "cuda"] = "auto"

    def run(self) -> None:
        """Play, write and say where."""
        recommender, data = (None, self.data or GAMES) if self.expert in EXPERTS else self._policy()
        env = self._make(data)
        task: Task = env.unwrapped.task  # type: ignore[attr-defined]
        expert = recommender or _counting_expert(self.expert, task, self.train_split)
        number = None if self.num_episodes == "all" else self.num_episodes
        rows = choose_examples(len(task.split(self.split)), number, self.seed)
        envs = ReReVectorEnv(
            min(NUM_ENVS, len(rows)),
            task,
            split=self.split,
            slate_size=self.slate_size,
            token_ids=self.tokens,
            mask="lazy",
            autoreset_mode="Disabled",
        )
        self._announce(envs, len(rows))
        returns: list[float] = []
        dataset = write_minari(
            self.minari,
            _watched(expert_episodes(envs, expert, rows), len(rows), returns),
            env,
            self._card(task),
            masks=self.masks,
            eval_env=_eval_spec(env),
            overwrite=self.overwrite,
        )
        print(
            f"wrote {dataset.total_episodes:,} episodes, {dataset.total_steps:,} steps, mean "
            f"return {np.mean(returns):.4f}, to {dataset.storage.data_path}; read them with: "
            f"minari.load_dataset({self.minari!r})"
        )

    def _policy(self) -> tuple[Recommender, str]:
        meant = get_close_matches(self.expert, EXPERTS, n=1)
        if meant and not Path(self.expert).exists():
            raise ValueError(
                f"`expert` (={self.expert!r}) does not exist; did you mean {meant[0]}?"
            )
        from agents.commands.common import load_policy
        from agents.lm_recommender import LMRecommender

        policy = load_policy(self.expert, self.data, self.device)
        recommender = LMRecommender(
            policy.task,
            policy.lm,
            beam=max(self.beam, self.slate_size),
            support=policy.config.support,
        )
        return recommender, self.data or policy.config.data

    def _make(self, data: str) -> gym.Env[Any, Any]:
        """Make the environment whose spec the data set keeps."""
        if data != GAMES and data not in ORIGINS:  # a path of this machine, or a name that has one
            data = str((Path(data) if Path(data).is_dir() else find_data(data)).resolve())
        named = {
            spec.kwargs["data"]: name
            for name, spec in gym.registry.items()
            if spec.entry_point == "rere_env.envs:ReReEnv"
        }
        arguments: dict[str, Any] = {} if data in named else {"data": data}
        if self.tokenizer is not None:
            folder = Path(self.tokenizer)
            arguments["tokenizer"] = str(folder.resolve()) if folder.is_dir() else self.tokenizer
        return gym.make(
            named.get(data, named[GAMES]),
            split=self.split,
            slate_size=self.slate_size,
            token_ids=self.tokens,
            reward=self.reward,
            **arguments,
        )

    def _announce(self, envs: ReReVectorEnv, num_episodes: int) -> None:
        """Say beforehand if the masks will be large."""
        num_actions = envs.surface.num_actions
        if choose_masks(self.masks, num_actions) == "dense":
            indptr = envs.task.title_tokens.indptr
            num_steps = num_episodes * (1 + self.slate_size * float(np.diff(indptr).mean()))
            if (size := num_steps * num_actions) > GIB:
                print(
                    f"dense masks will take about {size / GIB:.1f} GiB ({num_actions:,} actions); "
                    "--masks csr stores the legal actions alone.",
                    file=sys.stderr,
                )

    def _card(self, task: Task) -> DataCard:
        return DataCard(
            expert=self.expert,
            description=(
                f"Recommendation as writing titles: {self.slate_size} of "
                f"{task.trie.num_titles:,} titles of {task.dataset.name!r}, token by token, for "
                f"users of the split {self.split!r}. The expert is {self.expert!r}. The legal "
                "actions stand beside every observation, in the form that `mask_format` names."
            ),
            author=self.author,
            author_email=self.author_email,
            code_permalink=f"{REPOSITORY}/tree/{git_commit() or f'v{rere_env.__version__}'}",
            requirements=(f"rere-env>={rere_env.__version__}",),
            metadata={
                "catalogue_hash": task.catalogue.content_hash(),
                "data_hash": task.dataset.content_hash,
                "trie_hash": task.trie.content_hash(),
                "split": self.split,
                "expert": self.expert,
                "seed": self.seed,
                "versions": package_versions(),
            },
        )


def _counting_expert(name: str, task: Task, train_split: str) -> Recommender:
    if name == ORACLE:
        if task.dataset.oracle is None:
            raise ValueError(
                f"`expert` (={name!r}) must know the law behind the data, and nobody knows that of "
                f"{task.dataset.name!r}; use target, popularity, co_occurrence or a policy."
            )
        return task.dataset.oracle
    train = task.split(train_split)
    if name == "co_occurrence":
        return CoOccurrence(task, train)
    popularity = Popularity(task, train)
    return TargetExpert(popularity) if name == "target" else popularity


def _eval_spec(env: gym.Env[Any, Any]) -> EnvSpec:
    """Return the spec of the same environment on the test split."""
    spec = EnvSpec.from_json(env.spec.to_json())  # type: ignore[union-attr]
    spec.kwargs["split"] = "test"
    return spec


def _watched(episodes: Iterator[Episode], total: int, returns: list[float]) -> Iterator[Episode]:
    """Hand episodes on under a progress bar and note their returns."""
    for episode in tqdm(episodes, desc="episodes", total=total):
        returns.append(float(episode.rewards.sum()))
        yield episode
