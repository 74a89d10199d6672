"""Real SemanticKITTI scans, poses and images: what they show together."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from twodpass_core.classes import ClassMap
from twodpass_core.data.frame import Frame, FrameSource
from twodpass_core.data.kitti_files import read_labels
from twodpass_core.data.sample import pair
from twodpass_core.data.semantickitti import SemanticKitti
from twodpass_core.geometry.rigid_transform import RigidTransform


def cells(frame: Frame, world_from_lidar: RigidTransform) -> tuple[np.ndarray, np.ndarray]:
    """Cells of 20 cm that a frame's points fall in, and the label of one point in each."""
    assert frame.labels is not None
    index = np.floor(world_from_lidar.apply(frame.points[:, :3].astype(np.float64)) / 0.2).astype(np.int64) + (1 << 19)
    occupied, first = np.unique(index @ [1 << 40, 1 << 20, 1], return_index=True)
    return occupied, frame.labels[first]


def test_poses_bring_real_scans_together(shared_data: Path) -> None:
    source: FrameSource = SemanticKitti(shared_data / "semantickitti_00_projected")
    assert len(source) == 21
    assert source[0].views == ()

    def overlap(second_pose: RigidTransform) -> tuple[int, float]:
        """Cells that two scans share, and in how many of them the labels agree."""
        (first, first_labels), (second, second_labels) = (
            cells(source[0], RigidTransform.identity()),
            cells(source[1], second_pose),
        )
        shared, in_first, in_second = np.intersect1d(first, second, return_indices=True)
        return len(shared), float((first_labels[in_first] == second_labels[in_second]).mean())

    pose = source[1].world_from_lidar
    assert pose is not None
    shared, agreement = overlap(pose)
    shared_unmoved, agreement_unmoved = overlap(RigidTransform.identity())
    assert shared > 1.4 * shared_unmoved
    assert agreement > 0.98 > agreement_unmoved


def test_points_lie_on_what_the_image_shows(shared_data: Path) -> None:
    """A green pole, a few pixels wide, is green under the points labelled pole, and nowhere 40 pixels beside them."""
    frame = SemanticKitti(shared_data / "semantickitti_00", "test")[0]
    image_points, pixels = pair(frame.points, frame.views[0])
    assert len(image_points) == 19369
    labels, _ = read_labels(
        shared_data / "semantickitti_00/labels/000000.label", len(frame.points), ClassMap.load("semantickitti")
    )
    row, column = pixels[labels[image_points] == 18].T
    image = frame.views[0].load_image().astype(int)

    def greenness(shift: int) -> float:
        red, green, blue = image[row, np.clip(column + shift, 0, image.shape[1] - 1)].T
        return float((2 * green - red - blue).mean())

    assert greenness(0) > 10
    assert max(greenness(-40), greenness(40)) < 4
