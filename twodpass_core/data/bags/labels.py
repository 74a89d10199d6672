"""Labels of a bag's clouds: in a field of the cloud, or kept beside the bag."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from twodpass_core.classes import UNLABELLED, ClassMap
from twodpass_core.cloud import view_cloud
from twodpass_core.errors import ClassMapError, CloudError, ScanError
from twodpass_core.labels.raw import instances, raw_ids
from twodpass_core.labels.store import LabelStore

RAW_FIELD: Final = "label"  # SemanticKITTI's: raw class id in the lower 16 bits, instance in the upper
CLASS_FIELD: Final = "class_id"  # as the node publishes them: training ids, 255 unlabelled
LABEL_FIELDS: Final = (RAW_FIELD, CLASS_FIELD)

Labels = tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint16] | None]


def read_labels(
    message: Any, fields: tuple[str, ...], store: LabelStore, stamp_ns: int, class_map: ClassMap
) -> Labels | None:
    """Training ids (N,), 0 ignored, and instances (N,) where there are any; None for a scan without labels.

    Raises:
        ScanError: ids that the class map does not know.
        LabelError: a label file that does not fit the scan.
    """
    try:
        if _are_class_ids(fields):
            return _known_ids(_column(message, CLASS_FIELD), class_map), None
        raw = _read_raw(message, fields, store, stamp_ns)
        return None if raw is None else (class_map.training_ids(raw_ids(raw)), instances(raw))
    except (ClassMapError, CloudError) as error:
        raise ScanError(str(error)) from error


def read_raw_labels(
    message: Any, fields: tuple[str, ...], store: LabelStore, stamp_ns: int, class_map: ClassMap
) -> npt.NDArray[np.uint32] | None:
    """(N,) raw ids and instances as they are kept; where class ids are, those that are written for them.

    Raises as `read_labels`.
    """
    try:
        if _are_class_ids(fields):
            return class_map.raw_labels(_known_ids(_column(message, CLASS_FIELD), class_map)).astype(np.uint32)
        raw = _read_raw(message, fields, store, stamp_ns)
        return None if raw is None else raw.astype(np.uint32)
    except (ClassMapError, CloudError) as error:
        raise ScanError(str(error)) from error


def _are_class_ids(fields: tuple[str, ...]) -> bool:
    return CLASS_FIELD in fields and RAW_FIELD not in fields


def _read_raw(message: Any, fields: tuple[str, ...], store: LabelStore, stamp_ns: int) -> npt.NDArray[np.int64] | None:
    """What is in the cloud counts, not what lies beside the bag."""
    if RAW_FIELD in fields:
        return _column(message, RAW_FIELD)
    kept = store.read(stamp_ns, message.width * message.height)
    return None if kept is None else kept.astype(np.int64)


def _column(message: Any, name: str) -> npt.NDArray[np.int64]:
    values = view_cloud(message).column(name).ravel()
    whole = values.astype(np.int64)
    if values.dtype.kind == "f" and not (values == whole).all():
        raise CloudError(f"field '{name}': holds numbers that are not ids")
    return whole


def _known_ids(ids: npt.NDArray[np.int64], class_map: ClassMap) -> npt.NDArray[np.uint8]:
    ids = np.where(ids == UNLABELLED, class_map.ignore_id, ids)
    if len(unknown := np.unique(ids[(ids < 0) | (ids >= class_map.num_classes)])):
        raise ClassMapError(
            f"class map {class_map.name} has ids 0..{class_map.num_classes - 1}, not {unknown[:10].tolist()}"
        )
    return ids.astype(np.uint8)
