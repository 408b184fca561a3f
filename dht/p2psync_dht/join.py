"""The lookup by which a node joins: it may know no contacts yet, only addresses of whoever is there."""

from __future__ import annotations

from collections.abc import Callable

from p2psync_dht.contact import Address, Contact
from p2psync_dht.keys import ID_SIZE
from p2psync_dht.lookup import Lookup
from p2psync_dht.query import Reply
from p2psync_dht.shortlist import State


def _nothing() -> None:
    return


class JoinLookup(Lookup):
    """A lookup that also asks addresses whose ids are not known."""

    def hold(self) -> None:
        """Do not end for want of answers: an address may come yet. `release` takes it back."""
        self._addresses_waited_for += 1

    def release(self) -> None:
        self._addresses_waited_for -= 1
        self._pump()

    def ask_address(self, address: Address, heard: Callable[[], object] = _nothing) -> None:
        """Ask whoever is there. All addresses at once, so that a dead one does not delay the others.

        ``heard`` is called if somebody answers.
        """
        self._addresses_waited_for += 1
        self.queries += 1
        stranger = Contact(bytes(ID_SIZE), *address)

        def answered(reply: Reply | None) -> None:
            if reply is not None:
                heard()
            self._address_answered(reply)

        self._protocol.find(stranger, self._target, self._want, answered, known_id=False)

    def _address_answered(self, reply: Reply | None) -> None:
        self._addresses_waited_for -= 1
        if reply is not None and not self._done.done():
            self._add(reply.contact, None)
            entry = self._seen.get(reply.contact.id)
            # If it was asked by its id as well, that answer is on its way.
            if entry is not None and entry.state == State.NEW:
                entry.state = State.ANSWERED
                self._take(entry, reply)
        self._pump()
