"""Agents that learn to recommend: ReRe and its relatives over a language model.

Knows only that its files are its own. Importing this package imports no agent; import the module
that you need, for example `agents.rere`.
"""

from pathlib import Path

__all__: list[str] = []

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
