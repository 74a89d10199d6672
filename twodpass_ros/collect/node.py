"""The node `collect`: records sets of a scan and the images that belong to it, with all that training needs of them.

Messages are stored as received. A set is formed when its messages have come (twodpass_core.data.pairing), and looked at
and written in a thread of its own. What stands against recording is told on /diagnostics, and ~/status counts.
"""

from __future__ import annotations

import threading
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image
from std_srvs.srv import Trigger

from twodpass_core.errors import ConfigError, MissingDependencyError, RecordingError
from twodpass_core.files import expanded
from twodpass_core.wording import counted
from twodpass_ros.collect.in_order_worker import InOrderWorker
from twodpass_ros.collect.input import Message
from twodpass_ros.collect.parameters import CollectParameters
from twodpass_ros.collect.recording import Recording, free_bytes, obstacles_to_write
from twodpass_ros.collect.report import Health, RecordingState, status_message
from twodpass_ros.collect.sensors import Sensors
from twodpass_ros.collect.sets import CalibrationWatch, FormedSet, Picture
from twodpass_ros.diagnostics import ERROR, OK, Reporter, Streak
from twodpass_ros.msg import CollectionStatus
from twodpass_ros.parameter_table import declare_table, read_table
from twodpass_ros.transport import RESULTS, create_publisher

LOOK_PERIOD = 0.5  # seconds between two looks for publishers, and at what stands against recording
REPORT_PERIOD = 1.0
SETS_WAITING = 16
CLOCK = "use_sim_time"


class CollectNode(Node):
    """Wires parameters, sensors, services and the thread that works on sets."""

    def __init__(self) -> None:
        super().__init__("collect")
        self._recording: Recording | None = None
        declare_table(self, CollectParameters, self._why_fixed)
        self.add_on_set_parameters_callback(self._keep_clock)
        parameters = read_table(self, CollectParameters)
        self._state = RecordingState(wanted=parameters.autostart)
        self._lost_sets: Counter[str] = Counter()
        self._lost_sets_lock = threading.Lock()
        self._dropped_before: Counter[str] = Counter()  # by the recordings before this one
        self._lost_at_start: Counter[str] = Counter()
        self._failures = Streak()

        self._sensors = Sensors(self, parameters, self._on_message, self._on_set)
        cameras = self._sensors.cameras
        self._pictures = {name: create_publisher(self, Image, f"~/overlay/{name}", RESULTS) for name in cameras}
        self._watch = CalibrationWatch(self._draw, lambda name: bool(self._pictures[name].get_subscription_count()))
        self._health = Health(self._sensors, self._watch, self._failures)
        self._worker = InOrderWorker(self._process, SETS_WAITING, name="sets")

        self._status = create_publisher(self, CollectionStatus, "~/status", RESULTS)
        self._reporter = Reporter(self, "recorded sets")
        self.create_service(Trigger, "~/start", self._on_start)
        self.create_service(Trigger, "~/stop", self._on_stop)
        steady = Clock(clock_type=ClockType.STEADY_TIME)  # ROS time stands still or jumps back when a bag is played
        self.create_timer(LOOK_PERIOD, partial(self._attempt, self._look), clock=steady)
        self.create_timer(REPORT_PERIOD, self._attempt_report, clock=steady)

    def destroy_node(self) -> None:
        """As rclpy's, after the end of the recording, if there is one, and of the thread."""
        try:
            self._stop()
            self._worker.stop()
        finally:
            super().destroy_node()

    def _why_fixed(self) -> str:
        return "is read when recording starts: call ~/stop first" if self._recording is not None else ""

    def _keep_clock(self, parameters: Sequence[Parameter[Any]]) -> SetParametersResult:
        """ROS's own parameter is fixed at work, too: times of receipt would jump, to 0 until a time comes on /clock."""
        at_work = self._why_fixed() if CLOCK in [parameter.name for parameter in parameters] else ""
        return SetParametersResult(successful=not at_work, reason=f"{CLOCK} {at_work}" if at_work else "")

    # Messages, in the executor's thread.

    def _on_message(self, message: Message) -> None:
        if self._recording is not None:
            self._recording.write(message)

    def _on_set(self, formed: FormedSet) -> None:
        if not self._worker.offer(formed):
            self._count_lost(formed)

    def _count_lost(self, formed: FormedSet) -> None:
        with self._lost_sets_lock:
            self._lost_sets.update(message.topic.name for message in formed.messages)
        if (recording := self._recording) is not None:
            recording.count_lost_set()

    # Sets, in the worker's thread.

    def _process(self, formed: FormedSet) -> None:
        try:
            scores = self._watch.look(formed) if self._is_to_be_scored(formed) else {}
            recording = self._recording
            if recording is not None:
                recording.write_set(formed, scores)
            self._failures.good()
        except Exception as error:
            self._count_lost(formed)
            self._fail(f"a set was dropped: {error}")

    def _is_to_be_scored(self, formed: FormedSet) -> bool:
        interval = read_table(self, CollectParameters).score_interval
        return bool(formed.cameras) and not self._worker.is_behind and self._watch.is_due(interval)

    def _draw(self, camera: str, image: Message, picture: Picture) -> None:
        try:
            from cv_bridge import CvBridge
        except ImportError as error:
            raise MissingDependencyError(
                "cv_bridge", "showing the overlay", "sudo apt install ros-$ROS_DISTRO-cv-bridge (PyPI does not have it)"
            ) from error
        message = CvBridge().cv2_to_imgmsg(picture)
        message.encoding = "rgb8"  # which the conversion knows only by way of a compiled library
        message.header.frame_id = image.frame_id
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(image.stamp_ns, 10**9)
        self._pictures[camera].publish(message)

    # The recording.

    def _on_start(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        if self._recording is not None:
            response.success, response.message = False, f"recording already, to {self._recording.bag}"
            return response
        try:
            obstacle = self._start()
        except Exception as error:
            self._fail(obstacle := f"{type(error).__name__}: {error}")
        response.success, response.message = not obstacle, obstacle or f"recording to {self._state.bag}"
        return response

    def _on_stop(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        recording = self._recording
        self._state.wanted = False
        self._stop()
        response.success = recording is not None and recording.failure is None
        done = _outcome(self._state.sets, self._state.bag) if response.success else "nothing is being recorded"
        response.message = self._state.failure or done
        return response

    def _start(self) -> str:
        """Begins a bag; returns what stands against it, if anything does."""
        parameters = read_table(self, CollectParameters)
        writer = parameters.writer()
        obstacles = [*obstacles_to_write(parameters.folder, writer), *self._sensors.obstacles()]
        problems = self._sensors.problems(parameters.max_clock_difference)
        if obstacles:
            return "; ".join([*obstacles, *problems])
        if problems and parameters.on_problem == "refuse":
            return "; ".join(problems) + " (on_problem:=warn records all the same)"
        try:
            recording = Recording(expanded(parameters.folder), writer, parameters.gate())
        except (RecordingError, ConfigError) as error:
            self._state = RecordingState(bag=self._state.bag, failure=str(error))
            self.get_logger().error(f"Cannot record: {error}")
            return str(error)
        self._state = RecordingState(wanted=True, bag=str(recording.bag), recording=True)
        self._lost_at_start = self._lost()
        self._sensors.forget_upsets()
        for message in self._sensors.beginning(self.get_clock().now().nanoseconds):
            recording.write(message)
        self._recording = recording
        self.get_logger().info(f"Recording to {recording.bag}")
        for problem in problems:
            self.get_logger().warning(f"Recording in spite of this: {problem}")
        return ""

    def _stop(self) -> None:
        """Ends the bag with all sets that have come. If it had ended by itself, tells why."""
        recording = self._recording
        if recording is None:
            return
        self._sensors.flush(self._worker.drain)  # there may be more sets than find room at once
        self._worker.drain()
        self._recording = None
        self._attempt(partial(self._tell, recording))
        recording.close()
        self._dropped_before.update(recording.dropped)
        self._state.recording, self._state.sets, self._state.sets_per_second = False, recording.sets, 0.0
        if recording.failure is not None:
            self._state.wanted, self._state.failure = False, str(recording.failure)
            self.get_logger().error(f"Recording has ended: {recording.failure}")
        self.get_logger().info(_outcome(recording.sets, recording.bag))

    def _tell(self, recording: Recording) -> None:
        """What the manifest shall say beside the sets."""
        recording.record_lost(self._lost() - self._lost_at_start)
        if (calibration := self._sensors.calibration()) is not None:
            recording.record_calibration(calibration)

    def _lost(self) -> Counter[str]:
        """Topic -> messages that did not come as far as a bag."""
        with self._lost_sets_lock:
            return self._sensors.lost() + self._lost_sets

    def _dropped(self) -> Counter[str]:
        """Topic -> messages that are in no bag, though they should be, since the node's start."""
        recording = self._recording
        return self._lost() + self._dropped_before + (recording.dropped if recording is not None else Counter())

    # Once in a while.

    def _attempt(self, step: Callable[[], None]) -> None:
        """What goes wrong is told, and does not end the node, nor what it records."""
        try:
            step()
        except Exception as error:
            self._fail(f"{type(error).__name__}: {error}")

    def _attempt_report(self) -> None:
        """Whatever goes wrong with the report, /diagnostics does not go quiet."""
        try:
            self._report()
        except Exception as error:
            self._fail(what := f"{type(error).__name__}: {error}")
            self._reporter.publish(ERROR, what, {})
            self._reporter.log_change(ERROR, what)

    def _fail(self, what: str) -> None:
        self._failures.bad(what)
        self.get_logger().debug(traceback.format_exc())

    def _look(self) -> None:
        self._sensors.connect()
        if self._recording is None:
            if self._state.wanted:
                self._start()
            return
        self._tell(self._recording)
        if self._recording.failure is not None:
            self._stop()

    def _report(self) -> None:
        parameters = read_table(self, CollectParameters)
        self._sensors.fixed_frame = parameters.fixed_frame
        state, recording, dropped = self._state, self._recording, self._dropped()
        state.free_bytes = free_bytes(parameters.folder)
        if recording is not None:
            state.sets, state.sets_per_second = recording.sets, recording.sets_per_second()
        status = status_message(state, self._sensors, self._watch, dropped)
        status.header.stamp = self.get_clock().now().to_msg()
        self._status.publish(status)

        problems = self._sensors.obstacles() + self._sensors.problems(parameters.max_clock_difference)
        if not state.recording:
            problems = obstacles_to_write(parameters.folder, parameters.writer()) + problems
        troubles = self._health.troubles(state, problems, dropped, parameters)
        level = troubles[0][0] if troubles else OK
        activity = f"recording to {state.bag}" if state.recording else "not recording"
        message = ": ".join([activity, *filter(None, ["; ".join(text for _, text in troubles)])])
        values = {
            "bag": state.bag,
            "sets": state.sets,
            "free bytes on the disk": state.free_bytes,
            **{f"dropped of {topic}": count for topic, count in dropped.items()},
        }
        self._reporter.publish(level, message, values)
        self._reporter.log_change(level, message)


def _outcome(sets: int, bag: object) -> str:
    return f"{counted(sets, 'set')} in {bag}"
