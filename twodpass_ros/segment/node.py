"""The node `segment`: PointCloud2 in, the same points with class, probability and colour out.

A lifecycle node: configure loads the weights and publishes the class map, activate subscribes, deactivate frees the
GPU. A scan that cannot be labelled is dropped and told on /diagnostics; the next one works. While nobody reads the
labelled clouds or the status, scans are not labelled at all.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future, wait
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from sensor_msgs.msg import PointCloud2

from twodpass_core.choices import Precision
from twodpass_core.device import empty_cache
from twodpass_core.errors import CloudError, TwodpassError
from twodpass_core.files import expanded
from twodpass_core.message_types import POINT_CLOUD
from twodpass_core.pretrained import USED_UNASKED, weights_file
from twodpass_core.process import give_back_freed_memory
from twodpass_core.segmenter import Segmenter
from twodpass_core.weights import UNTRAINED
from twodpass_ros.conversion import class_map_message
from twodpass_ros.diagnostics import ERROR, OK, Reporter
from twodpass_ros.msg import ClassMap, SegmentationStatus
from twodpass_ros.parameter_table import declare_table, read_table
from twodpass_ros.segment.health import Health
from twodpass_ros.segment.labelling import label_scan
from twodpass_ros.segment.newest_first_worker import NewestFirstWorker
from twodpass_ros.segment.parameters import SegmentParameters
from twodpass_ros.segment.work_thread import WorkThread
from twodpass_ros.transport import LATCHED, RESULTS, create_publisher, create_subscription, describe_publishers

LoadSegmenter = Callable[[Path, str, Precision, str], Segmenter]
"""(weights file, device, precision, backend) -> segmenter, as `Segmenter.from_weights` does."""

INPUT = "~/input/points"
DIAGNOSTICS_PERIOD = 1.0  # seconds
LOADING_PERIOD = 0.05  # seconds between looks at whether the weights are loaded
STOP_TIMEOUT = 3.0  # seconds that a stop waits for the scan in work
WITH_WEIGHTS = ("configure", "activate")
"""Transitions that load weights, in their order: the second one does so after a deactivation, which frees them."""


class SegmentNode(LifecycleNode):
    """Wires parameters, topics and the worker thread. What happens to a scan is in `labelling`."""

    def __init__(self, load_segmenter: LoadSegmenter, ended: threading.Event) -> None:
        """`ended` is set when the program shall end: no transition waits for weights any more then."""
        super().__init__("segment")
        self._load_segmenter = load_segmenter
        self._ended = ended
        self._usual_threads = torch.get_num_threads()
        self._segmenter: Segmenter | None = None
        self._weights: Path | None = None
        self._loading: Future[Segmenter] | None = None
        """Begun by autostart, for the configuration that follows when it has ended, at which `_starting` looks."""
        self._starting: Any = None
        self._thread = WorkThread("segment")
        self._worker: NewestFirstWorker[tuple[PointCloud2, float]] | None = None
        self._subscription: Any = None
        self._health = Health()
        self._obstacle = ""
        declare_table(self, SegmentParameters, self._why_fixed)
        self._labelled = create_publisher(self, PointCloud2, "~/output/points", RESULTS)
        self._class_map = create_publisher(self, ClassMap, "~/class_map", LATCHED)
        self._status = create_publisher(self, SegmentationStatus, "~/status", RESULTS)
        self._reporter = Reporter(self, "labelled clouds")
        self._create_timer(DIAGNOSTICS_PERIOD, self._report)

    @property
    def _settings(self) -> SegmentParameters:
        """As they are now."""
        return read_table(self, SegmentParameters)

    def _why_fixed(self) -> str:
        is_loaded = self._segmenter is not None or self._loading is not None
        return "is read when the weights are loaded: deactivate or clean up first" if is_loaded else ""

    def _create_timer(self, period: float, callback: Callable[[], None]) -> Any:
        """In steady time: ROS time stands still or jumps back when a bag is played."""
        return self.create_timer(period, callback, clock=Clock(clock_type=ClockType.STEADY_TIME))

    # Lifecycle. A transition that fails is logged, leaves the state as it was, and may be tried again.

    def autostart(self) -> None:
        """If the parameter says so: loads the weights while the executor spins, then configures and activates."""

        def begin() -> None:
            self._loading = self._begin_to_load()
            self._starting = self._create_timer(LOADING_PERIOD, self._start_when_loaded)

        if self._settings.autostart:
            self._attempt("configure", begin)

    def _start_when_loaded(self) -> None:
        if self._loading is not None and not self._loading.done():
            return
        self._starting.cancel()
        # None: somebody has asked for a transition meanwhile, and goes on from there.
        if self._loading is not None and self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._attempt("configure", self._load)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._attempt("activate", self._start)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._attempt("deactivate", self.stop)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._attempt("clean up", self.stop)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._attempt("shut down", self.stop)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        obstacle = self._obstacle
        outcome = self._attempt("recover", self.stop)
        self._obstacle = self._obstacle or obstacle  # of the transition that has raised
        return outcome

    def _attempt(self, what: str, step: Callable[[], object]) -> TransitionCallbackReturn:
        """rclpy swallows what a transition raises, so it is told here, once."""
        try:
            step()
        except Exception as error:
            self._obstacle = f"Cannot {what}: {_describe(error)}"
            self.get_logger().error(self._obstacle + self._what_next(what))
            self.get_logger().debug(traceback.format_exc())
            self.stop()
            _free_gpu_memory(error)
            return TransitionCallbackReturn.FAILURE
        self._obstacle = ""
        return TransitionCallbackReturn.SUCCESS

    def _what_next(self, what: str) -> str:
        """How to try a transition again that needs weights, and what comes after it; nothing for others."""
        if what not in WITH_WEIGHTS:
            return ""
        name = self.get_fully_qualified_name()
        steps = [f"ros2 param set {name} weights FILE (or another parameter that is to blame)"]
        steps += [f"ros2 lifecycle set {name} {step}" for step in WITH_WEIGHTS[WITH_WEIGHTS.index(what) :]]
        return f". Try again: {'; '.join(steps)}"

    def _begin_to_load(self) -> Future[Segmenter]:
        settings = self._settings
        path = self._weights = weights_file(expanded(settings.weights) if settings.weights else None)
        self.get_logger().info(f"Loading {path}")

        def load_and_warm_up() -> Segmenter:
            if (threads := settings.threads or self._usual_threads) != torch.get_num_threads():
                torch.set_num_threads(threads)  # of this thread
            segmenter = self._load_segmenter(path, settings.device, settings.precision, settings.backend)
            segmenter.warm_up()
            return segmenter

        return self._thread.submit(load_and_warm_up)

    def _load(self) -> Segmenter:
        loading = self._loading or self._begin_to_load()
        self._loading = None
        while not wait([loading], LOADING_PERIOD).done:
            if self._ended.is_set():
                raise KeyboardInterrupt  # which leaves the executor, too
        segmenter = self._segmenter = loading.result()
        self._class_map.publish(class_map_message(segmenter.class_map, self.get_clock().now().to_msg()))
        self.get_logger().info(f"Ready on {segmenter.device}, classes of {segmenter.class_map.name}")
        if not segmenter.card.trained:
            self.get_logger().warning(UNTRAINED)
        elif not self._settings.weights:
            self.get_logger().warning(f"No `weights` given: {USED_UNASKED}")
        return segmenter

    def _start(self) -> None:
        segmenter = self._segmenter or self._load()  # a deactivation has freed it
        self._health = Health()
        self._worker = NewestFirstWorker(partial(self._process, segmenter, self._health), self._thread)
        self._subscription = create_subscription(self, PointCloud2, INPUT, self._on_scan, self._health.scans_lost)

    def stop(self) -> None:
        """Ends the work and frees the network, in whatever state the node is."""
        subscription, self._subscription = self._subscription, None
        worker, self._worker = self._worker, None
        segmenter, self._segmenter = self._segmenter, None
        loading, self._loading = self._loading, None
        if loading is not None:
            self._thread.submit(lambda: loading.result().close())
        if subscription is not None:
            self.destroy_subscription(subscription)
        if worker is not None and not worker.stop(STOP_TIMEOUT):
            self.get_logger().warning("A scan is still in work: its result is dropped, its memory freed when it ends")
            if segmenter is not None:
                self._thread.submit(segmenter.close)
            self._thread.end()
            self._thread = WorkThread("segment")
        elif segmenter is not None:
            segmenter.close()
            give_back_freed_memory()

    def destroy_node(self) -> None:
        """As rclpy's, after a stop, and with the state machine: rclpy forgets that, and so the node's shared memory."""
        try:
            self.stop()
        finally:
            super().destroy_node()
            self._state_machine.destroy_when_not_in_use()

    # Scans: received by the executor, labelled in the worker's thread.

    def _on_scan(self, scan: PointCloud2) -> None:
        self._health.scan_received()
        if not self._is_read():
            self._health.scan_unread()
        elif self._worker is not None and self._worker.offer((scan, time.monotonic())):
            self._health.scan_replaced()

    def _process(self, segmenter: Segmenter, health: Health, job: tuple[PointCloud2, float]) -> None:
        scan, received = job
        health.work_begun()
        try:
            settings = self._settings
            labelled = label_scan(scan, segmenter, settings)
            if self._worker is None or self._health is not health:  # stopped meanwhile, perhaps started again
                return
            self._labelled.publish(labelled.cloud)
            health.scan_published(time.monotonic() - received, settings.late_after, labelled.doubt)
            counts = health.counts()
            status = labelled.status
            status.total_ms = 1e3 * counts.latency
            status.received, status.published = counts.received, counts.published
            status.dropped, status.unread = counts.dropped, counts.unread
            self._status.publish(status)
        except CloudError as error:
            health.scan_failed(f"malformed: {error}")
        except (torch.cuda.OutOfMemoryError, MemoryError) as error:
            health.scan_failed(f"out of memory: {error}")
            _free_gpu_memory(error)
        except Exception as error:
            health.scan_failed(_describe(error))
            self.get_logger().debug(traceback.format_exc())

    def _is_read(self) -> bool:
        return bool(self._labelled.get_subscription_count() or self._status.get_subscription_count())

    def _describe_source(self) -> str:
        return describe_publishers(self, INPUT, [POINT_CLOUD])

    def _troubles(self) -> list[tuple[bytes, str]]:
        settings = self._settings
        return self._health.troubles(settings.input_timeout, settings.late_after, self._describe_source())

    def _report(self) -> None:
        """Once a second."""
        counts = self._health.counts()
        if self._worker is None:
            idle = "loading the weights" if self._loading is not None else "not active"
            level, message = (ERROR, self._obstacle) if self._obstacle else (OK, idle)
        elif troubles := self._troubles():
            level, message = troubles[0][0], "; ".join(text for _, text in troubles)
        else:
            level, message = OK, "active" if self._is_read() else "active, but nobody reads: scans are not labelled"
        values = {
            "input topic": self.resolve_topic_name(INPUT),
            "weights": str(self._weights or ""),
            "device": self._segmenter.device if self._segmenter else "",
            "received": counts.received,
            "published": counts.published,
            "dropped": counts.dropped,
            "not labelled, nobody reads": counts.unread,
            "latency [ms]": f"{1e3 * counts.latency:.1f}",
        }
        self._reporter.publish(level, message, values)
        if self._worker is not None:
            self._reporter.log_change(level, message)


def _describe(error: Exception) -> str:
    return str(error) if isinstance(error, TwodpassError) else f"{type(error).__name__}: {error}"


def _free_gpu_memory(error: Exception) -> None:
    """Gives the GPU back what the computation that ended with `error` held: that lives in the error's frames."""
    traceback.clear_frames(error.__traceback__)
    empty_cache()
