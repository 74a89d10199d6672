"""One scan, from message to labelled message."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from sensor_msgs.msg import PointCloud2

from twodpass_core.classes import UNLABELLED
from twodpass_core.cloud import label_cloud, read_points
from twodpass_core.segmenter import Segmenter
from twodpass_core.sensor import SensorMounting, doubt_of_unit
from twodpass_ros.conversion import point_cloud2
from twodpass_ros.msg import SegmentationStatus
from twodpass_ros.segment.parameters import SegmentParameters


@dataclass(frozen=True)
class LabelledScan:
    """A labelled cloud and how it came about."""

    cloud: PointCloud2
    status: SegmentationStatus
    """Points and the times of its making; the node fills in the rest when the cloud is published."""
    doubt: str
    """Why the labels may be worth little; empty: nothing speaks against them."""


def label_scan(scan: PointCloud2, segmenter: Segmenter, parameters: SegmentParameters) -> LabelledScan:
    """The same points in the same order under the same header, each with its label. Raises CloudError if malformed."""
    mounting = SensorMounting.of(parameters.training_from_sensor, parameters.intensity_scale)

    started = time.perf_counter()
    points = mounting.to_training(read_points(scan, parameters.intensity_field or None))
    decoded = time.perf_counter()
    segmentation = segmenter.segment(points, votes=parameters.votes)
    segmented = time.perf_counter()
    colours = segmenter.class_map.colour_table.take(segmentation.class_id, axis=0)  # three times as fast as []
    cloud = point_cloud2(scan.header, label_cloud(scan, segmentation.class_id, segmentation.probability, colours))
    encoded = time.perf_counter()

    voxelise = sum(segmentation.stage_seconds.get(stage, 0.0) for stage in ("voxelise", "neighbours"))
    status = SegmentationStatus(
        header=scan.header,
        points=len(points),
        labelled=int(np.count_nonzero(segmentation.class_id != UNLABELLED)),
        decode_ms=1e3 * (decoded - started),
        voxelise_ms=1e3 * voxelise,
        network_ms=1e3 * (segmented - decoded - voxelise),
        encode_ms=1e3 * (encoded - segmented),
        device=str(segmenter.device),
    )
    doubt = doubt_of_unit(points[:, 3], segmenter.card.intensity_max)
    return LabelledScan(cloud, status, doubt and f"{doubt}; the parameter intensity_scale converts it")
