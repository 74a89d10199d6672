"""A camera as the recorder sees it: its images, its CameraInfo, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sensor_msgs.msg import CameraInfo

from twodpass_core.cameras.info import camera_from_info, rectified_camera_from_info
from twodpass_core.cameras.model import CameraModel
from twodpass_core.cameras.topics import is_rectified
from twodpass_core.data.image_messages import decode_image, image_encoding, image_size
from twodpass_core.errors import ConfigError, ImageError, MissingDependencyError, TransformError
from twodpass_core.geometry.rigid_transform import RigidTransform
from twodpass_core.geometry.transform_tree import TransformTree
from twodpass_core.recording import RecordedCamera
from twodpass_ros.collect.input import Input, Message
from twodpass_ros.errors import NodeError

SYNCHRONISE = "synchronise them (PTP, or stamps of the same host)"
LATE = "; if one is right but long on its way, raise max_clock_difference, and queue_size for it to be waited for"


class Camera:
    """One camera's two topics."""

    def __init__(self, name: str, image: Input, info: Input) -> None:
        self.name = name
        self.is_rectified = is_rectified(image.name)
        self.image = image
        self.info = info
        self._decodable: object = None
        """Size and encoding of which an image has been decoded: to do it with each takes too long for the executor."""

    def model(self) -> tuple[CameraModel, RigidTransform]:
        """By its newest CameraInfo, and image_from_camera: how rectification has turned the image's frame.

        Raises ConfigError where there is no CameraInfo, or none of use.
        """
        if self.info.newest is None:
            raise ConfigError(f"no CameraInfo: {self.info.describe_absence()}")
        info = self.info.newest.content(CameraInfo)
        if self.is_rectified:
            return rectified_camera_from_info(info)
        return camera_from_info(info), RigidTransform.identity()

    def doubts(self) -> Iterator[str]:
        """What may be wrong."""
        frames = [topic.newest.frame_id if topic.newest is not None else "" for topic in (self.image, self.info)]
        if all(frames) and frames[0] != frames[1]:
            yield (
                f"{self.image.name} is in frame '{frames[0]}', and {self.info.name} in '{frames[1]}': is it its "
                "CameraInfo? If not, name the right one in camera_infos"
            )

    def content(self, image: Message) -> Any:
        """An image of this camera, deserialised. Raises NodeError."""
        assert self.image.type is not None
        return image.content(self.image.type)

    def problems(
        self, scans: Input, tree: TransformTree, max_clock_difference: float, max_ahead: float
    ) -> Iterator[str]:
        """What makes its images useless for training, as far as that can be told without a scan or an image yet.

        In seconds: how much older or newer its stamps may be on arrival than those of the scans, and how far ahead of
        this computer's clock the stamps of one of the two may be.
        """
        try:
            model, _ = self.model()
        except ConfigError as error:
            yield f"{self.info.name}: {error}" if self.info.newest else str(error)
        else:
            if self.image.newest is not None:
                yield from self._problems_of_image(self.image.newest, model)
        if self.image.newest is not None and scans.newest is not None:
            try:
                tree.lookup(self.image.newest.frame_id, scans.newest.frame_id)
            except TransformError as error:
                yield f"{self.name}: {error}. Publish the camera's mounting on /tf_static"
            ages = {topic.name: topic.newest.age for topic in (self.image, scans) if topic.newest is not None}
            yield from _problems_of_clocks(ages, max_clock_difference, max_ahead)

    def recorded(self, lidar_frame: str, tree: TransformTree) -> RecordedCamera | None:
        """For the manifest; None without images or CameraInfo."""
        if self.info.newest is None or self.image.newest is None:
            return None
        info = self.info.newest.content(CameraInfo)
        try:
            matrix = tree.lookup(self.image.newest.frame_id, lidar_frame).matrix()
        except TransformError:
            matrix = None
        return RecordedCamera(
            image_topic=self.image.name,
            info_topic=self.info.name,
            frame_id=self.image.newest.frame_id,
            width=info.width,
            height=info.height,
            distortion_model=info.distortion_model,
            d=tuple(info.d),
            k=tuple(info.k),
            r=tuple(info.r),
            p=tuple(info.p),
            camera_from_lidar=None if matrix is None else tuple(matrix.ravel().tolist()),
        )

    def _problems_of_image(self, image: Message, model: CameraModel) -> Iterator[str]:
        try:
            content = self.content(image)
            size = image_size(content)
            if size != (model.width, model.height):
                yield (
                    f"{self.image.name} is {size[0]} x {size[1]} pixels, but {self.info.name} is of "
                    f"{model.width} x {model.height}: set both to the same resolution, or calibrate this one"
                )
            elif self._decodable != (kind := (size, image_encoding(content))):
                decode_image(content)
                self._decodable = kind
        except (ImageError, MissingDependencyError) as error:
            yield f"{self.image.name}: {error}"
        except NodeError as error:
            yield str(error)


def _problems_of_clocks(ages: Mapping[str, float], max_difference: float, max_ahead: float) -> Iterator[str]:
    """Of the ages of images and scans, by their topics.

    Where both come from the future the sensors may agree, and this computer's clock be wrong: that does no harm, unless
    transforms or odometry are by it (`Motion.problems`).
    """
    described = ", of ".join(f"{name} {age:.3f} s old" for name, age in ages.items())
    if max(ages.values()) - min(ages.values()) > max_difference:
        yield f"the clocks differ: on arrival stamps of {described}: {SYNCHRONISE}{LATE}"
    elif min(ages.values()) < -max_ahead <= max(ages.values()):
        yield f"the clocks differ: stamps are of the future, on arrival of {described}: {SYNCHRONISE}"
