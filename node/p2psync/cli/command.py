"""The classes of commands: help with options under headings and with examples, and filter rules in order.

The examples come from ``manual.entries``, which is imported when help is shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import click

HEADINGS: Final[dict[str, tuple[str, ...]]] = {
    "Filter rules": ("filter", "include", "exclude", "include_from", "exclude_from", "from0", "cvs_exclude"),
    "Deletions": (
        "delete",
        "delete_excluded",
        "delete_before",
        "delete_during",
        "delete_delay",
        "delete_after",
        "force",
        "ignore_errors",
        "max_delete",
        "protect",
        "accept_shrink",
        "accept_moved",
    ),
    "What is fetched, as in rsync": (
        "files_from",
        "recursive",
        "prune_empty_dirs",
        "max_size",
        "min_size",
        "safe_links",
        "update",
        "ignore_non_existing",
        "ignore_existing",
        "size_only",
        "ignore_times",
        "modify_window",
        "omit_dir_times",
        "delay_updates",
        "one_file_system",
    ),
    "Transfer": (
        "checksum",
        "no_check_dest",
        "special_bits",
        "require_fresh",
        "bwlimit",
        "timeout",
        "contimeout",
        "no_share",
    ),
    "Network": (
        "bootstrap",
        "source",
        "seeds",
        "seeds_key",
        "dns",
        "proxy",
        "no_proxy",
        "ca_file",
        "udp",
        "listen",
        "advertise",
        "metrics",
        "rsync_listen",
        "tls_cert",
        "tls_key",
        "tls_listen",
    ),
    "Recommended mirrors": (
        "mirrors_allow",
        "mirrors_deny",
        "mirrors_web",
        "mirrors_max_lag",
        "mirrors_network",
        "mirrors_site",
        "mirrors_weight",
        "mirrors_redirect",
    ),
    "Hooks": ("hooks_before", "hooks_after", "hooks_failed", "hooks_timeout"),
    "Cron and monitoring": ("queue", "status_file"),
    "Output and settings": ("json", "json_files", "quiet", "verbose", "state", "config", "help"),
}
"""Where an option stands that several commands have, by its long name. All others come first."""
OWN: Final = "Options"
RULE_OPTIONS: Final = ("filter", "include", "exclude", "include_from", "exclude_from")


def option_groups(command: click.Command, ctx: click.Context) -> dict[str, list[tuple[str, str]]]:
    """The options of a command as its help shows them: heading -> (names, explanation). None is empty."""
    places = {name: (title, place) for title, names in HEADINGS.items() for place, name in enumerate(names)}
    found: dict[str, list[tuple[int, tuple[str, str]]]] = {title: [] for title in (OWN, *HEADINGS)}
    for param in command.get_params(ctx):
        record = param.get_help_record(ctx) if isinstance(param, click.Option) else None
        if record is not None:
            name = max(param.opts, key=len).lstrip("-").replace("-", "_")
            title, place = places.get(name, (OWN, 0))
            found[title].append((place, record))
    return {
        title: [record for _, record in sorted(rows, key=lambda row: row[0])]
        for title, rows in found.items()
        if rows
    }


class Optional(click.Option):
    """An option whose value may be left out, and otherwise stands behind ``=``, as in rsync: a word that
    follows it is never its value. ``flag_value``, with ``is_flag=False``, is what it means without one.
    """

    def get_help_record(self, ctx: click.Context) -> tuple[str, str]:
        name = max(self.opts, key=len)
        return f"{name}[={self.make_metavar(ctx)}]", self.help or ""


def _with_values(command: click.Command, args: Sequence[str]) -> Iterator[str]:
    """The words of a command line, with their values behind the options that may lack them."""
    lacking = {
        name: f"{name}={param.flag_value}"
        for param in command.params
        if isinstance(param, Optional)
        for name in param.opts
    }
    for place, word in enumerate(args):
        if word == "--":
            yield from args[place:]
            return
        yield lacking.get(word, word)


class Explained(click.Command):
    """A command whose help has headings, and examples from the manual."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, [*_with_values(self, args)])

    def get_help_option_names(self, ctx: click.Context) -> list[str]:
        """The same wherever a command is looked at: click keeps what it found first."""
        return ["-h", "--help"]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups = option_groups(self, ctx)
        for title, rows in groups.items():
            with formatter.section(title if len(groups) > 1 else OWN):
                formatter.write_dl(rows)
        if isinstance(self, click.Group):
            self.format_commands(ctx, formatter)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from p2psync.cli.manual.entries import entry_of

        program, *path = ctx.command_path.split()
        entry = entry_of(tuple(path))
        if entry is not None and entry.examples:
            with formatter.section("Examples"):
                for example in entry.examples:
                    formatter.write_text(example.purpose)
                    formatter.indent()
                    for line in example.lines:
                        formatter.write(f"{'':{formatter.current_indent}}{line}\n")
                    formatter.dedent()
        super().format_epilog(ctx, formatter)
        formatter.write_paragraph()
        formatter.write_text(f"Exit codes, files and more: {' '.join([program, 'help', *path])}")


class Command(Explained):
    """A command whose ``--filter``, ``--include``, ``--exclude``, ``--include-from`` and ``--exclude-from``
    keep their order among each other.

    It matters, as in rsync: the first rule that matches decides. The parameter ``rules`` is the list of
    ``(option, text)``, for example ``("exclude", "*.tmp")``. Rules from the environment or from the
    configuration come in this order; each option on the command line replaces what
    they say for it.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return self._parse(ctx, args)
        except click.NoSuchOption as error:
            from p2psync.cli.not_built import reason
            from p2psync.errors import UsageError

            told = reason(error.option_name) if self.name in ("fetch", "mirror") else None
            if told is None:
                raise
            raise UsageError(told) from None

    def _parse(self, ctx: click.Context, args: list[str]) -> list[str]:
        names = {option.name for option in self.params} & set(RULE_OPTIONS)
        if not names:
            return super().parse_args(ctx, args)
        _, _, order = self.make_parser(ctx).parse_args(args=[*_with_values(self, args)])
        rest = super().parse_args(ctx, args)
        given = {name: list(ctx.params.pop(name) or ()) for name in RULE_OPTIONS}
        rules = [(p.name, given[p.name].pop(0)) for p in order if p.name in names and given[p.name]]
        rules += [(name, text) for name in RULE_OPTIONS for text in given[name]]
        ctx.params["rules"] = rules
        return rest


class Group(Explained, click.Group):
    """A command that has commands, all of whose help looks the same."""

    command_class = Command
