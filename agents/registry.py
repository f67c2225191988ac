"""Algorithms by name: what `rere train --algorithm` can train and `rere algorithms` lists.

Two kinds of things are algorithms. A function that returns a `ReReConfig` says how a language
model is trained by the main job. A class with `train(task, budget, *, seed) -> Recommender` may
learn in any way it likes; those of other libraries are of this kind.

    @register_algorithm("my-agent", summary="what it does")
    class MyAgent:
        def train(self, task, budget, *, seed): ...

A package offers its own through the entry-point group `rere_env.algorithms`, and any importable
object is reached as `module:name` without being registered.
"""

import importlib
import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, TypeVar, runtime_checkable

from agents.budget import Budget
from rere_env.task import Task
from rere_env.types import Recommender

if TYPE_CHECKING:
    from agents.rere.config import ReReConfig

__all__ = [
    "Algorithm",
    "AlgorithmInfo",
    "Kind",
    "algorithms",
    "find_algorithm",
    "register_algorithm",
]

GROUP = "rere_env.algorithms"
"""The entry-point group of other packages' algorithms."""

Kind: TypeAlias = Literal["policy", "agent"]
"""`policy` trains a language model by a `ReReConfig`; `agent` trains whatever it likes."""


@runtime_checkable
class Algorithm(Protocol):
    """Learns to recommend from a task."""

    def train(self, task: Task, budget: Budget, *, seed: int) -> Recommender:
        """Train within the budget on `task.split("train")`; return what has been learnt."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class AlgorithmInfo:
    """What is known of an algorithm before it is loaded.

    Attributes:
        name: As `--algorithm` takes it.
        kind: What it trains.
        summary: One line.
        paper: Where it comes from, such as `arXiv 2510.12211`; "" where it is nobody's.
        extra: The optional dependency it needs, None for those of `llm`.
        entry: Where it is, `module:name`.
    """

    name: str
    kind: Kind
    summary: str
    paper: str = ""
    extra: str | None = None
    entry: str = ""

    def load(self, **options: Any) -> "Algorithm | ReReConfig":  # noqa: ANN401
        """Import it and make it.

        Args:
            options: Other values than its defaults, such as `kl_weight` of `rere`.

        Raises:
            ImportError: A library is missing; the message names the extra.
            ValueError: It has no such option.
        """
        return _make(self.name, _import(self.entry), options)

    def choices(self, **options: Any) -> "ReReConfig":  # noqa: ANN401
        """Import how a language model is trained; as `load`, for a policy.

        Raises:
            ValueError: It trains none, or has no such option.
        """
        from agents.rere.config import ReReConfig

        made = self.load(**options)
        if not isinstance(made, ReReConfig):
            raise ValueError(
                f"`algorithm` (={self.name!r}) trains no language model; it has no choices. Use a "
                "policy of `rere algorithms`."
            )
        return made


def _policy(name: str, summary: str, paper: str = "") -> AlgorithmInfo:
    entry = f"agents.algorithms:{name}"
    return AlgorithmInfo(name=name, kind="policy", summary=summary, paper=paper, entry=entry)


def _agent(library: str, attribute: str, summary: str, paper: str) -> AlgorithmInfo:
    name = attribute.lower() if attribute != "MaskablePPO" else "maskable_ppo"
    return AlgorithmInfo(
        name="trl_grpo" if library == "trl" else f"{library}_{name}",
        kind="agent",
        summary=summary,
        paper=paper,
        extra=library,
        entry=f"agents.adapters.{library}:{attribute}",
    )


BUILT_IN: tuple[AlgorithmInfo, ...] = (
    _policy("rere", "beams, hit and rank reward, ratio 1: as released", "arXiv 2510.12211"),
    _policy("rere_repaired", "ReRe whose silent groups get their target, gently"),
    _policy("tawin", "ReRe with the negatives of a window weighted most", "arXiv 2604.22504"),
    _policy("grpo", "clipped ratio, two inner steps", "arXiv 2402.03300"),
    _policy("dapo", "clip higher, token mean, silent groups refilled", "arXiv 2503.14476"),
    _policy("gspo", "clipped ratio of whole sequences", "arXiv 2507.18071"),
    _policy("dr_grpo", "GRPO without standard deviation and length bias", "arXiv 2503.20783"),
    _policy("cispo", "clipped importance weights, no token dropped", "arXiv 2506.13585"),
    _policy("rloo", "i.i.d. samples, each against the others", "arXiv 2402.14740"),
    _policy("reinforce", "i.i.d. samples against the batch's mean", "Williams 1992"),
    _policy("dpo", "the target against the best beam", "arXiv 2305.18290"),
    _policy("s_dpo", "the target against all other beams at once", "arXiv 2406.09215"),
    _policy("sprec", "self-play: DPO against own samples, and SFT", "arXiv 2412.09243"),
    _agent("sb3", "MaskablePPO", "PPO over the legal tokens", "arXiv 2006.14171"),
    _agent("sb3", "PPO", "PPO on decisions", "arXiv 1707.06347"),
    _agent("sb3", "A2C", "advantage actor-critic on decisions", "arXiv 1602.01783"),
    _agent("sb3", "DQN", "deep Q-learning on decisions", "arXiv 1312.5602"),
    _agent("tianshou", "DQN", "double DQN with masks", "arXiv 1509.06461"),
    _agent("tianshou", "QRDQN", "quantile regression DQN with masks", "arXiv 1710.10044"),
    _agent("tianshou", "PPO", "PPO with a masked actor", "arXiv 1707.06347"),
    _agent("tianshou", "Reinforce", "REINFORCE with a masked actor", "Williams 1992"),
    _agent("trl", "TRLGRPO", "GRPO by TRL on the beams of our search", "arXiv 2402.03300"),
)
"""Those of `agents.algorithms`, and the agents of RL libraries."""

_REGISTERED: dict[str, AlgorithmInfo] = {}

T = TypeVar("T", bound=Callable[..., Any])


def register_algorithm(
    name: str, *, summary: str, paper: str = "", extra: str | None = None
) -> Callable[[T], T]:
    """Return a decorator that registers a class with `train`, or a function of a `ReReConfig`.

    Args:
        name: Lower-case letters, digits, `_` and `-`.
        summary: One line for `rere algorithms`.
        paper: Where it comes from.
        extra: The optional dependency it needs.

    Raises:
        ValueError: The name is taken by another, or is not one.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", name):
        raise ValueError(f"`name` (={name!r}) must be of lower-case letters, digits, '_' and '-'.")

    def register(made: T) -> T:
        entry = f"{made.__module__}:{made.__qualname__}"
        known = {**_built_in(), **_REGISTERED}.get(name)
        if known is not None and known.entry != entry:
            raise ValueError(f"the algorithm {name!r} is registered already, by {known.entry}.")
        _REGISTERED[name] = AlgorithmInfo(
            name=name, kind=_kind(made), summary=summary, paper=paper, extra=extra, entry=entry
        )
        return made

    return register


def algorithms() -> dict[str, AlgorithmInfo]:
    """Return every algorithm by name: built in, of other packages, and registered here."""
    return {**_built_in(), **{info.name: info for info in _installed()}, **_REGISTERED}


def find_algorithm(name: str) -> AlgorithmInfo:
    """Return the algorithm of a name, or of a `module:name`.

    Raises:
        ValueError: Nothing is called so; the message lists what is.
        ImportError: What the module itself imports is missing.
    """
    known = algorithms()
    if name in known:
        return known[name]
    if ":" in name:
        if (here := str(Path.cwd())) not in sys.path:
            sys.path.append(here)  # a command's own path lacks it; last, so that it shadows nothing
        made = _import_named(name)
        for info in _REGISTERED.values():  # importing may have registered it
            if _import(info.entry) is made:
                return info
        first = (getattr(made, "__doc__", None) or "").strip().partition("\n")[0]
        return AlgorithmInfo(name=name, kind=_kind(made), summary=first, entry=name)
    raise ValueError(
        f"`algorithm` (={name!r}) must be a `module:name` or one of {sorted(known)}; "
        "`rere algorithms` says what they are."
    )


def _built_in() -> dict[str, AlgorithmInfo]:
    return {info.name: info for info in BUILT_IN}


def _installed() -> Iterator[AlgorithmInfo]:
    for point in entry_points(group=GROUP):
        made = point.load()
        first = (getattr(made, "__doc__", None) or "").strip().partition("\n")[0]
        yield AlgorithmInfo(name=point.name, kind=_kind(made), summary=first, entry=point.value)


def _import(entry: str) -> Any:  # noqa: ANN401 - whatever bears the name
    module, _, name = entry.partition(":")
    made = importlib.import_module(module)
    for part in name.split("."):
        if not hasattr(made, part):
            raise ValueError(
                f"`algorithm` (={entry!r}) must be `module:name`, and {made!r} has nothing named "
                f"{part!r}; see what the module calls it."
            )
        made = getattr(made, part)
    return made


def _import_named(name: str) -> Any:  # noqa: ANN401 - whatever bears the name
    """Import what a user has named; a name that leads nowhere is the user's to mend.

    Raises:
        ValueError: There is no such module, or nothing in it of that name.
    """
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise ValueError(f"`algorithm` (={name!r}) must be `module:name`, both of them not empty.")
    try:
        return _import(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # what the module itself imports is missing
        raise ValueError(
            f"`algorithm` (={name!r}) must be `module:name`, and there is no module {error.name!r} "
            "in the current folder or among the installed packages; "
            "`rere algorithms` lists what has a name."
        ) from error


def _kind(made: Any) -> Kind:  # noqa: ANN401
    return "agent" if hasattr(made, "train") else "policy"


def _make(name: str, made: Any, options: Mapping[str, Any]) -> "Algorithm | ReReConfig":  # noqa: ANN401
    from agents.rere.config import ReReConfig

    if callable(made):
        known = inspect.signature(made).parameters
        for option, value in options.items():
            if option not in known:
                raise ValueError(
                    f"`{option}` (={value!r}) is no option of {name!r}; it has {sorted(known)}."
                )
        made = made(**options)
    if not isinstance(made, ReReConfig | Algorithm):
        raise TypeError(
            f"{name!r} makes a {type(made).__name__}; an algorithm is a class with "
            "`train(task, budget, *, seed)`, or a function that returns a ReReConfig."
        )
    return made
