"""Who has to go when a lookup has heard of more nodes than it will ask."""

from __future__ import annotations

from p2psync_dht.contact import Contact
from p2psync_dht.shortlist import MAX_TRIED, Entry, State, least_wanted, own_wanted

ROOM = 60


def asked(*states: State, teller: bytes | None = None) -> list[Entry]:
    entries = told(teller, range(1, len(states) + 1))
    for entry, state in zip(entries, states, strict=True):
        entry.state = state
    return entries


def told(teller: bytes | None, distances: range) -> list[Entry]:
    return [
        Entry(Contact(number.to_bytes(20, "big"), "192.0.2.1", 8730), number, teller) for number in distances
    ]


def shortened(entries: list[Entry]) -> list[Entry]:
    kept = sorted(entries, key=lambda entry: entry.distance)
    while (gone := least_wanted(kept, ROOM)) is not None:
        kept.remove(gone)
    return kept


def test_nothing_goes_while_there_is_room() -> None:
    assert least_wanted(told(None, range(ROOM)), ROOM) is None


def test_contacts_invented_near_the_key_do_not_push_out_everybody_else() -> None:
    own = told(None, range(1000, 1020))
    honest = told(b"h" * 20, range(500, 520))
    invented: list[Entry] = []
    for liar in range(6):
        invented += told(bytes([liar]) * 20, range(liar * 10, liar * 10 + 10))
    kept = shortened([*own, *honest, *invented])
    assert len(kept) == ROOM
    for nearest in (own[:7], honest[:7]):
        assert all(entry in kept for entry in nearest)


def test_of_one_teller_the_farthest_goes() -> None:
    kept = shortened(told(b"t" * 20, range(100)))
    assert [entry.distance for entry in kept] == list(range(ROOM))


def test_who_was_asked_takes_no_room_and_does_not_go() -> None:
    asked = told(b"t" * 20, range(500, 580))
    for entry in asked:
        entry.state = State.FAILED
    kept = shortened([*asked, *told(None, range(ROOM))])
    assert len(kept) == 80 + ROOM


def test_contacts_of_our_own_are_wanted_until_enough_have_answered() -> None:
    one = asked(State.ANSWERED, State.SLOW, State.ASKED, State.NEW, State.NEW)
    assert own_wanted(one, (), 3) is one[3]
    assert own_wanted(one, (), 2) is None
    assert own_wanted(asked(State.NEW, teller=b"t" * 20), (), 3) is None


def test_contacts_of_our_own_are_not_tried_for_ever() -> None:
    silent = asked(*[State.FAILED] * (MAX_TRIED - 1), State.NEW)
    assert own_wanted(silent, (), 3) is silent[-1]
    assert own_wanted(silent, (), 3, tried=1) is None


def test_preferred_contacts_are_wanted_before_nearer_ones() -> None:
    one = asked(State.NEW, State.NEW, State.ANSWERED, State.NEW)
    preferred = {one[1].contact.id, one[3].contact.id}
    assert own_wanted(one, preferred, 3) is one[1]
    one[1].state = one[3].state = State.ASKED
    assert own_wanted(one, preferred, 3) is None  # These two, and the one that had answered.
    assert own_wanted(one, preferred, 4) is one[0]
