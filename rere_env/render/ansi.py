"""A scene as lines of text."""

from rere_env.render.scene import Scene

__all__ = ["ansi", "cut"]

WIDTH = 78


COLUMNS = 3


def ansi(scene: Scene, *, color: bool = False) -> str:
    """Lay a scene out as lines of text.

    Args:
        scene: What to show.
        color: Add the escape codes of terminal colours.
    """

    def paint(text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if color else text

    heading, faint, green, red = "1", "2", "1;32", "1;31"
    lines = [paint("history", heading) + paint(", oldest first", faint)]
    lines += [f"   . {cut(title)}" for title in scene.history] or ["   (none)"]
    lines.append(
        paint("slate", heading)
        + paint(f", best first ({len(scene.slate)} of {scene.slate_size})", faint)
    )
    for place, title in enumerate(scene.slate, start=1):
        if place == scene.target_rank:
            lines.append(paint(f"  {place:>2} {cut(title)}  <- the target", green))
        else:
            lines.append(f"  {place:>2} {cut(title)}")
    if scene.target is None:
        written = cut(scene.prefix, keep_end=True)
        lines.append(f"  {len(scene.slate) + 1:>2} " + paint(f"{written}_", heading))
        if scene.continuations:
            note = f", with the titles it leaves of {scene.num_remaining:,}"
            lines += [paint("next token", heading) + paint(note, faint)]
            lines += _table(scene.continuations)
        if scene.continuations and scene.num_hidden:
            lines.append(paint(f"        ... {scene.num_hidden:,} more", faint))
    else:
        lines.append(paint("target", heading))
        verdict = paint(f"({_verdict(scene)})", green if scene.target_rank else red)
        lines.append(f"   > {cut(scene.target)} {verdict}")
    return "\n".join(lines) + "\n"


def _verdict(scene: Scene) -> str:
    if scene.illegal:
        return "an illegal token ended the slate"
    return f"hit, rank {scene.target_rank}" if scene.target_rank else "miss, not in the slate"


def _table(continuations: tuple[tuple[str, int], ...]) -> list[str]:
    """Lay tokens out in columns, row by row: counts to the right, tokens to the left."""
    width = WIDTH // COLUMNS - 8
    cells = [f"{count:>7} {cut(token, width):<{width}}" for token, count in continuations]
    rows = range(0, len(cells), COLUMNS)
    return ["".join(cells[start : start + COLUMNS]).rstrip() for start in rows]


def cut(text: str, width: int = WIDTH, *, keep_end: bool = False) -> str:
    """Shorten a text to a number of characters; dots stand for what is missing."""
    if len(text) <= width:
        return text
    return "..." + text[3 - width :] if keep_end else text[: width - 3] + "..."
