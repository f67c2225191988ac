"""Steps per second of the environment beside plain Python, in one run. Equality is asserted first.

Ratios are of process CPU time of one thread, round by round, sides interleaved. Legal tokens are
given as ragged arrays (ours: `candidates()`; the peer: a list a row) or as dense int8 masks, as
Gymnasium's examples do; like is compared with like, and ours ragged with the peer's dense besides.
Actions are drawn beforehand, all of them legal.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import gymnasium as gym
import numpy as np
from gymnasium.vector import SyncVectorEnv, VectorEnv
from numpy.typing import NDArray

from agents.bench.env.peers import DictTrieEnv, PeerMask, dict_trie
from agents.bench.env.tasks import widened
from agents.bench.timing import interleave, ratio
from rere_env.envs import ReReVectorEnv
from rere_env.ragged import owners
from rere_env.task import Task
from rere_env.trie import EOS

__all__ = ["Actions", "Masks", "Rates", "draw_actions", "named_ratios", "replay", "step_rates"]

Masks = Literal["none", "csr", "dense"]
SEED = 0
BACKENDS: tuple[Literal["numpy", "numba"], ...] = ("numpy", "numba")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Actions:
    """Legal actions of the episodes that begin with `reset(seed=SEED)`.

    Attributes:
        actions: [T, N].
        decisions: Share of the actions that had an alternative.
        titles: Share of the actions that closed a title.
    """

    actions: NDArray[np.int64]
    decisions: float
    titles: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What one environment does in a second of CPU time; forced tokens are steps, not decisions."""

    steps: float
    decisions: float
    titles: float


def draw_actions(task: Task, num_envs: int, num_steps: int, *, slate_size: int = 1) -> Actions:
    """Play at random and write down the local tokens; a row that is reset ignores its action."""
    env = ReReVectorEnv(num_envs, task, slate_size=slate_size, mask="lazy", backend="numpy")
    rng = np.random.default_rng(SEED)
    env.reset(seed=SEED)
    actions, decisions, titles = [], 0, 0
    for _ in range(num_steps):
        allowed = env.candidates()
        actions.append(allowed.sample(rng).astype(np.int64))
        live = ~env.rows.finished
        decisions += int(((np.diff(allowed.indptr) > 1) & live).sum())
        titles += int(((actions[-1] == EOS) & live).sum())
        env.step(actions[-1])
    total = num_steps * num_envs
    return Actions(actions=np.array(actions), decisions=decisions / total, titles=titles / total)


def replay(env: VectorEnv[Any, Any, Any], actions: NDArray[np.int64], masks: Masks) -> None:
    """Play actions from a seeded reset; the measured loop."""
    ours = env.unwrapped if masks != "none" else None
    for row in actions:
        env.step(row)
        if isinstance(ours, ReReVectorEnv):
            if masks == "csr":
                ours.candidates()
            else:
                ours.action_masks()


def step_rates(
    task: Task,
    drawn: Actions,
    *,
    slate_size: int,
    backend: Literal["numpy", "numba"],
    masks: Masks,
    repeats: int,
) -> Rates:
    """Return the median rates of our environment."""
    num_steps, num_envs = drawn.actions.shape
    env = ReReVectorEnv(num_envs, task, slate_size=slate_size, mask="lazy", backend=backend)
    seconds = []
    for _ in range(repeats + 1):  # the first warms up
        env.reset(seed=SEED)
        started = time.process_time()
        replay(env, drawn.actions, masks)
        seconds.append(time.process_time() - started)
    steps = num_steps * num_envs / float(np.median(seconds[1:]))
    return Rates(steps=steps, decisions=steps * drawn.decisions, titles=steps * drawn.titles)


def named_ratios(
    task: Task, million: Task, *, num_envs: int, num_steps: int, peer_steps: int, repeats: int
) -> dict[str, dict[str, float]]:
    """Return the ratios by name, each with median, low and high over the rounds.

    Args:
        task: About 11 thousand titles.
        million: A million titles.
        num_envs: N.
        num_steps: Steps a round of ours and of CartPole.
        peer_steps: Steps a round of the peer, the first of the same actions.
        repeats: Rounds.
    """
    drawn = draw_actions(task, num_envs, num_steps)
    ratios: dict[str, dict[str, float]] = {}
    wide = widened(task)
    masks: tuple[tuple[str, Masks, PeerMask], ...] = (
        ("masked_151936", "csr", "dense"),
        ("ragged_151936", "csr", "ragged"),
        ("dense_151936", "dense", "dense"),
        ("unmasked", "none", "none"),
    )
    for name, ours, theirs in masks:
        some = task if theirs == "none" else wide
        ratios |= _against_peer(name, some, drawn, ours, theirs, peer_steps, repeats)
    ratios |= _against_cartpole(task, drawn, repeats)
    ratios["million_titles"] = _against_size(task, million, drawn, "none", repeats)
    ratios["million_titles_csr"] = _against_size(task, million, drawn, "csr", repeats)
    return ratios


def _against_peer(
    name: str,
    task: Task,
    drawn: Actions,
    masks: Masks,
    peer_mask: PeerMask,
    peer_steps: int,
    repeats: int,
) -> dict[str, dict[str, float]]:
    """Return ours / `SyncVectorEnv` of plain Python, for both backends."""
    wide = peer_mask != "none"
    actions = task.title_tokens.local_model[drawn.actions] if wide else drawn.actions
    num_envs = actions.shape[1]
    peer = sync_peer(task, num_envs, mask=peer_mask, wide=wide)
    ours: dict[str, ReReVectorEnv] = {
        backend: ReReVectorEnv(
            num_envs,
            task,
            slate_size=1,
            mask="lazy",
            token_ids="model" if wide else "local",
            backend=backend,
        )
        for backend in BACKENDS
    }
    for env in ours.values():
        assert_equal(env, peer, actions[:peer_steps])
    sides: dict[str, _Side] = {backend: _Side(env, actions, masks) for backend, env in ours.items()}
    sides["peer"] = _Side(peer, actions[:peer_steps])
    seconds = _interleaved(sides, repeats)
    scale = len(actions) / peer_steps
    theirs = [second * scale for second in seconds["peer"]]
    return {f"{name}_{backend}": ratio(seconds[backend], theirs) for backend in BACKENDS}


def _against_cartpole(task: Task, drawn: Actions, repeats: int) -> dict[str, dict[str, float]]:
    """Return ours / Gymnasium's native CartPole, steps per second at the same N."""
    num_steps, num_envs = drawn.actions.shape
    cartpole = gym.make_vec("CartPole-v1", num_envs, vectorization_mode="vector_entry_point")
    pushes = np.random.default_rng(SEED).integers(2, size=(num_steps, num_envs))
    sides: dict[str, _Side] = {
        backend: _Side(
            ReReVectorEnv(num_envs, task, slate_size=1, mask="lazy", backend=backend),
            drawn.actions,
        )
        for backend in BACKENDS
    }
    sides["cartpole"] = _Side(cartpole, pushes)
    seconds = _interleaved(sides, repeats)
    return {f"cartpole_{b}": ratio(seconds[b], seconds["cartpole"]) for b in BACKENDS}


def _against_size(
    small: Task, large: Task, drawn: Actions, masks: Masks, repeats: int
) -> dict[str, float]:
    """Return the cost of a step over a million titles / over eleven thousand."""
    num_steps, num_envs = drawn.actions.shape
    sides = {
        name: _Side(
            ReReVectorEnv(num_envs, task, slate_size=1, mask="lazy", backend="numpy"),
            actions,
            masks,
        )
        for name, task, actions in (
            ("small", small, drawn.actions),
            ("large", large, draw_actions(large, num_envs, num_steps).actions),
        )
    }
    seconds = _interleaved(sides, repeats)
    return ratio(seconds["small"], seconds["large"])


def sync_peer(task: Task, num_envs: int, *, mask: PeerMask, wide: bool) -> SyncVectorEnv:
    """Return plain Python under Gymnasium's own vector environment; the dict trie is shared."""
    root = dict_trie(task)
    return SyncVectorEnv(
        [
            lambda: DictTrieEnv(task, root, slate_size=1, mask=mask, wide=wide)
            for _ in range(num_envs)
        ]
    )


def assert_equal(
    ours: ReReVectorEnv, theirs: VectorEnv[Any, Any, Any], actions: NDArray[np.int64]
) -> None:
    """Play both side by side.

    Raises:
        AssertionError: Observations, rewards, ends or legal actions differ.
    """
    first: Any = ours.reset(seed=SEED)
    second: Any = theirs.reset(seed=SEED)
    for step in range(len(actions) + 1):
        for name in first[0]:
            np.testing.assert_array_equal(first[0][name], second[0][name])
        if "action_mask" in second[-1]:
            np.testing.assert_array_equal(ours.action_masks(), second[-1]["action_mask"])
            indptr, tokens = ours.candidates()
            rows = owners(indptr)
            found = second[-1]["action_mask"][rows, tokens].all()
            if not found or len(tokens) != second[-1]["action_mask"].sum():
                raise AssertionError("candidates() and the peer's dense masks differ")
        if isinstance(theirs, SyncVectorEnv) and (kept := _kept(theirs)) is not None:
            indptr, tokens = ours.candidates()
            if [sorted(row) for row in np.split(tokens, indptr[1:-1])] != kept:
                raise AssertionError("candidates() and the peer's lists differ")
        if step == len(actions):
            return
        first, second = ours.step(actions[step]), theirs.step(actions[step])
        np.testing.assert_allclose(first[1], second[1], atol=1e-6)  # ours sums float32 terms
        np.testing.assert_array_equal(first[2], second[2])
        np.testing.assert_array_equal(first[3], second[3])


def _kept(peer: SyncVectorEnv) -> list[list[int]] | None:
    """Return the peer's lists of legal actions, ascending; None where it makes none."""
    envs = [env.unwrapped for env in peer.envs]
    lists = [sorted(env.kept) for env in envs if isinstance(env, DictTrieEnv)]
    return lists if any(lists) else None


@dataclass(frozen=True, slots=True)
class _Side:
    """One side of a comparison: an environment with the actions that it replays."""

    env: VectorEnv[Any, Any, Any]
    actions: NDArray[np.int64]
    masks: Masks = "none"

    def __call__(self) -> None:
        replay(self.env, self.actions, self.masks)


def _interleaved(sides: Mapping[str, _Side], repeats: int) -> dict[str, list[float]]:
    """Time the sides round by round, resets left out; the first round warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats + 1):
        for side in sides.values():
            side.env.reset(seed=SEED)
        for name, times in interleave(sides, 1, time.process_time).items():
            seconds[name] += times
    return {name: times[1:] for name, times in seconds.items()}
