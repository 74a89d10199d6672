"""Names of image topics."""

from __future__ import annotations

import pytest

from twodpass_core.cameras.topics import camera_names, info_topic, info_topics, is_compressed, is_rectified, namespace


@pytest.mark.parametrize(
    ("topics", "names"),
    [
        (["/front/image_raw"], ["front"]),
        (["/cameras/left/image_raw/compressed", "/cameras/right/image_raw"], ["left", "right"]),
        (["/front/stereo/image", "/rear/stereo/image"], ["front_stereo", "rear_stereo"]),
        (["/image"], ["image"]),
        (["/cam/a", "/cam/b"], ["cam_a", "cam_b"]),
        (["/image_raw", "/image/raw"], ["image_raw_0", "image_raw_1"]),
        ([], []),
    ],
)
def test_cameras_are_named_by_their_topics(topics: list[str], names: list[str]) -> None:
    assert camera_names(topics) == names


def test_camera_info_is_beside_the_image() -> None:
    assert info_topic("/a/b/image_raw") == "/a/b/camera_info"
    assert info_topic("/a/b/image_raw/compressed") == "/a/b/camera_info"
    assert info_topic("/image") == "/camera_info"
    assert info_topics("/front/compressed") == ["/front/camera_info", "/camera_info"]


@pytest.mark.parametrize("topic", ["/front/image_raw", "/front/image_raw/compressed", "/front/image_rect"])
def test_all_topics_of_a_camera_are_in_its_namespace(topic: str) -> None:
    assert namespace(topic) == "/front"


def test_compressed_and_rectified_images_are_told_by_their_topics() -> None:
    for topic, compressed, rectified in (
        ("/rectangle/image_raw", False, False),
        ("/front/image_rect_color", False, True),
        ("/front/image_rect/compressed", True, True),
        ("/front/compressed", True, False),
        ("/front/image_rectified", False, True),
        ("/front/image_unrectified", False, False),
        ("/front/image_corrected", False, False),
        ("/front/direct", False, False),
    ):
        assert (is_compressed(topic), is_rectified(topic)) == (compressed, rectified)
