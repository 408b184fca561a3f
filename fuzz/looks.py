"""What must hold of a ping, a watched lookup and a walk, whatever the answers were.

`provers` are the ids that can be proved: whoever believes another is a find.
"""

from __future__ import annotations

from collections.abc import Set

from p2psync_dht.contact import MAX_TOLD
from p2psync_dht.crawl import Crawl
from p2psync_dht.lookup import MAX_QUERIES
from p2psync_dht.service import MAX_AGENT, MAX_PER_PAGE
from p2psync_dht.testing.virtual import EPOCH
from p2psync_dht.trace import Outcome, PingReport, Step, Trace

NOW = int(EPOCH)


def check_report(report: PingReport, provers: Set[bytes]) -> None:
    """Of a ping."""
    for pong in report.pongs:
        assert (pong.rtt is None) <= (not pong.verified)
        assert not pong.verified or pong.node_id in provers
        _check_agent(pong.agent)
        if pong.observed is not None:
            assert 0 < pong.observed[1] < 65536
    assert report.last is None or report.last.rtt is not None
    assert all(rtt >= 0 for rtt in report.rtts)


def check_trace(trace: Trace, provers: Set[bytes]) -> None:
    """Of a watched lookup."""
    assert len(trace.steps) <= MAX_QUERIES
    assert sum(map(trace.count, Outcome)) == len(trace.steps)
    asked = {step.contact.id: step for step in trace.steps}
    for step in trace.steps:
        _check_step(step, trace)
        if step.outcome == Outcome.ANSWERED:
            assert step.contact.id in provers
        if step.teller is not None and step.teller in asked:
            assert step.hop <= asked[step.teller].hop + 1
    assert (trace.best is None) == (not trace.heads)
    assert len({record.node_key for record in trace.holders}) == len(trace.holders)


def _check_step(step: Step, trace: Trace) -> None:
    assert 0 <= step.asked_at <= trace.seconds
    assert step.rtt is None or step.rtt >= 0
    assert 0 <= step.new <= step.told <= MAX_TOLD
    assert 0 <= step.kept < 2**32
    assert step.invalid >= 0
    assert len(step.holders) + step.invalid <= MAX_PER_PAGE
    if step.outcome != Outcome.ANSWERED:
        assert (step.head, step.holders, step.kept, step.invalid) == (None, (), 0, 0)
    if step.head is not None:
        assert step.head.key == trace.key
        step.head.verify(NOW)
    for record in step.holders:
        assert record.key == trace.key
        record.verify(NOW)


def check_crawl(found: Crawl, provers: Set[bytes]) -> None:
    """Of a walk."""
    assert set(found.nodes) <= provers
    assert 0 <= found.reachable <= 1
    assert len(found.nodes) + found.silent + found.unproved <= found.asked
    assert found.complete == (found.skipped == 0)
    for node_id, node in found.nodes.items():
        assert node.node_id == node_id
        assert node.rtt >= 0
        assert 0 <= node.told <= 2 * MAX_TOLD
        _check_agent(node.agent)
    assert 0 <= found.estimate.low <= found.estimate.nodes <= found.estimate.high


def _check_agent(agent: str) -> None:
    """It goes to a terminal."""
    assert len(agent) <= MAX_AGENT
    assert agent.isascii()
    assert agent.isprintable()
