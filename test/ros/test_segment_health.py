"""What `segment` says of a scan that does not come to its end."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from clouds import scan
from fake_segment import Fault
from node_process import NodeProcess
from segment_peer import Peer

from twodpass_ros.diagnostics import ERROR, WARN
from twodpass_ros.segment.health import Health


def test_a_scan_long_in_work_is_a_warning_and_in_the_end_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("twodpass_ros.segment.health.time", SimpleNamespace(monotonic=lambda: now))
    health = Health()
    health.work_begun()

    def troubles() -> list[tuple[bytes, str]]:
        return health.troubles(input_timeout=60.0, late_after=1.0, source="")

    for now, expected in ((100.9, []), (101.5, [WARN]), (104.0, [ERROR])):  # noqa: B007
        assert [level for level, _ in troubles()] == expected
    assert troubles() == [(ERROR, "a scan has been in work for 4.0 s")]
    health.scan_published(latency=0.5, late_after=1.0)
    assert not troubles()


def test_every_scan_is_counted_once_as_received_and_once_as_what_became_of_it() -> None:
    health = Health()
    for _ in range(4):
        health.scan_received()
    health.scan_replaced()
    health.scan_unread()
    health.scan_failed("cut off")
    health.scan_published(0.1, 1.0)
    health.scans_lost(3)
    counts = health.counts()
    assert (counts.received, counts.published, counts.dropped, counts.unread) == (7, 1, 5, 1)


def test_the_diagnostics_tell_of_a_scan_in_work(peer: Peer) -> None:
    with NodeProcess.fake("-p", "late_after:=0.1"):
        peer.wait_for_active_node()
        peer.scans.publish(scan(first_intensity=Fault.SLOW))
        peer.spin_until(
            lambda: any("a scan has been in work for" in status.message for status in peer.diagnostics), "the words"
        )
