"""What code made a result: versions of packages and the git commit."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

__all__ = ["PACKAGES", "git_commit", "package_versions"]

PACKAGES = (
    "rere-env",
    "gymnasium",
    "numpy",
    "torch",
    "transformers",
    "tokenizers",
    "accelerate",
    "safetensors",
)
"""The packages whose versions a result names."""


def package_versions() -> dict[str, str | None]:
    """Return the versions of Python and `PACKAGES`; None: not installed."""
    versions: dict[str, str | None] = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    return versions


def git_commit(source: Path = Path(__file__)) -> str | None:
    """Return the commit of the checkout that holds this code; None outside a checkout.

    A checkout that merely surrounds an installed package (a virtual environment inside somebody's
    repository) does not count: the file has to be tracked.
    """
    tracked = _git(source.parent, "ls-files", "--error-unmatch", "--", source.name)
    return None if tracked is None else _git(source.parent, "rev-parse", "HEAD")


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:  # no git on this machine
        return None
    return done.stdout.strip() if done.returncode == 0 else None
