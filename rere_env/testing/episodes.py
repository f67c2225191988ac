"""Does a frozen policy live through the same episodes wherever it acts?

The reference is N single environments made by `gym.make`. Whatever offers rows of them, a vector
environment or the adapter of a library, is an `EpisodeSource`, and has to show the same
observations, rewards, ends and slates. Knows no library but Gymnasium.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeAlias

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from rere_env.task import Task
from rere_env.types import BoolArray, FloatArray, IntArray
from rere_env.wrappers import DecisionActions, VectorDecisionActions

__all__ = [
    "ActionScores",
    "EpisodeSource",
    "Moment",
    "NativeSource",
    "SingleSource",
    "Transcript",
    "check_same_episodes",
    "hashed_policy",
    "play",
]

# N rows (environments), n actions.

Columns: TypeAlias = dict[str, NDArray[Any]]

ActionScores: TypeAlias = Callable[[Columns], FloatArray]
"""`{history [M, H], slate [M, K], prefix [M, L]} -> scores [M, n]`; the best legal action acts.

It must be a function of the observation alone. It is asked for one row at a time, so that no
rounding can depend on the neighbours."""

KEYS = ("history", "slate", "prefix")
LAST = ("slate", "target", "target_rank")


class Moment(NamedTuple):
    """What one step told of one row.

    Attributes:
        step: (observation, reward, terminated, truncated, info); None: the row only began anew.
        start: The first observation of the next episode, if it has begun; None: it has not.
    """

    step: tuple[Columns, float, bool, bool, dict[str, Any]] | None
    start: Columns | None


class EpisodeSource(Protocol):
    """N rows of environments, as a library offers them."""

    def reset(self, seed: int) -> list[Columns]:
        """Seed row i with `seed + i` (shard (i, N) of an evaluation split); begin N episodes."""
        ...

    def action_masks(self) -> BoolArray:
        """Return the legal actions now, [N, n]."""
        ...

    def step(self, actions: IntArray) -> list[Moment]:
        """Act in every row; the action of a row that is over means nothing."""
        ...


@dataclass(slots=True, kw_only=True, eq=False)
class Transcript:
    """One episode of T steps.

    Attributes:
        observations: T + 1 of them, the last one after the end.
        masks: T of them, the legal actions.
        actions: T of them.
        rewards: T of them, compared as float32.
        end: "terminated" or "truncated".
        last_info: `slate`, `target` and `target_rank` of the last step.
    """

    observations: list[Columns]
    masks: list[BoolArray] = field(default_factory=list)
    actions: list[int] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    end: str = ""
    last_info: dict[str, Any] = field(default_factory=dict)


def check_same_episodes(
    task: Task | str,
    policy: ActionScores | None = None,
    *,
    sources: Mapping[str, EpisodeSource] | None = None,
    decisions: bool = False,
    num_envs: int = 3,
    num_episodes: int = 4,
    seed: int = 0,
    **options: Any,  # noqa: ANN401 - the arguments of `ReReEnv`
) -> None:
    """Check that a frozen policy lives through the same episodes on every surface.

    The single environments of `gym.make` are compared with the native vector environment under
    each autoreset mode, and with any other source.

    Args:
        task: A task, or the id of a registered environment.
        policy: Default: `hashed_policy`, random but fixed.
        sources: More surfaces by name, made with the same task, options and `num_envs`.
        decisions: Act through `DecisionActions`.
        num_envs: N.
        num_episodes: Episodes compared in each row.
        seed: Row i gets `seed + i`.
        options: Further arguments of the environments, such as `slate_size` or `split`.

    Raises:
        AssertionError: A surface shows something else.
    """
    env_id = task if isinstance(task, str) else "ReRe-Games-v0"
    if isinstance(task, Task):
        options = {"task": task, **options}
    single = SingleSource(env_id, num_envs, decisions=decisions, **options)
    policy = policy or hashed_policy(single.action_masks().shape[1], seed)
    expected = play(single, policy, num_episodes, seed)
    natives = {
        f"ReReVectorEnv ({mode.value})": NativeSource(
            env_id, num_envs, mode=mode, decisions=decisions, **options
        )
        for mode in AutoresetMode
    }
    for name, source in {**natives, **(sources or {})}.items():
        _compare(name, expected, play(source, policy, num_episodes, seed))


def hashed_policy(num_actions: int, seed: int = 0) -> ActionScores:
    """Return a policy without weights: its scores are random, but fixed by the observation."""

    def scores(observation: Columns) -> FloatArray:
        rows = np.concatenate([observation[key] for key in KEYS], axis=1)
        return np.array([np.random.default_rng([seed, *row]).random(num_actions) for row in rows])

    return scores


def play(
    source: EpisodeSource, policy: ActionScores, num_episodes: int, seed: int
) -> list[list[Transcript]]:
    """Act by a frozen policy until every row has had its episodes; return them by row."""
    current = [Transcript(observations=[start]) for start in source.reset(seed)]
    over: list[list[Transcript]] = [[] for _ in current]
    while min(map(len, over)) < num_episodes:
        masks = source.action_masks()
        actions = np.array(
            [
                _act(policy, episode.observations[-1], mask)
                for episode, mask in zip(current, masks, strict=True)
            ]
        )
        for row, moment in enumerate(source.step(actions)):
            episode = current[row]
            if moment.step is not None:
                observation, reward, terminated, truncated, info = moment.step
                episode.observations.append(observation)
                episode.masks.append(masks[row].copy())
                episode.actions.append(int(actions[row]))
                episode.rewards.append(float(reward))
                if terminated or truncated:
                    episode.end = "terminated" if terminated else "truncated"
                    episode.last_info = {key: np.asarray(info[key]).tolist() for key in LAST}
                    over[row].append(episode)
            if moment.start is not None:
                current[row] = Transcript(observations=[moment.start])
    return [episodes[:num_episodes] for episodes in over]


def _act(policy: ActionScores, observation: Columns, mask: BoolArray) -> int:
    scores = policy({key: np.asarray(observation[key])[None] for key in KEYS})[0]
    return int(np.where(mask, scores, -np.inf).argmax())


def _compare(name: str, expected: list[list[Transcript]], found: list[list[Transcript]]) -> None:
    """Find the first difference, in the order in which it would be felt."""
    for row, (wanted, got) in enumerate(zip(expected, found, strict=True)):
        for number, (a, b) in enumerate(zip(wanted, got, strict=True)):
            for what, want, value in _differences(a, b):
                raise AssertionError(
                    "a frozen policy must live through the same episodes on every surface, but "
                    f"{name} differs from gym.make in row {row}, episode {number}: {what} is "
                    f"{value}, not {want}. Hand on observations, masks, rewards, ends and infos as "
                    "the environment gives them, and seed row i with `seed + i`."
                )


def _differences(a: Transcript, b: Transcript) -> Iterator[tuple[str, object, object]]:
    for step, (x, y) in enumerate(zip(a.observations, b.observations, strict=False)):
        for key in KEYS:
            if not np.array_equal(x[key], y[key]):
                yield f"`{key}` of observation {step}", x[key], y[key]
        for want, got in zip(a.masks[step : step + 1], b.masks[step : step + 1], strict=False):
            if not np.array_equal(want, got):
                legal = np.flatnonzero(want).tolist(), np.flatnonzero(got).tolist()
                yield f"what is legal in step {step}", *legal
    # Some libraries keep rewards as float32: no more than that is compared.
    if not np.array_equal(np.array(a.rewards, np.float32), np.array(b.rewards, np.float32)):
        yield "`rewards`", a.rewards, b.rewards
    for what in ("actions", "end", "last_info"):
        if getattr(a, what) != getattr(b, what):
            yield f"`{what}`", getattr(a, what), getattr(b, what)


class SingleSource:
    """N single environments, as `gym.make` makes them."""

    def __init__(
        self,
        env_id: str,
        num_envs: int,
        *,
        decisions: bool = False,
        **options: Any,  # noqa: ANN401 - the arguments of `ReReEnv`
    ) -> None:
        """Make them; row i of N has shard (i, N)."""

        def make(row: int) -> gym.Env[Any, Any]:
            env = gym.make(env_id, shard=(row, num_envs), **options)
            return DecisionActions(env) if decisions else env

        self.envs = [make(row) for row in range(num_envs)]

    def reset(self, seed: int) -> list[Columns]:
        """Begin N episodes."""
        return [env.reset(seed=seed + row)[0] for row, env in enumerate(self.envs)]

    def action_masks(self) -> BoolArray:
        """Return the legal actions now, [N, n]."""
        return np.stack([env.get_wrapper_attr("action_masks")() for env in self.envs])

    def step(self, actions: IntArray) -> list[Moment]:
        """Act in every row; one that is over begins anew at once."""
        moments = []
        for env, action in zip(self.envs, actions, strict=True):
            step = env.step(action)
            over = step[2] or step[3]
            moments.append(Moment(step, env.reset()[0] if over else None))  # type: ignore[arg-type]
        return moments


class NativeSource:
    """The native vector environment, as `gym.make_vec` makes it."""

    def __init__(
        self,
        env_id: str,
        num_envs: int,
        *,
        mode: AutoresetMode | str,
        decisions: bool = False,
        **options: Any,  # noqa: ANN401 - the arguments of `ReReEnv`
    ) -> None:
        """Make it."""
        self.mode = AutoresetMode(mode)
        env = gym.make_vec(env_id, num_envs, autoreset_mode=self.mode.value, **options)
        self.env: Any = VectorDecisionActions(env) if decisions else env
        self.over: BoolArray = np.zeros(num_envs, np.bool_)

    def reset(self, seed: int) -> list[Columns]:
        """Begin N episodes."""
        return self._by_row(self.env.reset(seed=seed)[0])

    def action_masks(self) -> BoolArray:
        """Return the legal actions now, [N, n]."""
        masks: BoolArray = self.env.action_masks()
        return masks

    def step(self, actions: IntArray) -> list[Moment]:
        """Act in every row; one that is over begins anew as the mode says."""
        observations, rewards, terminated, truncated, infos = self.env.step(actions)
        over = terminated | truncated
        last = starts = self._by_row(observations)
        begins, final = over, infos
        only_began = np.zeros_like(over)
        if self.mode == AutoresetMode.NEXT_STEP:
            begins = only_began = self.over
        elif self.mode == AutoresetMode.SAME_STEP and over.any():
            final_obs, final = infos["final_obs"], infos["final_info"]
            last = [final_obs[row] if over[row] else shown for row, shown in enumerate(starts)]
        elif over.any():
            starts = self._by_row(self.env.reset(options={"reset_mask": over})[0])
        self.over = over
        moments = []
        for row in range(len(over)):
            info = {key: final[key][row] for key in LAST if over[row]}
            step = last[row], rewards[row], bool(terminated[row]), bool(truncated[row]), info
            moments.append(
                Moment(None if only_began[row] else step, starts[row] if begins[row] else None)
            )
        return moments

    def _by_row(self, observations: Columns) -> list[Columns]:
        return [
            {key: column[row] for key, column in observations.items()}
            for row in range(self.env.num_envs)
        ]
