"""What `collect` listens to: scans, cameras, transforms and odometry; and the sets that are formed of them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import chain

from rclpy.exceptions import InvalidParameterValueException
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2

from twodpass_core.cameras.topics import camera_names, info_topic
from twodpass_core.data.pairing import SCANS, PairedSet, SetPairer
from twodpass_core.errors import ConfigError, TransformError
from twodpass_core.recording import Calibration
from twodpass_ros.collect.camera import Camera
from twodpass_ros.collect.input import Input, Message
from twodpass_ros.collect.input_problems import malformation, oversize, stillness
from twodpass_ros.collect.motion import Motion
from twodpass_ros.collect.parameters import CollectParameters
from twodpass_ros.collect.sets import CalibratedCamera, FormedSet

SENSOR_DEPTH = 10
"""Messages that the middleware holds for the node."""


class Sensors:
    """Reads all topics in the executor's thread, hands on what is to be recorded, and forms sets."""

    def __init__(
        self,
        node: Node,
        parameters: CollectParameters,
        on_message: Callable[[Message], None],
        on_set: Callable[[FormedSet], None],
    ) -> None:
        self._clock = node.get_clock()
        self._slop = parameters.slop
        self._on_message = on_message
        self._on_set = on_set
        self._infos: dict[str, Message] = {}
        self.fixed_frame = parameters.fixed_frame
        self._has_formed = False
        self.place_is_known = True
        """Whether anybody has said where the vehicle was at the newest set."""
        self.offsets_ns: dict[str, int] = {}
        """Camera -> image's stamp less scan's stamp, of the newest set."""
        self.scans = Input(node, "~/input/points", [PointCloud2], self._on_scan, SENSOR_DEPTH)
        self.cameras = self._make_cameras(node, parameters)
        self._motion = Motion(node, parameters.odometry, on_message)
        self._pairer: SetPairer[Message] = SetPairer(
            list(self.cameras), round(parameters.slop * 1e9), parameters.queue_size
        )
        self._restarts = 0

    def _make_cameras(self, node: Node, parameters: CollectParameters) -> dict[str, Camera]:
        given = [topic for topic in parameters.images if topic]
        images = [node.resolve_topic_name(topic) for topic in given]
        if len(set(images)) != len(images):
            raise InvalidParameterValueException("images", images, "some are one and the same topic")
        infos = [topic for topic in parameters.camera_infos if topic] or [info_topic(topic) for topic in images]
        if len(infos) != len(images):
            raise InvalidParameterValueException(
                "camera_infos", infos, f"there must be as many as topics in images ({len(images)}), or none"
            )
        cameras = {}
        for name, image, info in zip(camera_names(images), given, infos, strict=True):
            cameras[name] = Camera(
                name,
                Input(node, image, [Image, CompressedImage], partial(self._on_image, name), SENSOR_DEPTH),
                Input(
                    node, info, [CameraInfo], self._on_message, SENSOR_DEPTH, on_content=partial(self._keep_info, name)
                ),
            )
        return cameras

    @property
    def inputs(self) -> list[Input]:
        cameras = [member for camera in self.cameras.values() for member in (camera.image, camera.info)]
        return [self.scans, *cameras, *self._motion.inputs]

    @property
    def of_sets(self) -> list[Input]:
        """Scans and images: without one of them there is no set."""
        return [self.scans, *(camera.image for camera in self.cameras.values())]

    @property
    def beside_sets(self) -> list[Input]:
        """What comes again and again beside them: not /tf_static, nor what else is latched."""
        infos = [camera.info for camera in self.cameras.values()]
        return [topic for topic in (*infos, *self._motion.inputs) if not topic.is_latched]

    def beginning(self, now_ns: int) -> list[Message]:
        """What a recording begins with: static transforms, the newest CameraInfo of each camera, the latest motion."""
        static, motion = self._motion.beginning(now_ns)
        start_ns = min((message.received_ns for message in motion), default=now_ns)
        return [*(replace(message, received_ns=start_ns) for message in (*static, *self._infos.values())), *motion]

    def connect(self) -> None:
        """Looks for publishers."""
        for topic in self.inputs:
            topic.connect()

    def obstacles(self) -> list[str]:
        """What keeps any set from being recorded."""
        found = [topic.describe_absence() for topic in self.of_sets if topic.newest is None]
        if self._clock.now().nanoseconds == 0:
            found.append("no time comes on /clock: play the bag with --clock, or set use_sim_time to false")
        found += chain.from_iterable(map(oversize, self.of_sets))
        return found if found or self._has_formed else ["no set has formed yet", *self._apart()]

    def problems(self, max_clock_difference: float) -> list[str]:
        """What stands against training on the sets, as far as their topics have come."""
        # A played /clock lags behind the messages by up to its period, so it tells nothing of stamps of the future.
        max_ahead = math.inf if self._clock.ros_time_is_active else self._slop
        found = list(malformation(self.scans))
        for camera in self.cameras.values():
            found += camera.problems(self.scans, self._motion.tree, max_clock_difference, max_ahead)
        if self.scans.newest is not None:
            found += self._motion.problems(self.scans.newest, self.fixed_frame, max_clock_difference)
        return [*found, *chain.from_iterable(map(stillness, self.of_sets))]

    def upsets(self) -> list[str]:
        """What has made the sets since `forget_upsets` differ from those before it, for which a bag has no room."""
        found = [f"{mounting} has changed" for mounting in self._motion.changes]
        if self._pairer.restarts > self._restarts:
            found.append("the clock has been set back")
        return found

    def forget_upsets(self) -> None:
        """A recording begins."""
        self._motion.changes.clear()
        self._restarts = self._pairer.restarts

    def lost(self) -> Counter[str]:
        """Topic -> messages that no set can hold any more: lost by the middleware, late, out of room, not readable."""
        lost = Counter({topic.name: topic.lost for topic in self.inputs})
        for stream, count in self._pairer.dropped.items():
            lost[self._topic_of(stream)] += count
        return lost

    def unpaired(self) -> Counter[str]:
        """Topic -> scans that lacked an image, images that no scan wanted."""
        return Counter({self._topic_of(stream): counts.unpaired for stream, counts in self._pairer.counts.items()})

    def missing(self) -> Counter[str]:
        """Camera -> scans for which it had no image."""
        return Counter({camera: self._pairer.counts[camera].missing for camera in self.cameras})

    def calibration(self) -> Calibration | None:
        """As it is known now; None before the first scan."""
        if self.scans.newest is None:
            return None
        frame = self.scans.newest.frame_id
        cameras = {name: camera.recorded(frame, self._motion.tree) for name, camera in self.cameras.items()}
        known = {name: camera for name, camera in cameras.items() if camera is not None}
        return Calibration(lidar_topic=self.scans.name, lidar_frame=frame, cameras=known)

    def flush(self, make_room: Callable[[], None]) -> None:
        """Forms sets of all that waits; `make_room` is called before each."""
        for paired in self._pairer.flush():
            make_room()
            self._form(paired)

    def _apart(self) -> Iterator[str]:
        for camera in self.cameras:
            counts = self._pairer.counts[camera]
            if counts.missing and counts.nearest_ns is not None:
                yield (
                    f"scans have no image of {camera} within the slop of {self._slop:g} s, the nearest is "
                    f"{1e-9 * counts.nearest_ns:.3f} s away: trigger both together, or raise slop "
                    f"({counts.missing} so far)"
                )
            elif counts.missing:
                yield f"scans lack {camera}, whose images come late: raise queue_size ({counts.missing} so far)"

    def _topic_of(self, stream: str) -> str:
        return self.scans.name if stream == SCANS else self.cameras[stream].image.name

    def _on_scan(self, message: Message) -> None:
        for paired in self._pairer.add_scan(message.stamp_ns, message):
            self._form(paired)

    def _on_image(self, camera: str, message: Message) -> None:
        for paired in self._pairer.add_image(camera, message.stamp_ns, message):
            self._form(paired)

    def _keep_info(self, camera: str, message: Message, content: CameraInfo) -> None:
        self._infos[camera] = message

    def _form(self, paired: PairedSet[Message]) -> None:
        self._has_formed = True
        self.offsets_ns = {camera: image.offset_ns for camera, image in paired.images.items()}
        pose = self._motion.pose(paired.stamp_ns, paired.scan.frame_id, self.fixed_frame)
        self.place_is_known = pose is not None
        self._on_set(FormedSet(paired, pose, self._calibrated(paired)))

    def _calibrated(self, paired: PairedSet[Message]) -> dict[str, CalibratedCamera]:
        """The cameras of which calibration and transform are known; of the others `problems` tells."""
        calibrated = {}
        fixed = self._motion.still_frame(paired.scan.frame_id, self.fixed_frame)
        for name, image in paired.images.items():
            try:
                camera_from_lidar = self._motion.tree.lookup_across(
                    image.item.frame_id, image.item.stamp_ns, paired.scan.frame_id, paired.stamp_ns, fixed
                )
                model, image_from_camera = self.cameras[name].model()
            except (ConfigError, TransformError):
                continue
            calibrated[name] = CalibratedCamera(self.cameras[name], model, image_from_camera @ camera_from_lidar)
        return calibrated
