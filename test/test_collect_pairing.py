"""Pairing: every set within the slop, each message used once, the best match; jitter, drops, offsets, time jumps."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twodpass_core.data.pairing import SCANS, PairedSet, SetPairer
from twodpass_core.errors import ConfigError

MS = 1_000_000
LOST = 10**12
Message = tuple[str, int]  # stream, stamp in ms
Sets = list[PairedSet[Message]]


def feed(pairer: SetPairer[Message], messages: Iterable[Message]) -> Sets:
    sets: Sets = []
    for message in messages:
        stream, stamp = message
        if stream == SCANS:
            sets += pairer.add_scan(stamp * MS, message)
        else:
            sets += pairer.add_image(stream, stamp * MS, message)
    return sets


def pair(cameras: Sequence[str], messages: Iterable[Message], slop: int = 50, queue_size: int = 20) -> Sets:
    pairer: SetPairer[Message] = SetPairer(cameras, slop * MS, queue_size)
    return feed(pairer, messages) + pairer.flush()


def stamps(sets: Sets, camera: str = "a") -> list[tuple[int, int]]:
    """(scan, image) in ms."""
    return [(paired.stamp_ns // MS, paired.images[camera].item[1]) for paired in sets]


def in_order(*streams: tuple[str, Iterable[int]]) -> list[Message]:
    return sorted(((name, stamp) for name, stream in streams for stamp in stream), key=lambda message: message[1])


@st.composite
def recordings(draw: st.DrawFn) -> tuple[list[str], list[Message]]:
    """Streams of any rates and offsets, with jitter, drops, late messages and leaps of the clock."""
    cameras = draw(st.sampled_from([[], ["a"], ["a", "b"]]))
    messages: list[Message] = []
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, 5000))
        part: list[tuple[int, Message]] = []  # by time of arrival
        for stream in (SCANS, *cameras):
            period, offset = draw(st.integers(20, 200)), draw(st.integers(-60, 60))
            for index in range(draw(st.integers(0, 15))):
                stamp = start + offset + index * period + draw(st.integers(-10, 10))
                if draw(st.integers(0, 9)):
                    part.append((stamp + draw(st.integers(0, 150)), (stream, max(0, stamp))))
        messages += [message for _, message in sorted(part)]
    return cameras, messages


@given(recordings(), st.integers(0, 100), st.integers(2, 12))
@settings(max_examples=300)
def test_every_set_is_complete_within_the_slop_and_uses_each_message_once(
    recording: tuple[list[str], list[Message]], slop: int, queue_size: int
) -> None:
    cameras, messages = recording
    numbered = [(stream, stamp, number) for number, (stream, stamp) in enumerate(messages)]
    pairer: SetPairer[tuple[str, int, int]] = SetPairer(cameras, slop * MS, queue_size)
    sets = []
    for message in numbered:
        stream, stamp, _ = message
        before = {name: counts.dropped + counts.unpaired for name, counts in pairer.counts.items()}
        add = pairer.add_scan if stream == SCANS else lambda s, m: pairer.add_image(m[0], s, m)
        sets += add(stamp * MS, message)
        after = {name: counts.dropped + counts.unpaired for name, counts in pairer.counts.items()}
        assert all(after[name] >= before[name] for name in before)
    sets += pairer.flush()

    used = [member for one in sets for member in (one.scan, *(image.item for image in one.images.values()))]
    assert len(used) == len(set(used)) == (1 + len(cameras)) * len(sets)
    for one in sets:
        assert one.scan[:2] == (SCANS, one.stamp_ns // MS)
        assert list(one.images) == cameras
        for camera, image in one.images.items():
            assert image.item[0] == camera
            assert image.offset_ns == image.item[1] * MS - one.stamp_ns
            assert abs(image.offset_ns) <= slop * MS
    for stream, counts in pairer.counts.items():
        assert counts.received == sum(1 for name, _ in messages if name == stream)
        assert counts.received == counts.paired + counts.unpaired + counts.dropped
        assert counts.paired == len(sets)


def best_cost(scans: Sequence[int], images: Sequence[int], slop: int) -> int:
    """The smallest cost of all pairings whatever: the sum of offsets in ns, and a lot for a scan without an image."""
    best = len(scans) * LOST
    for count in range(1, min(len(scans), len(images)) + 1):
        for some in itertools.combinations(scans, count):
            for others in itertools.permutations(images, count):
                offsets = [abs(scan - image) for scan, image in zip(some, others, strict=True)]
                if max(offsets) <= slop:
                    best = min(best, sum(offsets) * MS + (len(scans) - count) * LOST)
    return best


@given(
    st.lists(st.integers(0, 300), max_size=5, unique=True),
    st.lists(st.integers(0, 300), max_size=5, unique=True),
    st.integers(0, 100),
)
@settings(max_examples=150)
def test_of_all_pairings_the_best_is_taken(scans: list[int], images: list[int], slop: int) -> None:
    pairer: SetPairer[Message] = SetPairer(["a", "last"], slop * MS, 100)
    feed(pairer, [("a", image) for image in sorted(images)] + [(SCANS, scan) for scan in sorted(scans)])
    # The second camera has an image at every scan, and lets nothing be decided before all that is above is known.
    sets = feed(pairer, [("last", scan) for scan in sorted(scans)]) + pairer.flush()
    cost = sum(abs(one.images["a"].offset_ns) for one in sets) + (len(scans) - len(sets)) * LOST
    assert cost == best_cost(scans, images, slop)


def test_streams_in_step_pair_one_to_one() -> None:
    messages = in_order((SCANS, range(0, 1000, 100)), ("a", range(3, 1000, 100)), ("b", range(-2, 990, 100)))
    sets = pair(["a", "b"], messages)
    assert stamps(sets) == [(t, t + 3) for t in range(0, 1000, 100)]
    assert stamps(sets, "b") == [(t, t - 2) for t in range(0, 1000, 100)]


def test_the_nearest_image_is_taken_not_the_first() -> None:
    messages = in_order((SCANS, [100]), ("a", [60, 95, 108, 140]))
    assert stamps(pair(["a"], messages)) == [(100, 95)]


def test_an_image_goes_to_the_scan_it_is_nearer_to() -> None:
    assert stamps(pair(["a"], in_order((SCANS, [100, 160]), ("a", [145])))) == [(160, 145)]


def test_a_scan_gives_way_where_another_image_is_as_good() -> None:
    """100 could have 135, but 160 has no other; 70 is hardly farther."""
    assert stamps(pair(["a"], in_order((SCANS, [100, 160]), ("a", [60, 135])))) == [(100, 60), (160, 135)]


def test_a_camera_half_a_period_off_with_jitter_loses_no_set() -> None:
    random.seed(0)
    scans = range(0, 10_000, 100)
    images = [t + 50 + random.randint(-5, 5) for t in range(-100, 10_000, 100)]
    sets = pair(["a"], in_order((SCANS, scans), ("a", images)), slop=60)
    assert len(sets) >= 99


def test_a_fast_camera_gives_its_nearest_images_and_the_rest_is_not_called_dropped() -> None:
    pairer: SetPairer[Message] = SetPairer(["a"], 17 * MS, 20)
    sets = feed(pairer, in_order((SCANS, range(0, 2000, 100)), ("a", range(0, 2000, 33)))) + pairer.flush()
    assert len(sets) == 20
    assert all(abs(one.images["a"].offset_ns) <= 17 * MS for one in sets)
    counts = pairer.counts["a"]
    assert (counts.dropped, counts.unpaired, counts.paired) == (0, 61 - 20, 20)


def test_a_slow_camera_makes_as_many_sets_as_it_has_images() -> None:
    sets = pair(["a"], in_order((SCANS, range(0, 2000, 100)), ("a", range(110, 2000, 500))), slop=20)
    assert stamps(sets) == [(100, 110), (600, 610), (1100, 1110), (1600, 1610)]


def test_scans_alone_are_sets_at_once() -> None:
    pairer: SetPairer[Message] = SetPairer([], 0, 2)
    assert [len(pairer.add_scan(t * MS, (SCANS, t))) for t in (0, 100, 200)] == [1, 1, 1]


def test_a_set_comes_as_soon_as_nothing_can_change_it() -> None:
    pairer: SetPairer[Message] = SetPairer(["a"], 20 * MS, 20)
    assert feed(pairer, [("a", 120), (SCANS, 100), ("a", 101)]) == []
    assert stamps(feed(pairer, [(SCANS, 140)])) == [(100, 101)]


def test_a_scan_that_comes_late_gets_the_image_that_is_nearest_to_it() -> None:
    """145 is within the slop of 100, too, and the scan after the late one is past 100 by more than the slop."""
    messages = [("a", 145), (SCANS, 100), ("a", 260), (SCANS, 190), (SCANS, 150)]
    assert stamps(pair(["a"], messages))[0] == (150, 145)


def test_an_image_that_comes_late_goes_to_a_scan_that_still_waits() -> None:
    pairer: SetPairer[Message] = SetPairer(["a"], 50 * MS, 20)
    assert len(feed(pairer, [(SCANS, 100), (SCANS, 140), ("a", 101), ("a", 250), (SCANS, 200)])) == 1
    assert stamps(feed(pairer, [("a", 98)]) + pairer.flush())[0] == (140, 98)


@pytest.mark.parametrize("slop", [0, 50])
def test_an_image_may_be_as_far_off_as_the_slop(slop: int) -> None:
    messages = in_order((SCANS, range(200, 1000, 200)), ("a", range(200 + slop, 1100, 200)))
    assert len(pair(["a"], messages, slop=slop)) == 4


def test_a_lost_image_loses_its_set_only() -> None:
    images = [t for t in range(0, 1000, 100) if t != 400]
    pairer: SetPairer[Message] = SetPairer(["a"], 30 * MS, 20)
    sets = feed(pairer, in_order((SCANS, range(0, 1000, 100)), ("a", images))) + pairer.flush()
    assert [scan for scan, _ in stamps(sets)] == images
    assert pairer.counts["a"].missing == pairer.counts[SCANS].unpaired == 1


def test_a_late_camera_only_delays_its_sets() -> None:
    arrivals = [(t, (SCANS, t)) for t in range(0, 1000, 100)] + [(t + 350, ("a", t + 5)) for t in range(0, 1000, 100)]
    sets = pair(["a"], [message for _, message in sorted(arrivals)])
    assert stamps(sets) == [(t, t + 5) for t in range(0, 1000, 100)]


def test_messages_out_of_order_find_each_other() -> None:
    messages: list[Message] = [("a", 205), (SCANS, 100), ("a", 104), (SCANS, 300), (SCANS, 200), ("a", 302)]
    assert stamps(pair(["a"], messages)) == [(100, 104), (200, 205), (300, 302)]


def test_after_the_clock_is_set_back_sets_are_formed_anew() -> None:
    first = in_order((SCANS, range(2000, 3000, 100)), ("a", range(2004, 3000, 100)))
    again = in_order((SCANS, range(0, 1000, 100)), ("a", range(4, 1000, 100)))
    pairer: SetPairer[Message] = SetPairer(["a"], 30 * MS, 20)
    sets = feed(pairer, [*first, *again]) + pairer.flush()
    assert stamps(sets)[-9:] == [(t, t + 4) for t in range(100, 1000, 100)]
    assert len(sets) >= 18
    assert 1 <= pairer.dropped[SCANS] <= 2
    assert pairer.dropped["a"] <= 2


@pytest.mark.parametrize(("back", "restarts"), [(1000, 0), (1001, 1)])
def test_a_message_more_than_a_second_late_is_of_a_clock_set_back(back: int, restarts: int) -> None:
    pairer: SetPairer[Message] = SetPairer(["a"], 30 * MS, 20)
    feed(pairer, [(SCANS, 5000), (SCANS, 5000 - back)])
    assert (pairer.restarts, pairer.dropped[SCANS]) == (restarts, restarts)


def test_after_a_flush_another_recording_may_be_of_any_time() -> None:
    pairer: SetPairer[Message] = SetPairer(["a"], 30 * MS, 20)
    for start in (500, 100):
        assert stamps(feed(pairer, [(SCANS, start), ("a", start + 4)]) + pairer.flush()) == [(start, start + 4)]


def test_without_scans_the_newest_images_wait() -> None:
    pairer: SetPairer[Message] = SetPairer(["a"], 30 * MS, 3)
    feed(pairer, [("a", stamp) for stamp in range(0, 500, 100)])
    assert (pairer.dropped["a"], pairer.counts["a"].unpaired) == (2, 0)
    assert stamps(feed(pairer, [(SCANS, 200)]) + pairer.flush()) == [(200, 200)]


@pytest.mark.parametrize("camera", [SCANS, "b"])
def test_images_of_an_unknown_camera_are_refused(camera: str) -> None:
    with pytest.raises(KeyError):
        SetPairer[Message](["a"], 0, 2).add_image(camera, 0, (camera, 0))


def test_one_absurd_stamp_costs_little() -> None:
    messages = in_order((SCANS, range(0, 2000, 100)), ("a", range(4, 2000, 100)))
    messages.insert(20, ("a", 10**9))
    messages.insert(30, (SCANS, 10**9))
    sets = pair(["a"], messages)
    assert len(sets) >= 14
    assert stamps(sets)[-1] == (1900, 1904)


def test_a_dead_camera_lets_the_queues_run_over_not_grow() -> None:
    pairer: SetPairer[Message] = SetPairer(["a", "dead"], 30 * MS, 5)
    assert feed(pairer, in_order((SCANS, range(0, 5000, 100)), ("a", range(0, 5000, 100)))) == []
    counts = pairer.counts
    for stream, waiting in ((SCANS, 4), ("a", 5)):
        assert counts[stream].received - counts[stream].unpaired - counts[stream].dropped == waiting
    assert counts["dead"].missing >= 44
    assert counts["a"].missing == 0


def test_a_scan_that_comes_twice_counts_once() -> None:
    sets = pair(["a"], [(SCANS, 100), (SCANS, 100), ("a", 100), ("a", 101), (SCANS, 200), ("a", 200)])
    assert [one.stamp_ns // MS for one in sets] == [100, 200]


def test_without_cameras_every_scan_is_a_set_whatever_its_stamp() -> None:
    sets = pair([], [(SCANS, stamp) for stamp in (100, 400, 250, 250, 550, 500)])
    assert [one.stamp_ns // MS for one in sets] == [100, 400, 250, 550, 500]


@pytest.mark.parametrize(
    ("cameras", "slop", "queue", "words"),
    [(["a"], -1, 10, "slop"), (["a"], 1, 1, "queue"), (["a", "a"], 1, 9, "different"), ([""], 1, 9, "different")],
)
def test_settings_that_cannot_work_are_refused(cameras: list[str], slop: int, queue: int, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        SetPairer(cameras, slop, queue)


def test_how_near_the_images_are_that_do_not_fit_is_told() -> None:
    pairer: SetPairer[str] = SetPairer(["front", "dead"], 10 * MS, 2)
    for stamp in range(0, 500, 100):
        pairer.add_scan(stamp * MS, "scan")
        pairer.add_image("front", (stamp + 30) * MS, "image")
    front, dead = pairer.counts["front"], pairer.counts["dead"]
    assert front.missing == dead.missing > 0
    assert (front.nearest_ns, dead.nearest_ns) == (30 * MS, None)
