"""Writes p2psync.toml, the example with every key: from the options themselves, so that none is missing or
stale.

python bootstrap/example_config.py > bootstrap/p2psync.toml
"""

from __future__ import annotations

import sys
import textwrap

import click

from p2psync.cli.app import program
from p2psync.cli.settings import schema_of

COMMON = (
    "state",
    "bootstrap",
    "seeds",
    "seeds-key",
    "dns",
    "proxy",
    "no-proxy",
    "ca-file",
    "udp",
    "json",
    "quiet",
    "verbose",
)
"""Keys that stand at the top: what they say holds for every command that has the option."""

NO_TABLE = ("seeds.",)
"""Commands without a table: TOML allows no table of the name that a key above has."""
SHARED = {"hooks": "p2psync mirror, and node: commands that are run before and after updates of mirrors"}
"""Tables that are of no command, and what they are for."""
KEY = "a" * 52
EXAMPLES = {
    "static": '"p2psync"',
    "state": '"/var/lib/p2psync"',
    "bootstrap": '["boot1.example.org:8730", "boot2.example.org:8730"]',
    "seeds": '["example.org", "https://example.net/p2psync-seeds"]',
    "seeds-key": f'["{KEY}"]',
    "dns": '"127.0.0.53"',
    "proxy": '"http://proxy.example.org:3128"',
    "no-proxy": '"example.org, 192.0.2.0/24"',
    "ca-file": '"/etc/ssl/proxy-ca.pem"',
    "tls-cert": '"/etc/letsencrypt/live/archive.example.org/fullchain.pem"',
    "tls-key": '"/etc/letsencrypt/live/archive.example.org/privkey.pem"',
    "listen": '"[::]:8730"',
    "advertise": '"mirror.example.org:8730"',
    "metrics": '"127.0.0.1:9730"',
    "source": '["mirror.example.org:8730"]',
    "filter": '["- *.tmp"]',
    "include": '["*.iso"]',
    "exclude": '["/incoming/"]',
    "archive": f'"{KEY}"',
    "signing": f'"{KEY}"',
    "to": f'"{"0" * 64}"',
    "timeout": '"60"',
    "verbose": "1",
    "files-from": '"/etc/p2psync.names"',
    "max-size": '"2g"',
    "min-size": '"1k"',
    "exclude-from": '["/etc/p2psync.exclude"]',
    "include-from": '["/etc/p2psync.include"]',
    "before": '["/usr/bin/mountpoint", "-q", "/srv/mirror"]',
    "after": '["/usr/local/bin/mirror-updated"]',
    "failed": '["/usr/local/bin/mirror-failed"]',
    "web": '["https://mirror.example.org/pub"]',
    "allow": '["192.0.2.0/24"]',
    "deny": f'["{"0" * 64}"]',
    "network": '["192.0.2.0/24=198.51.100.7"]',
    "site": '["10.0.0.0/8=10.1.2.3"]',
    "weight": '["198.51.100.7=200"]',
    "redirect": '"64k"',
    "max-total": '"500g"',
    "max-files": "1000000",
    "max-delete": "100",
    "tree": '"/srv/archive"',
    "keep": '"/tmp/p2psync-demo"',
}
"""What a value may look like, where an option's default does not show it."""

HEAD = """\
# p2psync.toml: every key there is, each with an example; those that are wanted lose their "#".
#
# Read from /etc/p2psync.toml, then from ~/.config/p2psync/p2psync.toml, which is stronger; or from that of
# --config alone. Stronger than both are environment variables (P2PSYNC_<COMMAND>_<OPTION>), and the command
# line. A key that is not known, or has a wrong type, is an error that names its line. Keys are the long names
# of options. The commands "p2psync seeds ..." have no table here, since "seeds" is a key.

# ---- for every command that has the option -----------------------------------------------------------------
"""


def example(option: click.Option, key: str) -> str:
    """A value for a key, as TOML."""
    if key in EXAMPLES:
        return EXAMPLES[key]
    if option.is_flag:
        return "true"
    default = option.default
    if isinstance(default, list | tuple):
        return "[" + ", ".join(f'"{item}"' for item in default) + "]"
    if isinstance(option.type, click.Choice):
        return f'"{default or option.type.choices[0]}"'
    if isinstance(default, int) and not isinstance(default, bool):
        return str(default)
    text = default if isinstance(default, str) else ""
    return f'["{text}"]' if option.multiple else f'"{text}"'


def lines(option: click.Option, key: str) -> list[str]:
    """A key with its explanation, commented out."""
    told = textwrap.wrap(" ".join((option.help or "").split()), 106)
    return [*(f"# {line}" for line in told), f"#{key} = {example(option, key)}", ""]


def write() -> str:
    """The whole file."""
    context = click.Context(program)
    schema = schema_of(program, context)
    commands = {path: _command(path, context) for path in schema}
    made = [HEAD]
    for key in COMMON:
        option = next(found for command in commands.values() if (found := _option(command, key)))
        made += lines(option, key)
    for path, settings in schema.items():
        own = [key for key in settings if key not in COMMON]
        if own and not path.startswith(NO_TABLE):
            whose = SHARED.get(path, f"p2psync {path.replace('.', ' ')}")
            made += [f"# ---- {whose} ".ljust(111, "-"), "", f"[{path}]", ""]
            for key in own:
                named = _option(commands[path], key) or _option(commands["node"], f"{path}-{key}")
                made += lines(named, key) if named else []
    return "\n".join(made)


def _command(path: str, context: click.Context) -> click.Command:
    command: click.Command = program
    for word in path.split("."):
        if isinstance(command, click.Group):
            command = command.get_command(context, word) or command
    return command


def _option(command: click.Command, key: str) -> click.Option | None:
    for param in command.params:
        if isinstance(param, click.Option) and max(param.opts, key=len).lstrip("-") == key:
            return param
    return None


if __name__ == "__main__":
    sys.stdout.write(write())
