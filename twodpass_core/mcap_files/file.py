"""An MCAP file that is sound after every chunk: what does not reach the disk leaves no trace.

The records are those of the package `mcap`. Its Writer is not used: it cannot take back a chunk that the disk refused,
and its compression, fixed at Zstandard's level 3, takes four times as long as level 1 on scans and images.
"""

from __future__ import annotations

import errno
import os
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path

from mcap.data_stream import RecordBuilder
from mcap.opcode import Opcode
from mcap.records import (
    Attachment,
    AttachmentIndex,
    Channel,
    ChunkIndex,
    DataEnd,
    Footer,
    Header,
    McapRecord,
    Metadata,
    MetadataIndex,
    Schema,
    Statistics,
    SummaryOffset,
)

from twodpass_core.files import sync_folder
from twodpass_core.mcap_files.check import MAGIC
from twodpass_core.mcap_files.chunk import PackedChunk


class McapFile:
    """Writes an MCAP file by chunks, which are on the disk when `append` returns. Errors of the disk are OSError.

    After an error the file is as it was before the call, and may be ended by `finish`.
    """

    def __init__(self, path: Path, library: str, profile: str = "ros2") -> None:
        self.path = path
        self.size = 0
        self.counts: Counter[int] = Counter()  # messages by channel
        self.compresses_messages = False
        self.first_ns: int | None = None
        self.last_ns: int | None = None
        self.schemas: dict[int, Schema] = {}  # by id; also what only the index shall tell may be put here
        self.channels: dict[int, Channel] = {}
        self._chunks: list[ChunkIndex] = []
        self._attachments: list[AttachmentIndex] = []
        self._metadata: list[MetadataIndex] = []
        self._file = path.open("xb", buffering=0)
        header = RecordBuilder()
        header.write(MAGIC)
        Header(profile, library).write(header)
        self._commit(header.end())
        sync_folder(path.parent)

    def check_there(self) -> None:
        """Raise FileNotFoundError where somebody has deleted the file, which takes bytes all the same."""
        if os.fstat(self._file.fileno()).st_nlink == 0:
            raise FileNotFoundError(errno.ENOENT, "was deleted while it was written", str(self.path))

    def append(self, chunks: Sequence[PackedChunk], notes: Mapping[str, Mapping[str, str]] | None = None) -> None:
        """Write chunks, all or none. Notes (name -> keys and values) come before them: they are about these chunks."""
        builder = RecordBuilder()
        notes_index = [self._write_note(builder, name, dict(values)) for name, values in (notes or {}).items()]
        chunk_index = [self._write_chunk(builder, chunk) for chunk in chunks]
        self._commit(builder.end())
        self._chunks += chunk_index
        self._metadata += notes_index
        for chunk in chunks:
            self._count(chunk)

    def attach(self, attachment: Attachment) -> None:
        """Write an attachment."""
        builder = RecordBuilder()
        attachment.write(builder)
        index = AttachmentIndex(
            offset=self.size,
            length=builder.count,
            log_time=attachment.log_time,
            create_time=attachment.create_time,
            data_size=len(attachment.data),
            name=attachment.name,
            media_type=attachment.media_type,
        )
        self._commit(builder.end())
        self._attachments.append(index)

    def note(self, name: str, values: Mapping[str, str]) -> None:
        """Write a metadata record."""
        builder = RecordBuilder()
        index = self._write_note(builder, name, dict(values))
        self._commit(builder.end())
        self._metadata.append(index)

    def finish(self) -> None:
        """Write the index and close the file. After an error the file has no index; `recover` makes it one."""
        try:
            builder = RecordBuilder()
            DataEnd(0).write(builder)
            builder.write(self._summary(self.size + builder.count))
            builder.write(MAGIC)
            self._commit(builder.end())
        finally:
            self._file.close()

    def _write_chunk(self, builder: RecordBuilder, chunk: PackedChunk) -> ChunkIndex:
        start = builder.count
        chunk.record.write(builder)
        end = builder.count
        offsets: dict[int, int] = {}
        for index in chunk.indexes:
            offsets[index.channel_id] = self.size + builder.count
            index.write(builder)
        return ChunkIndex(
            chunk_length=end - start,
            chunk_start_offset=self.size + start,
            compression=chunk.record.compression,
            compressed_size=len(chunk.record.data),
            message_end_time=chunk.record.message_end_time,
            message_index_length=builder.count - end,
            message_index_offsets=offsets,
            message_start_time=chunk.record.message_start_time,
            uncompressed_size=chunk.record.uncompressed_size,
        )

    def _write_note(self, builder: RecordBuilder, name: str, values: dict[str, str]) -> MetadataIndex:
        start = builder.count
        Metadata(name, values).write(builder)
        return MetadataIndex(offset=self.size + start, length=builder.count - start, name=name)

    def _commit(self, data: bytes) -> None:
        """All of the bytes on the disk, or none."""
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[self._file.write(rest) :]
            os.fsync(self._file.fileno())
        except OSError:
            self._file.seek(self.size)
            self._file.truncate()
            raise
        self.size += len(data)

    def _count(self, chunk: PackedChunk) -> None:
        self.schemas.update(chunk.schemas)
        self.channels.update(chunk.channels)
        self.compresses_messages |= chunk.compresses_messages
        for index in chunk.indexes:
            self.counts[index.channel_id] += len(index.records)
        first, last = chunk.record.message_start_time, chunk.record.message_end_time
        self.first_ns = first if self.first_ns is None else min(self.first_ns, first)
        self.last_ns = last if self.last_ns is None else max(self.last_ns, last)

    def _summary(self, start: int) -> bytes:
        """The summary section, that begins at this offset of the file, and the footer."""
        statistics = Statistics(
            attachment_count=len(self._attachments),
            channel_count=len(self.channels),
            channel_message_counts=dict(self.counts),
            chunk_count=len(self._chunks),
            message_count=sum(self.counts.values()),
            message_end_time=self.last_ns or 0,
            message_start_time=self.first_ns or 0,
            metadata_count=len(self._metadata),
            schema_count=len(self.schemas),
        )
        records: list[tuple[Opcode, McapRecord]] = []
        records += [(Opcode.SCHEMA, schema) for schema in self.schemas.values()]
        records += [(Opcode.CHANNEL, channel) for channel in self.channels.values()]
        records += [(Opcode.STATISTICS, statistics)]
        records += [(Opcode.CHUNK_INDEX, index) for index in self._chunks]
        records += [(Opcode.ATTACHMENT_INDEX, index) for index in self._attachments]
        records += [(Opcode.METADATA_INDEX, index) for index in self._metadata]

        builder = RecordBuilder()
        offsets: list[SummaryOffset] = []
        for opcode, group in groupby(records, key=lambda entry: entry[0]):
            group_start = builder.count
            for _, record in group:
                record.write(builder)
            offsets.append(SummaryOffset(opcode, start + group_start, builder.count - group_start))
        offsets_start = start + builder.count
        for offset in offsets:
            offset.write(builder)
        summary: bytes = builder.end()

        footer = RecordBuilder()
        Footer(start, offsets_start, 0).write(footer)
        crc = zlib.crc32(footer.end()[:-4], zlib.crc32(summary))
        Footer(start, offsets_start, crc).write(footer)
        return summary + bytes(footer.end())
