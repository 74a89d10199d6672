"""What topics of transforms are, for whoever records or reads them."""

from __future__ import annotations

import pytest

from twodpass_core.message_types import ODOMETRY, TF_MESSAGE, is_static_tf, is_tf


@pytest.mark.parametrize(
    ("topic", "counts", "is_static"),
    [
        ("/tf", True, False),
        ("/tf_static", True, True),
        ("/robot/tf", True, False),
        ("/robot/tf_static", True, True),
        ("/tf_static_unused", False, False),
        ("/my_tf", False, False),
    ],
)
def test_topics_of_transforms_are_known_by_their_names_in_any_namespace(
    topic: str, counts: bool, is_static: bool
) -> None:
    assert is_tf(topic) == counts
    assert is_static_tf(topic, TF_MESSAGE) == is_static
    assert not is_static_tf(topic, ODOMETRY)
