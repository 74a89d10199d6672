"""Recording on the vehicle: bags that survive a kill, a loss of power and a full disk. No ROS is needed."""

from twodpass_core.mcap_files.chunk import check_message_size
from twodpass_core.recording.bag_writer import BagWriter
from twodpass_core.recording.gate import Gate, GateSettings
from twodpass_core.recording.manifest import Calibration, Manifest, RecordedCamera
from twodpass_core.recording.split_recorder import WriterSettings, check_space
from twodpass_core.recording.topics import RecordedMessage, RecordedSet, RecordedTopic, definition_of, offered_qos

__all__ = [
    "BagWriter",
    "Calibration",
    "Gate",
    "GateSettings",
    "Manifest",
    "RecordedCamera",
    "RecordedMessage",
    "RecordedSet",
    "RecordedTopic",
    "WriterSettings",
    "check_message_size",
    "check_space",
    "definition_of",
    "offered_qos",
]
