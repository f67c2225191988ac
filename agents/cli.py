"""`rere`: the commands of `agents.commands`. Only parses; they do the work."""

import errno
import signal
import sys
from types import TracebackType

__all__ = ["main"]

DEBUG = "--debug"

UNWRITABLE = {errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EPERM}

NEEDS = {"accelerate", "matplotlib", "safetensors", "torch", "tqdm", "transformers", "tyro"}


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status.

    Args:
        arguments: Default: those of the process.
    """
    given = sys.argv[1:] if arguments is None else arguments
    debug = DEBUG in given
    if arguments is None and not debug:
        sys.excepthook = _in_one_line  # of the process only: a caller gets the error itself
    try:
        import tyro

        from agents.commands import Command
        from agents.runs.stopping import Stopped
    except ImportError as error:
        return _name_the_extra(error)
    command: Command = tyro.cli(
        Command,
        prog="rere",
        description="Recommendation as reinforcement learning: a language model learns to write "
        "the title a user will choose next. --debug anywhere shows the traceback of an error.",
        args=[argument for argument in given if argument != DEBUG],
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes),
    )
    try:
        command.run()
    except ImportError as error:
        return _name_the_extra(error)
    except KeyboardInterrupt as interrupt:
        if debug:
            raise
        stopped = interrupt if isinstance(interrupt, Stopped) else Stopped(signal.SIGINT)
        print(f"rere: {stopped.line()}", file=sys.stderr)
        return stopped.status
    except (OSError, KeyError, ValueError) as error:
        # What a user can mend: the message says how, a traceback would only hide it.
        if debug:
            raise
        text = error.args[0] if isinstance(error, KeyError) else error
        if isinstance(error, OSError) and error.errno in UNWRITABLE:
            text = f"{error}; choose a folder that you may write to, on a disk with room."
        print(f"rere: {text}", file=sys.stderr)
        return 2
    return 0


def _name_the_extra(error: ImportError) -> int:
    if "rere-env[" in str(error):  # an error of ours names it already
        print(f"rere: {error}", file=sys.stderr)
        return 1
    if (error.name or "").split(".")[0] not in NEEDS:
        raise error
    print(f"rere needs {error.name}: pip install 'rere-env[llm]'", file=sys.stderr)
    return 1


def _in_one_line(kind: type[BaseException], error: BaseException, _: TracebackType | None) -> None:
    """Print an error that nobody expected as one line."""
    said = " ".join(str(error).split())
    print(
        f"rere: unexpected {kind.__name__}: {said or 'no message'}; add {DEBUG} to see where, and "
        "please report it.",
        file=sys.stderr,
    )


if __name__ == "__main__":
    sys.exit(main())
