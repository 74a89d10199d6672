"""The whole loop over real DDS: a street is driven along, recorded, labelled, learned from, and labelled live."""

from __future__ import annotations

import signal
from array import array
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import yaml
from mcap.reader import make_reader
from node_process import NodeProcess
from rosbags.rosbag2 import Reader
from segment_peer import Peer
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from tf2_msgs.msg import TFMessage
from typer.testing import CliRunner
from vehicle import MS, Vehicle, header, only_bag, transform_message

from twodpass_core.cli import app
from twodpass_core.cloud import make_cloud, view_cloud
from twodpass_core.data.bags.frames import BagFrames
from twodpass_core.geometry.rigid_transform import RigidTransform
from twodpass_core.labels.store import SUFFIX
from twodpass_core.recording import Manifest
from twodpass_core.simulation import HDL_64E, Drive, StreetCamera, kitti_camera
from twodpass_ros.collect import main as collect
from twodpass_ros.conversion import point_cloud2

LIDAR = replace(HDL_64E, columns=1024)
STAMPS = [1_000_000 + 100 * step for step in range(8)]  # milliseconds
OFFSET = 20  # milliseconds from a scan to its image: the vehicle moves by 16 cm meanwhile
"""The image is taken later than the scan; only eq. 2 brings the two together."""


@dataclass(frozen=True)
class Street:
    """A simulated street as a vehicle's sensors see it; stamps are in milliseconds."""

    drive: Drive
    camera: StreetCamera

    def cloud(self, stamp: int) -> PointCloud2:
        points = self.drive.scan(self.moment(stamp)).points
        cloud = make_cloud(dict(zip(("x", "y", "z", "intensity"), points.T, strict=True)))
        return point_cloud2(header("lidar", stamp), cloud)

    def labels(self, stamp: int) -> np.ndarray:
        return self.drive.scan(self.moment(stamp)).raw_labels

    def image(self, stamp: int) -> Image:
        picture = self.drive.picture(self.moment(stamp), self.camera).image
        message = Image(header=header("camera", stamp), width=picture.shape[1], height=picture.shape[0])
        message.encoding, message.step = "rgb8", 3 * message.width
        message.data = array("B", picture.tobytes())
        return message

    def info(self, stamp: int) -> CameraInfo:
        model = self.camera.model
        message = CameraInfo(header=header("camera", stamp), width=model.width, height=model.height)
        message.distortion_model, message.d = "plumb_bob", [0.0] * 5
        message.k = model.matrix.ravel().tolist()
        message.r = np.eye(3).ravel().tolist()
        message.p = np.hstack([model.matrix, np.zeros((3, 1))]).ravel().tolist()
        return message

    def pose(self, stamp: int) -> TFMessage:
        pose = RigidTransform.from_matrix(self.drive.pose(self.moment(stamp)))
        return TFMessage(transforms=[transform_message("odom", "lidar", pose, stamp)])

    @staticmethod
    def moment(stamp: int) -> int:
        """Nanoseconds since the start of the drive, before which the vehicle stands still."""
        return max(0, stamp - STAMPS[0]) * MS

    def send(self, vehicle: Vehicle, cloud: PointCloud2, image: Image, stamp: int) -> None:
        """All that the sensors say of one moment."""
        cloud.header.stamp, image.header.stamp = header("", stamp).stamp, header("", stamp + OFFSET).stamp
        vehicle.moving.publish(self.pose(stamp))
        vehicle.moving.publish(self.pose(stamp + OFFSET))
        vehicle.points.publish(cloud)
        vehicle.infos["front"].publish(self.info(stamp + OFFSET))
        vehicle.images["front"].publish(image)
        vehicle.spin(0.1)


def record(street: Street, folder: Path) -> Path:
    """Drives along the street with `collect` running; returns the bag."""
    parameters = {"folder": f"'{folder}'", "images": "[/front/image_raw]", "score_interval": 0.0, "min_free_bytes": 0}
    arguments = [part for name, value in parameters.items() for part in ("-p", f"{name}:={value}")]
    moments = [(street.cloud(stamp), street.image(stamp + OFFSET), stamp) for stamp in STAMPS]
    with Vehicle() as vehicle, NodeProcess(collect, *arguments) as process:
        vehicle.wait_for_connection()
        mounting = street.camera.camera_from_lidar.inverse()
        vehicle.static.publish(TFMessage(transforms=[transform_message("lidar", "camera", mounting, 0)]))
        before = STAMPS[0] - 60_000
        while not vehicle.statuses[-1].recording:  # it waits until it has seen one of all
            street.send(vehicle, *moments[0][:2], before)
            before += 100
        for moment in moments:
            street.send(vehicle, *moment)
        assert process.end(signal.SIGINT, 30) == 0, process.log()
    return only_bag(folder)


def twodpass(*arguments: object) -> str:
    """Runs the command, which must succeed."""
    done = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_drive_record_label_train_and_label_live(tmp_path: Path, weights: Path) -> None:
    street = Street(Drive(3, LIDAR), kitti_camera(414))
    bags = tmp_path / "bags"
    bags.mkdir()
    bag = record(street, bags)

    # The bag opens with other people's readers, and has every set.
    with Reader(bag) as reader:
        counts = {connection.topic: connection.msgcount for connection in reader.connections}
    assert counts["/collect/input/points"] == counts["/front/image_raw"] >= len(STAMPS)
    with next(bag.glob("*.mcap")).open("rb") as file:
        assert sum(1 for _ in make_reader(file).iter_messages()) == sum(counts.values())
    manifest = Manifest.read(bag)
    assert manifest.complete
    assert not manifest.dropped
    scores = [entry.calibration_score for entry in manifest.sets if entry.calibration_score is not None]
    assert len(scores) >= 2  # as many as time allows
    assert np.mean(scores) > 0.75

    # Frames come out as they were simulated, their images where the camera was by then.
    frames = BagFrames([bag])
    assert len(frames) == len(manifest.sets)
    last = frames[-1]
    assert last.stamp_ns == STAMPS[-1] * MS
    np.testing.assert_array_equal(last.points, street.drive.scan(street.moment(STAMPS[-1])).points)
    (view,) = last.views
    then, now = (RigidTransform.from_matrix(street.drive.pose(street.moment(STAMPS[-1] + t))) for t in (OFFSET, 0))
    moved = street.camera.camera_from_lidar @ then.inverse() @ now
    np.testing.assert_allclose(view.camera_from_lidar.matrix(), moved.matrix(), atol=1e-6)
    assert np.linalg.norm((then.inverse() @ now).translation) > 0.1

    # Labels of some scans are taken over, beside the bag.
    labels = tmp_path / "own_labels"
    labels.mkdir()
    for stamp in STAMPS[2:8]:
        street.labels(stamp).astype("<u4").tofile(labels / f"{stamp * MS}{SUFFIX}")
    assert "6 new" in twodpass("labels", "import", bag, labels)
    assert BagFrames([bag]).labelled.sum() == 6

    # A few steps of training on all of them go on from the weights.
    config = tmp_path / "finetune.yaml"
    source = {"kind": "bag", "root": str(bag), "split": "train", "unlabelled": "keep"}
    settings = {
        "run": str(tmp_path / "run"),
        "epochs": 1,
        "max_steps": 3,
        "start_from": str(weights),
        "data": {"train": source, "batch_size": 2, "workers": 1},
        "augmentation": {"crop": [160, 96]},
        "student": {"scales": [2, 4], "width": 16, "hidden": 16},
        "distillation": {"kind": "msfskd", "width": 8},
        "machine": {"accelerator": "cpu", "devices": 1},
    }
    config.write_text(yaml.safe_dump(settings))
    assert "weights.safetensors" in twodpass("train", config)
    tuned = tmp_path / "run/weights.safetensors"
    assert tuned.read_bytes() != weights.read_bytes()

    # The node takes them, and labels the stream.
    with Peer() as peer, NodeProcess.real("-p", f"weights:={tuned}", "-p", "device:=cpu"):
        peer.wait_for_active_node()
        for stamp in STAMPS[:3]:
            scan = street.cloud(stamp)
            labelled = view_cloud(peer.label(scan))
            assert labelled.num_points == scan.width
            class_ids = labelled.column("class_id").ravel()
            assert set(np.unique(class_ids)) <= {*range(1, 20), 255}
            assert np.mean(class_ids != 255) > 0.5
