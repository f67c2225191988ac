"""`rere`: the commands of `agents.commands`. Only parses; they do the work."""

import sys

__all__ = ["main"]

NEEDS = {"accelerate", "matplotlib", "safetensors", "torch", "tqdm", "transformers", "tyro"}


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status.

    Args:
        arguments: Default: those of the process.
    """
    try:
        import tyro

        from agents.commands import Command
    except ImportError as error:
        return _name_the_extra(error)
    command: Command = tyro.cli(
        Command,
        prog="rere",
        description="Recommendation as reinforcement learning: a language model learns to write "
        "the title a user will choose next.",
        args=arguments,
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes),
    )
    try:
        command.run()
    except ImportError as error:
        return _name_the_extra(error)
    except (ConnectionError, FileExistsError, FileNotFoundError, KeyError, ValueError) as error:
        # What a user can mend: the message says how, a traceback would only hide it.
        text = error.args[0] if isinstance(error, KeyError) else error
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


if __name__ == "__main__":
    sys.exit(main())
