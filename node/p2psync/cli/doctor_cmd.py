"""``p2psync doctor SRC``: why an archive is not reached, and what helps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from p2psync.cli.command import Command
from p2psync.cli.options import Common, Network, common_options, network_options
from p2psync.cli.types import SRC
from p2psync.text import clean_text

if TYPE_CHECKING:
    from p2psync.doctor.check import Check
    from p2psync.format.url import ArchiveUrl
    from p2psync.negotiate.origin import Origin

MARKS = {True: "ok", False: "FAILED", None: "?"}


@click.command("doctor", cls=Command)
@click.argument("src", type=SRC, required=False)
@network_options()
@common_options
def command(common: Common, network: Network, src: ArchiveUrl | Origin | None) -> int:
    """Try every way to an archive, and say what helps.

    SRC is what it is for `p2psync fetch`; without it, the ways into the network are tried. Tried are names
    in DNS, nodes by UDP and by TCP, gateways to the DHT, web servers, the rsync daemon, the proxies that
    are used, and the clock, each for six seconds at most. Nothing is fetched, and no server is held to what
    it says.

    The exit code is 0 if the archive was found and somebody who may have it answers.
    """
    from p2psync.cli.signals import run_async
    from p2psync.client import Client
    from p2psync.errors import NetworkError

    out = common.out
    checks: list[Check] = []

    def tell(check: Check) -> None:
        checks.append(check)
        fields = check._asdict()
        del fields["told"]
        out.event("check", **(fields | {"seconds": round(check.seconds, 3)}))
        target = f"{check.target}: " if check.target else ""
        out.result(clean_text(f"{MARKS[check.ok]:<7} {check.way:<8} {target}{check.detail}"))
        if check.remedy:
            out.result(clean_text(f"{'':<16} {check.remedy}"))

    async def diagnose() -> bool:
        async with Client(common.state_path) as client:
            return await client.diagnose(src, tell, dns=network.dns, **network.asking())

    well = run_async(diagnose())
    works = sorted({check.way for check in checks if check.ok})
    fails = sorted({check.way for check in checks if check.ok is False})
    out.event("diagnosis", ok=well, works=works, fails=fails)
    if not well:
        what = "the network" if src is None else "the archive"
        raise NetworkError(f"{what} was not reached; what works from here: {', '.join(works) or 'nothing'}")
    out.say("the network was reached" if src is None else "the archive can be fetched")
    return 0
