"""`rere algorithms`: what `rere train --algorithm` can train."""

import json
from dataclasses import asdict, dataclass

__all__ = ["Algorithms"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Algorithms:
    """List every algorithm with one line and the paper it is from.

    `policy` trains a language model by the main job; `agent` trains what it likes on the
    environment. Register your own with `agents.registry.register_algorithm`, or name it as
    `module:name`.

    Examples:
        rere algorithms
        rere algorithms --json

    Attributes:
        json: Print JSON.
    """

    json: bool = False

    def run(self) -> None:
        """Print the list."""
        from agents.registry import algorithms

        known = algorithms()
        if self.json:
            print(json.dumps([asdict(info) for info in known.values()], indent=2))
            return
        width = max(len(name) for name in known)
        for name, info in known.items():
            notes = [info.paper] if info.paper else []
            if info.extra is not None:
                notes.append(f"pip install 'rere-env[{info.extra}]'")
            note = f"  ({'; '.join(notes)})" if notes else ""
            print(f"{name:<{width}}  {info.kind:<6}  {info.summary}{note}")
