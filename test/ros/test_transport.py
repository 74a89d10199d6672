"""Losses on the way of a cloud that a machine's settings make likely."""

from __future__ import annotations

from pathlib import Path

import pytest

from twodpass_ros import transport
from twodpass_ros.transport import doubt_of_receive_buffer


@pytest.mark.parametrize(
    ("middleware", "size", "doubted"),
    [
        ("rmw_cyclonedds_cpp", "212992\n", True),
        ("rmw_cyclonedds_cpp", "33554432\n", False),
        ("rmw_cyclonedds_cpp", None, False),
        ("rmw_fastrtps_cpp", "212992\n", False),  # on one machine, by shared memory
    ],
)
def test_a_receive_buffer_that_holds_no_cloud_is_told_where_all_goes_by_it(
    middleware: str, size: str | None, doubted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if size is not None:
        (tmp_path / "rmem_max").write_text(size)
    monkeypatch.setattr(transport, "LARGEST_RECEIVE_BUFFER", tmp_path / "rmem_max")
    monkeypatch.setattr(transport, "get_rmw_implementation_identifier", lambda: middleware)
    told = doubt_of_receive_buffer()
    assert bool(told) == doubted
    assert ("212,992 bytes" in told and "sysctl -w net.core.rmem_max=33554432" in told) == doubted
