"""Agents that learn to recommend: ReRe and its relatives over a language model.

    import agents

    run = agents.train(agents.TrainConfig(preset="smoke"))
    agent = agents.find_algorithm("sb3_ppo").load().train(task, agents.Budget(seconds=60), seed=0)
    print(agents.evaluate(agent, task, task.split("test")).metrics["ndcg@10"])

Public are the names below and those that the packages name in their own `__init__`; what lies in
the modules behind them may change. Importing this package loads nothing else, and no torch: a name
is loaded when it is first used.
"""

from importlib import import_module as _import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agents.budget import Budget
    from agents.env_recommender import EnvRecommender
    from agents.evaluation import compare, evaluate
    from agents.experiment import resume, train
    from agents.lm_recommender import ExactRecommender, LMRecommender
    from agents.policy import Policy, load_backbone
    from agents.registry import algorithms, find_algorithm, register_algorithm
    from agents.rere import ReReAgent, ReReConfig
    from agents.runs import TrainConfig
    from agents.testing import check_algorithm

__all__ = [
    "Budget",
    "EnvRecommender",
    "ExactRecommender",
    "LMRecommender",
    "Policy",
    "ReReAgent",
    "ReReConfig",
    "TrainConfig",
    "algorithms",
    "check_algorithm",
    "compare",
    "evaluate",
    "find_algorithm",
    "load_backbone",
    "register_algorithm",
    "resume",
    "train",
]

_HOMES = {
    "budget": ("Budget",),
    "env_recommender": ("EnvRecommender",),
    "evaluation": ("compare", "evaluate"),
    "experiment": ("resume", "train"),
    "lm_recommender": ("ExactRecommender", "LMRecommender"),
    "policy": ("Policy", "load_backbone"),
    "registry": ("algorithms", "find_algorithm", "register_algorithm"),
    "rere": ("ReReAgent", "ReReConfig"),
    "runs": ("TrainConfig",),
    "testing": ("check_algorithm",),
}

# Modules of the PyPI package openai-agents, which installs the same top-level name `agents`. pip
# lets the two overwrite each other file by file: its modules beside ours mean a broken mixture.
_FOREIGN_MODULES = ("guardrail.py", "run_context.py", "function_schema.py")


def _refuse_mixture(package: Path) -> None:
    foreign = [name for name in _FOREIGN_MODULES if (package / name).exists()]
    if foreign:
        raise ImportError(
            f"`agents` of rere-env must hold its own files only, but {package} also holds "
            f"{', '.join(foreign)} of the PyPI package openai-agents, which installs the same "
            "top-level name. Keep the two in separate virtual environments, or run `pip uninstall "
            "openai-agents` and then `pip install --force-reinstall --no-deps rere-env`."
        )


_refuse_mixture(Path(__file__).parent)


def __getattr__(name: str) -> object:
    """Load a public name from the package that names it."""
    for home, names in _HOMES.items():
        if name in names:
            return globals().setdefault(name, getattr(_import_module(f"agents.{home}"), name))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
