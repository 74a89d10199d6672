"""Class maps: what the class ids of a data set mean, how they look, and how they are written in its files.

A network knows training ids 0..K-1; label files know raw ids. Shipped are "semantickitti" and "nuscenes".
Your own is a YAML file:

    name: orchard                                        # of the data set
    classes:                                             # one per training id, 0..K-1 without gaps, K at most 255
      - {id: 0, name: ignored, colour: [0, 0, 0], raw_ids: [0, 255]}
      - {id: 1, name: ground, colour: [160, 120, 80], raw_ids: [1]}
      - {id: 2, name: tree, colour: [0, 175, 0], raw_ids: [7, 4, 5], raw_id: 4}

`colour` is red, green, blue, 0..255. `raw_ids` are the raw ids (0..65535) read as this class; `raw_id` is the one of
them that is written for it, the first unless given. Class 0 is ignored: never trained, never predicted.
In all arrays of class ids 255 means unlabelled.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import numpy as np
import yaml
from pydantic import Field, ValidationError, model_validator

from twodpass_core.checked import Checked, plain_message
from twodpass_core.errors import ClassMapError, ConfigError
from twodpass_core.files import expanded
from twodpass_core.wording import shorten
from twodpass_core.yaml_files import read_yaml_file

IGNORED: Final = 0
"""The class id that is never trained or predicted: as a label it says nothing."""

UNLABELLED = 255
"""The class id of points without a class: no return, or outside the volume the network sees."""

SHIPPED = ("nuscenes", "semantickitti")
"""The names that `ClassMap.load` knows without a path."""

UNLABELLED_GREY = 128
RAW_ID_LIMIT = 65536

ClassId = Annotated[int, Field(strict=True, ge=0, lt=UNLABELLED)]
RawId = Annotated[int, Field(strict=True, ge=0, lt=RAW_ID_LIMIT)]
Channel = Annotated[int, Field(strict=True, ge=0, le=255)]


class SemanticClass(Checked):
    """One class: `raw_ids` are read as it, `raw_id` (one of them) is written for it."""

    id: ClassId
    name: Annotated[str, Field(min_length=1)]
    colour: tuple[Channel, Channel, Channel]
    raw_ids: Annotated[tuple[RawId, ...], Field(min_length=1)]
    raw_id: RawId

    @model_validator(mode="before")
    @classmethod
    def _write_first_raw_id(cls, values: Any) -> Any:
        match values:
            case {"raw_id": _}:
                return values
            case {"raw_ids": [first, *_]}:
                return {**values, "raw_id": first}
        return values

    @model_validator(mode="after")
    def _write_what_is_read(self) -> SemanticClass:
        if self.raw_id not in self.raw_ids:
            raise ValueError(f"raw_id {self.raw_id} is not one of raw_ids {list(self.raw_ids)}")
        return self


class ClassMap(Checked):
    """The classes of a data set, in the order of their ids 0..K-1. Part of every weights card."""

    name: Annotated[str, Field(min_length=1)]
    classes: Annotated[tuple[SemanticClass, ...], Field(min_length=2, max_length=UNLABELLED)]
    ignore_id: Literal[0] = IGNORED  # weights files have it

    @model_validator(mode="after")
    def _check_ids(self) -> ClassMap:
        _refuse_duplicates("id", ((entry.id, entry) for entry in self.classes))
        _refuse_duplicates("name", ((entry.name, entry) for entry in self.classes))
        _refuse_duplicates("raw id", ((raw_id, entry) for entry in self.classes for raw_id in entry.raw_ids))
        for expected, entry in enumerate(self.classes):
            if entry.id != expected:
                raise ValueError(
                    f"{_describe(entry)} stands where id {expected} is due: ids run 0..K-1 in order, no gaps"
                )
        return self

    @classmethod
    def load(cls, name_or_path: str | Path) -> ClassMap:
        """A shipped class map by name, or a YAML file by path, in which `~` is the user's folder.

        Raises:
            ClassMapError: naming file, class and problem.
            ConfigError: `~name` of no user.
        """
        name = str(name_or_path)
        shipped = Path(__file__).parent / "class_maps" / f"{name}.yaml"
        path = shipped if name in SHIPPED else expanded(name_or_path)
        hint = f". Give a YAML file or one of {', '.join(SHIPPED)}"
        content = read_yaml_file(path, "class map", ClassMapError, hint)
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            raise ClassMapError(f"{name}: {_explain(error.errors()[0], content)}") from error

    def save(self, path: Path) -> None:
        """Write the YAML file that `load` reads. Raises OSError."""
        path.write_text(yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False), encoding="utf-8")

    @property
    def num_classes(self) -> int:
        """K, the ignored class 0 included: the width of a classifier for this map."""
        return len(self.classes)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(entry.name for entry in self.classes)

    @cached_property
    def colour_table(self) -> np.ndarray:
        """(256, 3) uint8 red, green, blue of every class id; grey where there is no class, 255 among them."""
        table = np.full((256, 3), UNLABELLED_GREY, np.uint8)
        table[: self.num_classes] = [entry.colour for entry in self.classes]
        table.flags.writeable = False
        return table

    def training_ids(self, raw: np.ndarray) -> np.ndarray:
        """Class ids (N,) uint8 of raw ids (N,) of any integer type. Raises ClassMapError naming ids it does not know.

        SemanticKITTI keeps an instance number in the upper 16 bits of its labels: give `labels & 0xFFFF`.
        """
        raw = np.asarray(raw)
        if raw.dtype.kind not in "iu":
            raise ClassMapError(f"raw ids must be integers, not {raw.dtype}")
        known = (raw >= 0) & (raw < RAW_ID_LIMIT)
        index = np.where(known, raw, 0).astype(np.intp)
        known &= self._class_of_raw[index] != UNLABELLED
        if not known.all():
            unknown = np.unique(raw[~known])
            listed = shorten([str(raw_id) for raw_id in unknown])
            hint = "; mask the instance number with & 0xFFFF" if unknown[-1] >= RAW_ID_LIMIT else ""
            raise ClassMapError(
                f"class map {self.name} does not know raw ids {listed}: add them to raw_ids of a map of your own, "
                f"or give other labels{hint}"
            )
        return np.asarray(self._class_of_raw[index])

    def raw_labels(self, class_id: np.ndarray) -> np.ndarray:
        """Raw ids (N,) uint32 to write for class ids (N,) uint8; unlabelled points (255) get the ignored class's.

        Inverse of `training_ids`: `training_ids(raw_labels(c))` is `c`, with 0 where `c` is 255.
        """
        class_id = np.asarray(class_id)
        if class_id.dtype != np.uint8:
            raise ClassMapError(f"class ids must be uint8, not {class_id.dtype}")
        unknown = np.unique(class_id[(class_id >= self.num_classes) & (class_id != UNLABELLED)])
        if len(unknown):
            listed = ", ".join(map(str, unknown))
            raise ClassMapError(
                f"class map {self.name} has ids 0..{self.num_classes - 1} and {UNLABELLED}, not {listed}"
            )
        return np.asarray(self._raw_of_class[class_id])

    @cached_property
    def _class_of_raw(self) -> np.ndarray:
        """(65536,) uint8, UNLABELLED where a raw id is not known."""
        table = np.full(RAW_ID_LIMIT, UNLABELLED, np.uint8)
        for entry in self.classes:
            table[list(entry.raw_ids)] = entry.id
        return table

    @cached_property
    def _raw_of_class(self) -> np.ndarray:
        """(256,) uint32."""
        table = np.full(256, self.classes[IGNORED].raw_id, np.uint32)
        table[: self.num_classes] = [entry.raw_id for entry in self.classes]
        return table


def check_classes(weights: ClassMap, data: ClassMap) -> None:
    """Raise ConfigError unless both mean the same by every class id."""
    if weights.names != data.names:
        raise ConfigError(
            f"the weights know the classes of {weights.name} ({', '.join(weights.names)}), "
            f"the data those of {data.name} ({', '.join(data.names)}): use weights trained for these classes"
        )


def _describe(entry: SemanticClass) -> str:
    return f"class {entry.id} ({entry.name})"


def _refuse_duplicates(what: str, keyed: Iterable[tuple[int | str, SemanticClass]]) -> None:
    owners: dict[int | str, SemanticClass] = {}
    for key, entry in keyed:
        if key in owners:
            raise ValueError(f"{_describe(entry)}: duplicate {what} {key}, already in {_describe(owners[key])}")
        owners[key] = entry


def _explain(problem: Any, content: Any) -> str:
    """One of pydantic's error dicts as a phrase that names the class, the key and the value."""
    place = list(problem["loc"])
    subject = ""
    if len(place) >= 2 and place[0] == "classes" and isinstance(content["classes"], list):
        entry = content["classes"][place[1]]
        label = entry.get("name", entry.get("id", "without a name")) if isinstance(entry, dict) else entry
        subject = f"entry {place[1] + 1} ({label}): "
        place = place[2:]
    key = ".".join(map(str, place))
    if problem["type"] == "extra_forbidden":
        return f"{subject}unknown key {key!r}"
    if problem["type"] == "missing":
        return f"{subject}{key} is missing"
    message = plain_message(problem)
    if not key:
        return subject + message
    value = problem["input"]
    given = f" (given: {value!r})" if isinstance(value, int | float | str | bool | None) else ""
    return f"{subject}{key}: {message}{given}"
