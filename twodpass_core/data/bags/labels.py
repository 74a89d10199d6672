"""Labels of a bag's clouds: in a field of the cloud, or kept beside the bag."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from twodpass_core.classes import IGNORED, UNLABELLED, ClassMap
from twodpass_core.cloud import view_cloud
from twodpass_core.errors import ClassMapError, CloudError
from twodpass_core.labels.raw import RawLabels, instances, raw_ids
from twodpass_core.labels.store import LabelStore

RAW_FIELD: Final = "label"  # SemanticKITTI's: raw class id in the lower 16 bits, instance in the upper
CLASS_FIELD: Final = "class_id"  # as the node publishes them: training ids, 255 unlabelled
MAX_ID: Final = 2**32 - 1

Labels = tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint16] | None]


def has_labels(message: Any) -> bool:
    """Whether a cloud has a field of labels, which count, whatever lies beside the bag."""
    return any(field.name in (RAW_FIELD, CLASS_FIELD) for field in message.fields)


def raw_labels_of(message: Any, store: LabelStore, stamp_ns: int, class_map: ClassMap) -> RawLabels | None:
    """(N,) raw ids and instances as they are kept; where class ids are, those that are written for them.

    What is in the cloud counts, not what lies beside the bag. None for a scan without labels.

    Raises:
        CloudError: a field that holds no ids.
        ClassMapError: class ids that the class map does not have.
        LabelError: a label file that does not fit the scan.
    """
    if _are_class_ids(message):
        return class_map.raw_labels(_known_ids(_column(message, CLASS_FIELD), class_map))
    if has_labels(message):
        return _column(message, RAW_FIELD).astype(np.uint32)
    return store.read(stamp_ns, message.width * message.height)


def ids_and_instances(raw: RawLabels, message: Any, class_map: ClassMap) -> Labels:
    """Training ids (N,), 0 ignored, of `raw_labels_of` a cloud, and instances (N,) where there are any.

    Raises ClassMapError: ids that the class map does not know.
    """
    return class_map.training_ids(raw_ids(raw)), None if _are_class_ids(message) else instances(raw)


def _are_class_ids(message: Any) -> bool:
    return has_labels(message) and all(field.name != RAW_FIELD for field in message.fields)


def _column(message: Any, name: str) -> npt.NDArray[np.int64]:
    values = view_cloud(message).column(name).ravel()
    with np.errstate(invalid="ignore"):
        whole = values.astype(np.int64)
    if values.dtype.kind == "f" and not ((values == whole) & (whole >= 0) & (whole <= MAX_ID)).all():
        raise CloudError(f"field '{name}': holds numbers that are not ids")
    return whole


def _known_ids(ids: npt.NDArray[np.int64], class_map: ClassMap) -> npt.NDArray[np.uint8]:
    ids = np.where(ids == UNLABELLED, IGNORED, ids)
    if len(unknown := np.unique(ids[(ids < 0) | (ids >= class_map.num_classes)])):
        raise ClassMapError(
            f"class map {class_map.name} has ids 0..{class_map.num_classes - 1}, not {unknown[:10].tolist()}"
        )
    return ids.astype(np.uint8)
