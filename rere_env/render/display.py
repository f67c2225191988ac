"""What each `render_mode` does with rows: text, pixels, or the terminal itself.

Knows streams and escape codes, not how a picture is laid out.
"""

import os
import sys
from typing import TextIO

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from rere_env.dynamics import Dynamics
from rere_env.dynamics.rows import Rows
from rere_env.render.ansi import ansi
from rere_env.render.raster import raster
from rere_env.render.scene import scene

__all__ = ["RENDER_MODES", "display", "encodable", "show", "use_color"]

RENDER_MODES = ("ansi", "human", "rgb_array")

HOME, CLEAR_LINE, CLEAR_BELOW = "\x1b[H", "\x1b[K", "\x1b[J"


def display(
    mode: str | None, dynamics: Dynamics, rows: Rows
) -> tuple[str, ...] | tuple[NDArray[np.uint8], ...] | None:
    """Return one picture a row; under "human" show them all on stdout and return None."""
    if mode is None:
        gym.logger.warn(
            "render() does nothing: make the environment with render_mode='ansi', 'human' or "
            "'rgb_array'."
        )
        return None
    scenes = [scene(dynamics, rows, row) for row in range(len(rows))]
    if mode == "rgb_array":
        return tuple(raster(one) for one in scenes)
    if mode == "ansi":
        return tuple(ansi(one) for one in scenes)
    color = use_color(sys.stdout)
    show("\n".join(ansi(one, color=color) for one in scenes), sys.stdout)
    return None


def show(text: str, stream: TextIO) -> None:
    """Write text; on a terminal in place of what stood there."""
    text = encodable(text, stream)
    if _is_terminal(stream):
        # Overwritten line by line, not cleared first: a picture that changes does not flicker.
        text = HOME + text.replace("\n", f"{CLEAR_LINE}\n") + CLEAR_BELOW
    stream.write(text)
    stream.flush()


def encodable(text: str, stream: TextIO) -> str:
    """Put a question mark for each character that a stream cannot encode."""
    encoding = stream.encoding or "utf-8"
    return text.encode(encoding, "replace").decode(encoding)


def use_color(stream: TextIO) -> bool:
    """Say whether to colour text: on a terminal, unless NO_COLOR is set (https://no-color.org)."""
    return _is_terminal(stream) and not os.environ.get("NO_COLOR")


def _is_terminal(stream: TextIO) -> bool:
    return stream.isatty() and os.environ.get("TERM") != "dumb"
