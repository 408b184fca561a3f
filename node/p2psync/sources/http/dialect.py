"""How orders become requests, and answers positions in the arena: one interface, which each kind of server
implements.
"""

from __future__ import annotations

from typing import Protocol

from p2psync.errors import P2psyncError
from p2psync.sources.http.body import Body
from p2psync.sources.http.head import ResponseHead
from p2psync.sources.orders import Order


class Dialect(Protocol):
    """How orders are asked of one kind of server. Used by several threads; has no state."""

    @property
    def spans_max(self) -> int:
        """Spans that an order may have."""

    ahead: int
    """Requests that may be sent ahead on one connection, while it carries as many."""
    by_path: bool
    """Whether content is found by its path."""

    @property
    def packed(self) -> Dialect | None:
        """The same with compressed answers; None where there is no such thing."""

    def request(self, order: Order) -> bytes | None:
        """The request for ``order``, head and body; None if this kind of server cannot have any of it.

        Raises ValueError for an order that is not one request; a defect of the caller.
        """

    def receive(
        self, order: Order, head: ResponseHead, body: Body, room: memoryview
    ) -> list[int] | P2psyncError:
        """Read the answer's body into ``room``, the order's extent.

        Returns for each span where in ``room`` its bytes lie, -1 for one that is not there; or the error,
        where the server refuses (the connection is then as good as before). Raises FormatError.
        """
