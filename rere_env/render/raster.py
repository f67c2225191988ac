"""A scene as pixels. Knows type, colour and measure; nothing of rows, tokens or rules.

Every scene of an environment fills a canvas of the same size. On the left the user's history and
the slate; on the right the title in the making and what may follow, in the end the answer.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from unicodedata import combining, normalize

import numpy as np
from numpy.typing import NDArray

from rere_env.render.scene import SHOWN, Scene

__all__ = ["raster"]

# Lengths in pixels of the finished picture; `y` of a line of text is its baseline.
SCALE = 2  # drawn larger and reduced: letters then stand at fractions of a pixel
WIDTH, MARGIN = 1280, 40
LEFT, LEFT_END = MARGIN, 800
RIGHT, RIGHT_END = 850, WIDTH - MARGIN
TOP = 118  # the baseline of the first labels
LINE, LARGE_LINE = 24, 32
LABEL, GAP = 28, 44  # from a label to its first line, from a last line to the next label
TEXT = LEFT + 40  # where titles begin, right of their ranks
BAR, BAR_END = RIGHT + 160, RIGHT_END - 60
TITLE_LINES = 3  # of the large title on the right

SMALL, BODY, LARGE, HUGE = 14, 16, 24, 44

PAPER, INK, MUTED, FAINT, RULE = "#ffffff", "#1f2328", "#656d76", "#b4bac1", "#e4e8ec"
BLUE, BLUE_TINT, BLUE_BAR = "#0b57b8", "#e4eefb", "#a9c9f3"
GREEN, GREEN_TINT = "#116329", "#d9f4df"
RED, RED_TINT = "#a40e26", "#ffe7e5"


def raster(scene: Scene) -> NDArray[np.uint8]:
    """Draw a scene as RGB [height, width, 3]; the size follows from H and K alone.

    Raises:
        ImportError: Pillow is not installed; the message names the extra.
    """
    try:
        from PIL import Image, ImageDraw
    except ImportError as error:
        raise ImportError(
            "render_mode='rgb_array' needs Pillow: pip install 'rere-env[render]'."
        ) from error
    image = Image.new("RGB", (WIDTH * SCALE, _height(scene) * SCALE), PAPER)
    page = _Page(ImageDraw.Draw(image))
    _header(page, scene)
    _slate(page, scene, _history(page, scene, TOP) + GAP)
    if scene.target is None:
        _continuations(page, scene, _written(page, scene))
    else:
        _answer(page, scene, scene.target)
    return np.array(image.reduce(SCALE))


@dataclass(frozen=True, slots=True)
class _Page:
    """Draws in pixels of the finished picture."""

    draw: Any  # a PIL.ImageDraw.ImageDraw

    def text(self, x: float, y: float, text: str, size: int = BODY, fill: str = INK) -> float:
        """Write from x on; return where the text ends."""
        at = (x * SCALE, y * SCALE)
        self.draw.text(at, _drawable(text), fill=fill, font=_font(size), anchor="ls")
        return x + _length(text, size)

    def text_to(self, x: float, y: float, text: str, size: int = BODY, fill: str = INK) -> None:
        """Write so that the text ends at x."""
        self.text(x - _length(text, size), y, text, size, fill)

    def box(self, x: float, y: float, x_end: float, y_end: float, fill: str, radius: int) -> None:
        """Fill a rectangle with round corners."""
        corners = (x * SCALE, y * SCALE, x_end * SCALE - 1, y_end * SCALE - 1)
        self.draw.rounded_rectangle(corners, radius * SCALE, fill=fill)

    def label(self, x: float, x_end: float, y: float, name: str, note: str = "") -> None:
        """Name what stands below."""
        self.text(x, y, name, BODY, BLUE)
        self.text_to(x_end, y, note, SMALL, MUTED)

    def cursor(self, x: float, y: float, size: int) -> None:
        """Draw the bar where the next letter will stand."""
        self.box(x + 2, y - 0.85 * size, x + 4, y + 0.15 * size, BLUE, 0)


def _height(scene: Scene) -> int:
    num_titles = max(scene.history_length, 1) + scene.slate_size
    left = TOP + LABEL + GAP + LABEL + LINE * (num_titles - 2)
    right = TOP + LARGE_LINE * TITLE_LINES + GAP + LABEL + LINE * SHOWN
    return (max(left, right) + MARGIN + 1) // 2 * 2  # video codecs want even numbers


def _header(page: _Page, scene: Scene) -> None:
    page.text(LEFT, 58, "What does this user choose next?", LARGE + 4)
    if scene.target is None:
        status, ink, tint = f"title {len(scene.slate) + 1} of {scene.slate_size}", BLUE, BLUE_TINT
    elif scene.target_rank:
        status, ink, tint = f"hit at rank {scene.target_rank}", GREEN, GREEN_TINT
    else:
        status, ink, tint = "illegal token" if scene.illegal else "miss", RED, RED_TINT
    x = RIGHT_END - 16 - _length(status, BODY)
    page.box(x - 16, 34, RIGHT_END, 66, tint, 16)
    page.text(x, 56, status, BODY, ink)
    page.box(LEFT, 82, RIGHT_END, 83, RULE, 0)


def _history(page: _Page, scene: Scene, y: float) -> float:
    """List the history; return the last line."""
    page.label(LEFT, LEFT_END, y, "History", "oldest first")
    y += LABEL
    if not scene.history:
        page.text(TEXT, y, "nothing yet", BODY, MUTED)
    for line, title in enumerate(scene.history):
        base = y + line * LINE
        page.box(LEFT + 20, base - 8, LEFT + 25, base - 3, FAINT, 2)
        page.text(TEXT, base, _fit(title, BODY, LEFT_END - TEXT - 8))
    return y + LINE * (max(len(scene.history), 1) - 1)


def _slate(page: _Page, scene: Scene, y: float) -> None:
    """List the ranks; the one being written and the target stand out."""
    note = f"best first, {len(scene.slate)} of {scene.slate_size} written"
    page.label(LEFT, LEFT_END, y, "Slate", note)
    width = LEFT_END - TEXT - 8
    for place in range(1, scene.slate_size + 1):
        base = y + LABEL + (place - 1) * LINE
        if place <= len(scene.slate):
            hit = place == scene.target_rank
            if hit:
                page.box(LEFT, base - 17, LEFT_END, base + 7, GREEN_TINT, 4)
            page.text_to(LEFT + 26, base, str(place), BODY, GREEN if hit else MUTED)
            title = _fit(scene.slate[place - 1], BODY, width)
            page.text(TEXT, base, title, BODY, GREEN if hit else INK)
        elif scene.target is None and place == len(scene.slate) + 1:
            page.box(LEFT, base - 17, LEFT_END, base + 7, BLUE_TINT, 4)
            page.text_to(LEFT + 26, base, str(place), BODY, BLUE)
            end = page.text(TEXT, base, _fit(scene.prefix, BODY, width, keep_end=True))
            page.cursor(end, base, BODY)
        else:
            page.text_to(LEFT + 26, base, str(place), BODY, FAINT)


def _written(page: _Page, scene: Scene) -> float:
    """Show the title in the making; return the line where its room ends."""
    page.label(RIGHT, RIGHT_END, TOP, f"Title {len(scene.slate) + 1}")
    base, end = TOP, float(RIGHT)
    for text in _wrap(scene.prefix, LARGE, RIGHT_END - RIGHT - 8, keep_end=True):
        base += LARGE_LINE
        end = page.text(RIGHT, base, text, LARGE)
    page.cursor(end, base, LARGE)
    return TOP + LARGE_LINE * TITLE_LINES


def _continuations(page: _Page, scene: Scene, y: float) -> None:
    """Show a bar for each token that may follow."""
    y += GAP
    note = f"titles it leaves, of {scene.num_remaining:,}"
    page.label(RIGHT, RIGHT_END, y, "Next token", note)
    y += LABEL
    most = max([1, *(count for _, count in scene.continuations)])
    for token, count in scene.continuations:
        page.text(RIGHT, y, _fit(token, BODY, BAR - RIGHT - 12))
        length = max((BAR_END - BAR) * count / most, 2)
        page.box(BAR, y - 12, BAR + length, y + 1, BLUE_BAR, 2)
        page.text_to(RIGHT_END, y, f"{count:,}", BODY, MUTED)
        y += LINE
    if scene.num_hidden:
        page.text(RIGHT, y, f"… {scene.num_hidden:,} more", SMALL, MUTED)


def _answer(page: _Page, scene: Scene, target: str) -> None:
    """Show the target and what became of it."""
    if scene.target_rank:
        verdict, note = "Hit", f"rank {scene.target_rank} of {scene.slate_size}"
    elif scene.illegal:
        verdict, note = "Illegal", "an illegal token voids the slate"
    else:
        verdict, note = "Miss", "not in the slate"
    ink, tint = (GREEN, GREEN_TINT) if scene.target_rank else (RED, RED_TINT)
    page.label(RIGHT, RIGHT_END, TOP, "The user chose")
    lines = _wrap(target, LARGE, RIGHT_END - RIGHT - 40)
    y = TOP + 16
    page.box(RIGHT, y, RIGHT_END, y + LARGE_LINE * len(lines) + 118, tint, 8)
    for text in lines:
        y += LARGE_LINE
        page.text(RIGHT + 20, y + 6, text, LARGE)
    page.text(RIGHT + 20, y + 64, verdict, HUGE, ink)
    page.text(RIGHT + 20, y + 96, note, BODY, ink)


@lru_cache(maxsize=4096)  # a title stays for many frames
def _fit(text: str, size: int, width: float, *, keep_end: bool = False) -> str:
    """Cut a text to a width; an ellipsis stands for what is missing."""
    if _length(text, size) <= width:
        return text

    def cut(kept: int) -> str:
        return f"…{text[len(text) - kept :]}" if keep_end else f"{text[:kept].rstrip(' ,.-')}…"

    fits, too_long = 0, len(text)
    while too_long - fits > 1:
        middle = (fits + too_long) // 2
        if _length(cut(middle), size) <= width:
            fits = middle
        else:
            too_long = middle
    return cut(fits)


def _wrap(text: str, size: int, width: float, *, keep_end: bool = False) -> list[str]:
    """Break a text into at most `TITLE_LINES` lines of a width, cut at one end if need be."""
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and _length(longer, size) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    if len(lines) > TITLE_LINES and keep_end:
        lines = [f"… {lines[-TITLE_LINES]}", *lines[1 - TITLE_LINES :]]
    elif len(lines) > TITLE_LINES:
        lines = [*lines[: TITLE_LINES - 1], f"{lines[TITLE_LINES - 1]} …"]
    return [_fit(line, size, width, keep_end=keep_end) for line in lines]


def _length(text: str, size: int) -> float:
    length: float = _font(size).getlength(_drawable(text))
    return length / SCALE


def _drawable(text: str) -> str:
    """Take off accents, which the font lacks; what else it lacks it draws as a box."""
    if text.isascii():
        return text
    return "".join(char for char in normalize("NFD", text) if not combining(char))


@lru_cache(maxsize=8)
def _font(size: int) -> Any:  # noqa: ANN401 - a PIL.ImageFont.FreeTypeFont
    from PIL import ImageFont

    return ImageFont.load_default(size * SCALE)
