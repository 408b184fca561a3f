"""Nodes that answer with lies, for tests and benchmarks of what others make of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from p2psync_dht.contact import Address, Contact
from p2psync_dht.node import DhtNode
from p2psync_dht.wire import Kind, Message

Lie = Callable[[bytes, Any], tuple[Iterable[Contact], Any]]
"""From the key that was asked for, and what is truly kept under it, to the contacts and the value that are
told. The value is None, [head, copies] or [number of holders, records], as in a reply.
"""


def tell_lies(node: DhtNode, lie: Lie) -> None:
    """Have a node answer every lookup as `lie` says, and all else honestly."""
    handlers = node.protocol.service.handlers
    honest = handlers[Kind.FIND]

    def answer(message: Message, address: Address) -> tuple[list[Any], int]:
        body, budget = honest(message, address)
        contacts, body[3] = lie(message.body[0], body[3])
        body[2] = b"".join(one.pack() for one in contacts)
        return body, budget

    handlers[Kind.FIND] = answer
