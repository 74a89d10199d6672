"""Single messages of a bag, in any order."""

from __future__ import annotations

import os
from collections import OrderedDict
from itertools import islice
from threading import Lock
from typing import Any, Final

from rosbags.rosbag2 import Reader
from rosbags.typesys import Stores, get_typestore

from twodpass_core.data.bags.index import BagIndex, TopicIndex
from twodpass_core.data.bags.rosbags_reader import unpack
from twodpass_core.errors import BagError

MAX_OPEN_FILES: Final = 4


class BagReader:
    """Reads messages of an indexed bag. Files are opened when first needed, and in every process anew.

    Threads may share it: one message is read after the other.
    """

    def __init__(self, index: BagIndex) -> None:
        self.path, self._files = index.path, index.file_paths()
        self._forget()

    def read(self, topic: TopicIndex, position: int) -> Any:
        """The deserialised message at a position of a topic. Raises BagError."""
        file = self._files[int(topic.file[position])]
        log_ns, nth = int(topic.log_ns[position]), int(topic.nth[position])
        if self._process != os.getpid():  # forked: positions in open files are shared with the parent
            self._forget()
        try:
            with self._in_use:
                storage = self._open(int(topic.file[position])).storage
                connections = [c for c in storage.connections if (c.topic, c.msgtype) == (topic.topic, topic.type)]
                raw = next(islice(storage.messages(connections, log_ns, log_ns + 1), nth, None))[2]
            return self._typestore.deserialize_cdr(unpack(raw), topic.type)
        except StopIteration:
            raise BagError(f"{file}: has no message of {topic.topic} at {log_ns} ns: it has changed since") from None
        except Exception as error:  # the bytes are foreign: rosbags meets damage in many ways
            raise BagError(
                f"{file}: message {position} of {topic.topic} cannot be read: {error or type(error).__name__}"
            ) from error

    def deserialise(self, raw: bytes, kind: str) -> Any:
        """A message kept in the index. Raises BagError."""
        try:
            return self._typestore.deserialize_cdr(raw, kind)
        except Exception as error:
            raise BagError(f"{self.path}: a {kind} cannot be read: {error or type(error).__name__}") from error

    def _open(self, file: int) -> Reader:
        if file not in self._open_files:
            if len(self._open_files) == MAX_OPEN_FILES:
                self._open_files.popitem(last=False)[1].close()
            reader = Reader(self._files[file])
            reader.open()
            self._open_files[file] = reader
        self._open_files.move_to_end(file)
        return self._open_files[file]

    def _forget(self) -> None:
        self._process, self._in_use = os.getpid(), Lock()
        self._open_files: OrderedDict[int, Reader] = OrderedDict()
        self._typestore = get_typestore(Stores.LATEST)

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "_files": self._files}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()
