"""Episodes to a Minari data set. The only file that knows Minari (extra `offline`).

Knows its storage and metadata; `offline.py` makes the episodes.
"""

import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from shutil import rmtree
from typing import Any, Literal, TypeAlias, get_args

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec

from rere_env.offline.episodes import Episode

__all__ = ["DENSE_LIMIT", "DataCard", "MaskFormat", "choose_masks", "write_minari"]

MaskFormat: TypeAlias = Literal["auto", "dense", "csr", "none"]

DENSE_LIMIT = 20_000
"""Most actions for which `auto` writes dense masks: one byte an action and step, uncompressed."""

EPISODES_AT_A_TIME = 256


def choose_masks(masks: MaskFormat, num_actions: int) -> MaskFormat:
    """Return the format of the masks: `auto` is `dense` up to `DENSE_LIMIT` actions, else `csr`."""
    if masks not in get_args(MaskFormat):
        raise ValueError(f"`masks` (={masks!r}) must be one of {get_args(MaskFormat)}.")
    if masks == "auto":
        return "dense" if num_actions <= DENSE_LIMIT else "csr"
    return masks


@dataclass(frozen=True, slots=True, kw_only=True)
class DataCard:
    """What a data set says of itself.

    Attributes:
        expert: Who acted; Minari's `algorithm_name`.
        description: What it is.
        author: Who made it.
        author_email: How to reach them.
        code_permalink: The code that made it.
        requirements: What `recover_environment` needs, in pip's words.
        metadata: More, of JSON's types.
    """

    expert: str
    description: str
    author: str | None = None
    author_email: str | None = None
    code_permalink: str | None = None
    requirements: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)


def write_minari(
    dataset_id: str,
    episodes: Iterable[Episode],
    env: gym.Env[Any, Any],
    card: DataCard,
    *,
    masks: MaskFormat = "auto",
    eval_env: EnvSpec | None = None,
    overwrite: bool = False,
) -> Any:  # noqa: ANN401 - a MinariDataset; minari is optional
    """Write a data set into Minari's folder (`$MINARI_DATASETS_PATH`) and load it.

    The legal actions beside each observation are in the infos: as `action_mask` int8
    [T + 1, actions] (`dense`), or as `candidates` (`csr`), where those of observation t are
    `tokens[indptr[t]:indptr[t + 1]]`. What the environment says once an episode (target, rank,
    slate, reward terms, ...) is in the episode's metadata, with the `options` with which `reset`
    begins it again: stored for every step it would be most of the file.

    Args:
        dataset_id: Like "rere/games-target-v0".
        episodes: Read once, never held together.
        env: What `recover_environment` makes again; its spec must survive JSON.
        card: What the data set says of itself.
        masks: How legal actions are stored.
        eval_env: What `recover_environment(eval_env=True)` makes; default: the same.
        overwrite: Replace a data set of this id, once the new one is complete.

    Raises:
        ImportError: minari is not installed; the message names the extra.
        ValueError: The id is malformed.
        FileExistsError: There is such a data set.
    """
    try:
        import minari
        from minari.storage.datasets_root_dir import get_dataset_path
    except ImportError as error:
        raise ImportError(
            "writing Minari data sets needs minari: pip install 'rere-env[offline]'."
        ) from error
    _check_id(dataset_id)
    num_actions = int(env.action_space.n)  # type: ignore[attr-defined]
    masks = choose_masks(masks, num_actions)
    with _replaced(get_dataset_path(dataset_id), dataset_id, overwrite=overwrite):
        with warnings.catch_warnings():
            # Minari urges to name these; here each is a choice.
            warnings.filterwarnings("ignore", "`\\w+` is set to None", UserWarning)
            dataset = minari.create_dataset_from_buffers(
                dataset_id,
                [],
                env=env,
                eval_env=eval_env,
                algorithm_name=card.expert,
                author=card.author,
                author_email=card.author_email,
                code_permalink=card.code_permalink,
                description=card.description,
                requirements=list(card.requirements),
            )
        _append(dataset.storage, episodes, masks, num_actions)
        dataset.storage.update_metadata({"mask_format": masks, **card.metadata})
    return minari.load_dataset(dataset_id)


def _check_id(dataset_id: str) -> None:
    from minari.dataset.minari_dataset import parse_dataset_id

    try:
        parse_dataset_id(dataset_id)
    except (TypeError, ValueError) as error:  # TypeError: it has no version
        raise ValueError(
            f"`dataset_id` (={dataset_id!r}) must look like 'rere/games-target-v0': letters, "
            "digits, - and _, and a version at the end."
        ) from error


def _append(
    storage: Any,  # noqa: ANN401 - a MinariStorage
    episodes: Iterable[Episode],
    masks: MaskFormat,
    num_actions: int,
) -> None:
    from minari.data_collector.episode_buffer import EpisodeBuffer

    remaining = iter(episodes)
    while part := list(islice(remaining, EPISODES_AT_A_TIME)):
        first = storage.total_episodes
        storage.update_episodes(  # reads one at a time: dense masks are never held together
            EpisodeBuffer(
                options={"example": episode.example},
                observations=episode.observations,
                actions=episode.actions,
                rewards=episode.rewards,
                terminations=episode.terminations,
                truncations=episode.truncations,
                infos=_masks(episode, masks, num_actions),
            )
            for episode in part
        )
        storage.update_episode_metadata(
            (_flat(episode.info) for episode in part), range(first, first + len(part))
        )


def _masks(episode: Episode, masks: MaskFormat, num_actions: int) -> dict[str, Any]:
    if masks == "dense":
        return {"action_mask": episode.action_mask(num_actions)}
    if masks == "csr":
        indptr, tokens = episode.allowed
        return {"candidates": {"indptr": indptr, "tokens": tokens}}
    return {}


def _flat(info: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested keys joined by "/", which Minari takes apart again."""
    flat: dict[str, Any] = {}
    for key, value in info.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}/")
        else:
            flat[prefix + key] = value
    return flat


@contextmanager
def _replaced(path: Path, dataset_id: str, *, overwrite: bool) -> Iterator[None]:
    """Keep what lies at a path aside until its successor is complete; else bring it back."""
    aside = path.with_name(f".{path.name}.replaced")
    if path.exists():
        if not overwrite:
            raise FileExistsError(
                f"the Minari data set {dataset_id!r} exists in {path}; choose another id or "
                "version, or overwrite it (--overwrite)."
            )
        rmtree(aside, ignore_errors=True)
        path.rename(aside)
    complete = False
    try:
        yield
        complete = True
    finally:
        if not complete:
            rmtree(path, ignore_errors=True)
            if aside.exists():
                aside.rename(path)
        rmtree(aside, ignore_errors=True)
