"""``p2psync verify [SRC] PATH``: check what is on disk against what was published or fetched there."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from p2psync.cli.command import Command
from p2psync.cli.options import Common, common_options, filter_options
from p2psync.cli.output import Output
from p2psync.cli.types import ARCHIVE_PART, DEST, url_of
from p2psync.errors import PartialError, UsageError, show_path
from p2psync.text import count, duration, name_fields, size

if TYPE_CHECKING:
    from p2psync.events import Teller
    from p2psync.fetch.verified import Verified
    from p2psync.fetch.verify import Finding
    from p2psync.format.url import ArchiveUrl


class VerifyCommand(Command):
    """A command with ``[SRC] PATH``: click gives a lone argument to the first."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        rest = super().parse_args(ctx, args)
        if ctx.params.get("path") is None and not ctx.resilient_parsing:
            text = ctx.params["src"]
            if text is None:
                raise click.MissingParameter(ctx=ctx, param=self.params[1])
            ctx.params["src"], ctx.params["path"] = None, DEST.convert(text, self.params[1], ctx)
        elif ctx.params.get("src") is not None:
            try:
                ctx.params["src"] = ARCHIVE_PART.convert(ctx.params["src"], None, ctx)
            except click.BadParameter as error:
                error.param_hint = "'SRC'"
                raise
        return rest


@click.command("verify", cls=VerifyCommand)
@click.argument("src", required=False, metavar="[SRC]")
@click.argument("path", required=False, type=DEST, metavar="PATH")
@click.option(
    "--archive",
    type=ARCHIVE_PART,
    metavar="ID",
    help="The same as SRC.",
)
@click.option(
    "--quick", is_flag=True, help="Do not read files: compare names, types, sizes, modes and times."
)
@filter_options
@common_options
def command(
    common: Common,
    src: ArchiveUrl | None,
    path: str,
    archive: ArchiveUrl | None,
    quick: bool,
    rules: list[tuple[str, str]],
    cvs_exclude: bool,
    from0: bool,
) -> int:
    """Check what was published or fetched, all of it or a part.

    PATH is a directory, a part of one, or a single file, and is held against what was published or fetched
    there. Reads every file and compares content, type, mode, time and symlink target. What was left out by
    choice, since only a part of the archive was fetched, or since a filter rule says so, is not missed. Of
    a fetch that did not come to its end, what is not there yet is told apart from what is damaged.

    With SRC, PATH is what it is for fetch, and is held against the newest snapshot that is known here:
    p2psync://ID and ID/DIR/ against PATH, ID/DIR against PATH/DIR, ID/FILE against PATH or PATH/FILE.

    What differs is listed one a line; the exit code is 23 if anything does.
    """
    from p2psync.cli.rules import rules_given
    from p2psync.cli.signals import run_async
    from p2psync.client import Client

    if src is not None and archive is not None:
        raise UsageError("SRC and --archive say the same: give one of them")
    out = common.out
    started = time.monotonic()

    async def run(tell: Teller) -> Verified:
        async with Client(common.state_path) as client:
            return await client.verify(
                path,
                archive=src or archive,
                rules=rules_given(rules, cvs_exclude=cvs_exclude, from0=from0),
                quick=quick,
                on_difference=lambda found: _tell(out, found),
                on_event=tell,
            )

    with out.observing() as tell:
        done = run_async(run(tell))
    seconds = time.monotonic() - started
    out.event(
        "verified",
        archive=url_of(done.archive) if done.archive else None,
        **name_fields(done.path, "path"),
        seq=done.seq or None,
        files=done.files,
        bytes=done.bytes,
        differences=len(done.differences),
        missing=done.missing,
        damaged=done.damaged,
        left_out=done.left_out.files,
        complete=done.complete,
        at_work=done.at_work,
        seconds=round(seconds, 3),
    )
    exit_code = PartialError.exit_code if done.differences or not done.complete else 0
    for line in describe(done, seconds):
        out.summary(line, always=bool(exit_code))
    return exit_code


def describe(done: Verified, seconds: float) -> list[str]:
    """The result for people."""
    of = f"snapshot {done.seq}" if done.seq else "several snapshots"
    where = f"'{show_path(done.path)}' in {of}" if done.path else of
    held = f"{count(done.files, 'file')}, {size(done.bytes)} of {where}, in {duration(seconds)}"
    if not done.differences:
        lines = [f"equal: {held}"]
    else:
        other = len(done.differences) - done.missing - done.damaged
        kinds = [(done.damaged, "damaged"), (done.missing, "missing"), (other, "otherwise different")]
        told = ", ".join(f"{number:,} {kind}" for number, kind in kinds if number)
        lines = [f"{count(len(done.differences), 'difference')} ({told}): {held}"]
    if done.left_out.files:
        lines.append(f"left out by rules: {count(done.left_out.files, 'file')}, {size(done.left_out.bytes)}")
    if done.at_work:
        lines.append("somebody is at work there now: verify again when that is done")
    elif not done.complete:
        lines.append("NOT complete: the last fetch did not come to its end; run it again")
    return lines


def _tell(out: Output, found: Finding) -> None:
    what = str(found.difference)
    out.event("difference", **name_fields(found.path, "path"), what=what, detail=found.detail)
    detail = f" ({show_path(found.detail)})" if found.detail else ""
    out.result(f"{what:<10} {show_path(found.path or b'.')}{detail}")
