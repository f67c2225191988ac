"""What is refused before anything is loaded, trained or written: numbers, names, code to import."""

import math
import shlex
from pathlib import Path

__all__ = ["check_numbers", "check_place", "check_plugin"]

MAX_NAME = 200
"""Characters of a run's name: file systems take 255 bytes a name."""

ABOVE_0 = ("sft_learning_rate", "rl_learning_rate", "train_seconds")

LEAST = {
    **dict.fromkeys(("kl_weight", "repair_weight", "sft_epochs", "rl_steps"), 0),
    **dict.fromkeys(("max_refills", "seed"), 0),
    **dict.fromkeys(("prompts_per_step", "inner_steps", "train_steps", "history_length"), 1),
    **dict.fromkeys(("max_tokens", "lora_rank", "lora_alpha"), 1),
    "group_size": 2,  # candidates are measured against each other
}
"""The least value of a flag."""


def check_numbers(config: object) -> None:
    """Refuse numbers of a run that could only fail later, or train nothing in silence.

    Args:
        config: Has the flags of `rere train` as attributes; None: not given.

    Raises:
        ValueError: One is out of its range, or is not finite.
    """
    for name in (*ABOVE_0, *LEAST):
        value, least = getattr(config, name), LEAST.get(name, 0)
        if value is None:
            continue
        if not math.isfinite(value) or value < least or (name in ABOVE_0 and value == 0):
            rule = "above 0" if name in ABOVE_0 else f"at least {least}"
            raise ValueError(
                f"`{name}` (={value}) must be {rule}, and finite; give another "
                f"--{name.replace('_', '-')}, or leave it out."
            )


def check_place(runs_dir: Path, name: str) -> None:
    """Refuse a name that is no folder of its own in `runs_dir`, and a `runs_dir` that is a file.

    Raises:
        ValueError: The name is empty, too long, of several parts, or not printable; or there is a
            file where runs shall be kept.
    """
    if not name.strip() or name != name.strip():
        rule = "hold a character, and neither begin nor end with a space"
    elif len(name) > MAX_NAME or len(name.encode("utf-8", "replace")) > MAX_NAME:
        rule = f"hold at most {MAX_NAME} characters"
    elif not name.isprintable():
        rule = "hold printable characters only"
    elif name in (".", "..") or "/" in name or "\\" in name:
        rule = "be one folder inside --runs-dir"
    else:
        rule = ""
    if rule:
        shown = name if len(name) <= 60 else f"{name[:60]}..."
        raise ValueError(
            f"`name` (={shown!r}) must {rule}; use letters, digits, '-' and '_', and --runs-dir to "
            "keep runs elsewhere."
        )
    for folder in (runs_dir, *runs_dir.parents):
        if folder.exists() and not folder.is_dir():
            raise ValueError(
                f"`runs_dir` (={str(runs_dir)!r}) must be a folder, and {folder} is a file; give "
                "another --runs-dir."
            )


def check_plugin(run: Path, algorithm: str, plugin: str | None) -> None:
    """Refuse to import code that only a run's own config.json names: it may be somebody else's.

    Args:
        run: The run's folder.
        algorithm: What its config.json says.
        plugin: What the user has said again.

    Raises:
        ValueError: The user has not named the code, or has named other code.
    """
    needed = algorithm if ":" in algorithm else None
    if plugin == needed:
        return
    command = ["rere", "train", "--resume", str(run)]
    if needed is None:
        raise ValueError(
            f"`plugin` (={plugin!r}) is not what {run} was trained by, {algorithm!r}; type: "
            f"{shlex.join(command)}"
        )
    raise ValueError(
        f"`plugin` (={plugin!r}) must name the code that {run} asks to import, {needed!r}, since "
        "its config.json may be somebody else's; if you trust that code, type: "
        f"{shlex.join([*command, '--plugin', needed])}"
    )
