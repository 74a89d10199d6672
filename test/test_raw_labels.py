"""Label files: the bytes they are of, and what is in a label."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from twodpass_core.errors import LabelError
from twodpass_core.labels.raw import instances, raw_ids, read_raw_labels, with_instances, write_raw_labels


def test_a_file_is_of_little_endian_labels_whatever_they_are_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "000000.label"
    for dtype in ("<u4", ">u4", "<i8"):
        write_raw_labels(path, np.array([10 | 3 << 16, 2**32 - 1], dtype))
        assert path.read_bytes() == b"\x0a\0\3\0\xff\xff\xff\xff"
        labels = read_raw_labels(path, 2)
        assert labels is not None
        assert labels.dtype == np.uint32
        assert labels.tolist() == [10 | 3 << 16, 2**32 - 1]
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_of_another_length_is_refused_and_a_missing_one_is_none(tmp_path: Path) -> None:
    write_raw_labels(tmp_path / "000000.label", np.zeros(3, np.uint32))
    with pytest.raises(LabelError, match=r"000000\.label: 12 bytes are not 4 for each of the scan's 2 points"):
        read_raw_labels(tmp_path / "000000.label", 2)
    assert read_raw_labels(tmp_path / "000001.label", 3) is None


def test_a_label_is_of_an_id_and_an_instance() -> None:
    ids, numbers = np.array([0, 10, 65535], np.uint16), np.array([0, 7, 65535], np.uint16)
    raw = with_instances(ids, numbers)
    assert raw.dtype == np.uint32
    assert raw_ids(raw).tolist() == ids.tolist()
    assert instances(raw).tolist() == numbers.tolist()
    assert instances(raw.astype(np.int64)).dtype == np.uint16
