"""The program ``p2psync``: finds the command, runs it, and turns whatever happened into an exit code and one
sentence.

Importing this module loads click and nothing heavier. A command's module is imported when the command is
used, and what the command works with (aiohttp, rich, sqlite3, ...) only when it runs: ``p2psync --help``
stays instant.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Iterator, MutableMapping, Sequence
from typing import Any

import click

from p2psync import __version__
from p2psync.cli.command import Group
from p2psync.cli.journal import ERROR, say
from p2psync.cli.output import print_json
from p2psync.cli.signals import Stopped, stop_on_signals
from p2psync.cli.streams import give_up, is_of_output, open_streams
from p2psync.errors import FileError, InterruptedFetch, P2psyncError, UsageError, show_path
from p2psync.text import clean_lines, clean_text

# Command -> (module, first line of its help). The line stands here as well so that `p2psync --help` imports
# no command; tests/node/test_cli_frame.py holds the two against each other.
COMMANDS: dict[str, tuple[str, str]] = {
    "publish": ("publish_cmd", "Publish a directory, or a new snapshot of it, and print its URL."),
    "fetch": ("fetch_cmd", "Make a directory equal to an archive."),
    "rsync": ("rsync_cmd", "Take rsync's command line: by P2P where there is an archive, else by rsync."),
    "mirror": ("mirror_cmd", "Fetch an archive, keep it up to date, serve it and announce it."),
    "node": ("node_cmd", "Run the daemon: serve and announce everything in the state directory."),
    "list": ("list_cmd", "Show what is published, mirrored and fetched here."),
    "unpublish": ("unpublish_cmd", "End an archive: its newest snapshot is the last one."),
    "forget": ("forget_cmd", "Stop publishing or mirroring a directory, and forget it."),
    "ls": ("ls_cmd", "List an archive without fetching it."),
    "mirrors": ("mirrors_cmd", "Show who holds an archive, how much of it and how fresh."),
    "doctor": ("doctor_cmd", "Try every way to an archive, and say what helps."),
    "verify": ("verify_cmd", "Check what was published or fetched, all of it or a part."),
    "key": ("key_cmd", "Make, show, move and delegate archive keys."),
    "dht": ("dht_cmd", "Look into the DHT: ping nodes, follow lookups, measure the network."),
    "seeds": ("seeds_cmd", "Make, sign and check lists of nodes to join a network by."),
    "demo": ("demo_cmd", "Run a whole network on this machine and lose its origin."),
    "help": ("help_cmd", "Show the manual page of a command."),
}

REPORT_HINT = "this is a defect in p2psync: please report it with the output of the same command and -v"


class LazyCommands(MutableMapping[str, click.Command]):
    """The commands, each imported when it is looked up. Fixed: nothing is set or deleted."""

    def __getitem__(self, name: str) -> click.Command:
        module = importlib.import_module(f"p2psync.cli.{COMMANDS[name][0]}")
        command: click.Command = module.command
        return command

    def __contains__(self, name: object) -> bool:
        return name in COMMANDS

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)

    def __setitem__(self, name: str, command: click.Command) -> None:
        raise TypeError("commands stand in COMMANDS")

    def __delitem__(self, name: str) -> None:
        raise TypeError("commands stand in COMMANDS")


class LazyGroup(Group):
    """A group of LazyCommands that shows its help without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[Any]:
        from click.shell_completion import CompletionItem

        items = [CompletionItem(n, help=t) for n, (_, t) in COMMANDS.items() if n.startswith(incomplete)]
        return [*items, *click.Command.shell_complete(self, ctx, incomplete)]


@click.group(
    cls=LazyGroup,
    commands=LazyCommands(),
    no_args_is_help=False,
    context_settings={"auto_envvar_prefix": "P2PSYNC"},
    epilog="Options can also stand in p2psync.toml, or in variables P2PSYNC_<COMMAND>_<OPTION>.",
)
@click.version_option(
    __version__,
    "-V",
    "--version",
    prog_name="p2psync",
    message="%(prog)s %(version)s",
    allow_from_autoenv=False,  # $P2PSYNC_VERSION is what an image calls the version that it has.
)
def program() -> None:
    """Mirror archives like rsync, spread the load like BitTorrent.

    An archive is a directory that somebody published under a key; its URL is p2psync://ID. Whoever mirrors or
    fetches it can serve it too, so it stays available when its origin is gone.
    """


def run(argv: Sequence[str]) -> int:
    """Run one command line in this process and return its exit code (docs/exit-codes.md). Never raises for
    what a command met.
    """
    open_streams()
    stop_on_signals()
    try:
        result = program.main(args=list(argv), prog_name="p2psync", standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as exit_:
        return exit_.exit_code
    except BrokenPipeError:
        # Whoever read our output went away (`p2psync ls ... | head`): nobody is left to tell.
        give_up(sys.stdout)
        return UsageError.exit_code
    except (Exception, KeyboardInterrupt, Stopped) as error:
        if _verbose(argv) and not isinstance(error, click.ClickException):
            import traceback

            with contextlib.suppress(OSError):
                print(clean_lines(traceback.format_exc()), end="", file=sys.stderr, flush=True)
        return tell_end(error, _wants_json(argv))


def tell_end(error: BaseException, json: bool) -> int:
    """Say what ended the command, wherever that is still possible; the exit code."""
    explained = explain(error)
    if json:
        with contextlib.suppress(OSError):
            print_json(explained.as_event())
    if is_of_output(error):
        give_up(sys.stdout)
    say(ERROR, clean_text(str(explained)))
    return explained.exit_code


def explain(error: BaseException) -> P2psyncError:
    """What a person and a script are told of any exception."""
    if isinstance(error, P2psyncError):
        return error
    if isinstance(error, BaseExceptionGroup):
        # A task group wraps what ended it: one explained error says more than the wrapping.
        known, _ = error.split(P2psyncError)
        return explain((known or error).exceptions[0])
    if isinstance(error, click.ClickException):
        return UsageError(_usage_sentence(error))
    if isinstance(error, KeyboardInterrupt | click.Abort | Stopped):
        return InterruptedFetch("stopped by a signal; run the same command again to go on from here")
    if isinstance(error, OSError):
        return FileError(_system_sentence(error))
    return P2psyncError(f"unexpected {type(error).__name__}: {error or 'no details'}; {REPORT_HINT}")


def _system_sentence(error: OSError) -> str:
    if is_of_output(error):
        return f"standard output cannot be written to: {error.strerror}; what was done without it is kept"
    where = f" ('{show_path(error.filename)}')" if isinstance(error.filename, str | bytes) else ""
    return f"{error.strerror or error}{where}"


def _usage_sentence(error: click.ClickException) -> str:
    context = getattr(error, "ctx", None)
    message = error.format_message().rstrip(".").replace(". (", " (")
    message = message[:1].lower() + message[1:]
    return f"{message}; see '{context.command_path} --help'" if context is not None else message


def _command_flags(argv: Sequence[str]) -> list[str]:
    return list(argv[: argv.index("--")] if "--" in argv else argv)


def _wants_json(argv: Sequence[str]) -> bool:
    """Whether this command line speaks JSON, known even when it could not be parsed."""
    words = [word.upper().replace("-", "_") for word in argv[:2] if not word.startswith("-")]
    variables = ("_".join(["P2PSYNC", *words[:depth], "JSON"]) for depth in (1, 2))
    set_in_environment = any(os.environ.get(v, "").lower() in {"1", "true", "yes", "on"} for v in variables)
    return "--json" in _command_flags(argv) or set_in_environment


def _verbose(argv: Sequence[str]) -> bool:
    return any(
        word == "--verbose" or (word[:1] == "-" and word.strip("v") == "-") for word in _command_flags(argv)
    )
