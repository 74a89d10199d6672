"""Pairing of recordings: for each scan the image that is nearest in time."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from twodpass_core.data.pairing import nearest_within


@given(
    st.lists(st.integers(-(10**18), 2 * 10**18), max_size=20),
    st.lists(st.integers(-(10**18), 2 * 10**18) | st.integers(0, 100), max_size=20),
    st.integers(0, 10**18),
)
def test_nearest_within_finds_what_a_search_through_all_finds(scans: list[int], images: list[int], limit: int) -> None:
    scans = scans + [image + 3 for image in images]
    found = nearest_within(np.array(scans, np.int64), np.array(images, np.int64), limit)
    assert found.dtype == np.int64
    assert found.shape == (len(scans),)
    for scan, index in zip(scans, found.tolist(), strict=True):
        nearest = min((abs(scan - image) for image in images), default=limit + 1)
        if nearest > limit:
            assert index == -1
        else:
            assert abs(images[index] - scan) == nearest


def test_of_two_equally_near_the_earlier_one_is_taken() -> None:
    assert nearest_within(np.array([5, 20]), np.array([8, 2, 14]), 10).tolist() == [1, 2]
