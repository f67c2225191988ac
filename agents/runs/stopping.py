"""Being told to stop: signals, and how often to save before that. Knows nothing of training.

The first signal waits for the end of what must not be cut (a step and its save), the second ends
the process at once.
"""

import os
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

__all__ = ["Stopped", "Stopping", "parse_duration"]

NAMES = ("SIGINT", "SIGTERM", "SIGHUP")  # Windows has no SIGHUP

UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


class Stopped(KeyboardInterrupt):
    """A signal has ended the run; like Ctrl-C it passes by what catches errors.

    Attributes:
        signum: Which.
    """

    def __init__(self, signum: int, done: str = "") -> None:
        """Say what was done before: `saved after step 7 of RL`."""
        super().__init__(done)
        self.signum = signum
        self.done = done

    @property
    def status(self) -> int:
        """The exit status of a process that a signal ended: 130 for SIGINT."""
        return 128 + self.signum

    def line(self) -> str:
        """Return the message to the user."""
        name = signal.Signals(self.signum).name
        return f"stopped by {name}" + (f"; {self.done}" if self.done else "")


class Stopping:
    """Catches the signals that end a process while it is a context.

    Attributes:
        signum: The signal that has come, 0 for none.
    """

    def __init__(self) -> None:
        """Nothing has come."""
        self.signum = 0
        self._waits = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Stopping":
        """Catch them, in the main thread; one that is ignored (nohup) stays ignored."""
        if threading.current_thread() is threading.main_thread():
            numbers = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]
            for number in numbers:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *_: object) -> None:
        """Catch them no more."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def waits(self) -> Iterator[None]:
        """Let a signal wait for the end of what is done inside; who does it looks at `signum`.

        Raises:
            Stopped: One has come that nobody looked at.
        """
        self._waits = True
        try:
            yield
        finally:
            self._waits = False
        if self.signum:
            raise Stopped(self.signum)

    def _receive(self, signum: int, _: FrameType | None) -> None:
        if self.signum:  # the second: at once, as if nobody had caught it
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)
        self.signum = signum
        if not self._waits:
            raise Stopped(signum)


def parse_duration(text: str) -> float:
    """Return seconds.

    Raises:
        ValueError: It is no positive duration.

    >>> parse_duration("90s"), parse_duration("5m"), parse_duration("1.5h")
    (90.0, 300.0, 5400.0)
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text.strip())
    if found is None or float(found[1]) == 0:
        raise ValueError(
            f"`save_every` (={text!r}) must be a positive number with its unit, s, m or h; write "
            "30s, 5m or 1h."
        )
    return float(found[1]) * UNITS[found[2]]
