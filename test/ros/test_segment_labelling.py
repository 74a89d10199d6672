"""One scan, labelled without a node: what of the parameters reaches the network."""

from __future__ import annotations

from typing import Any

import numpy as np
from clouds import records, scan
from fake_segment import FakeSegmenter

from twodpass_ros.segment.labelling import label_scan
from twodpass_ros.segment.parameters import SegmentParameters


class Watched(FakeSegmenter):
    """Keeps what it was given."""

    def segment(self, points: np.ndarray, votes: int = 1) -> Any:
        self.points, self.votes = points, votes
        return super().segment(points, votes)


def test_the_network_gets_the_points_of_the_training_frame_and_the_votes() -> None:
    network: Any = Watched(seconds=0.0)
    message = scan(20)
    pose = (0.0, 0.0, 2.0, 0.0, 0.0, np.pi / 2)  # 2 m higher, turned to the left
    parameters = SegmentParameters(votes=3, training_from_sensor=pose, intensity_scale=0.5)
    labelled = label_scan(message, network, parameters)
    x, y, z, intensity = records(message, ("x", "y", "z", "intensity")).values()
    np.testing.assert_allclose(network.points, np.stack([-y, x, z + 2, 0.5 * intensity], axis=1), atol=1e-6)
    assert network.votes == 3
    assert (labelled.status.points, labelled.status.labelled) == (20, 20)
    after = records(labelled.cloud, ("x", "y", "z", "intensity"))
    for name, column in records(message, ("x", "y", "z", "intensity")).items():  # as they came
        np.testing.assert_array_equal(after[name], column)
