"""nuScenes' JSON tables, read row by row: of the 2.6 million in sample_data.json, all but a few are not needed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from twodpass_core.errors import ScanError

Row: TypeAlias = dict[str, Any]
CHUNK = 1 << 20  # characters
NUMBERS = {"rotation": 4, "translation": 3}  # field -> how many


def read_table(
    folder: Path, name: str, fields: Sequence[str], wanted: Callable[[Row], bool] = lambda row: True
) -> list[Row]:
    """Those fields of the wanted rows of a table.

    Raises:
        ScanError: naming the table where it is missing, no JSON list of rows, or a row lacks a field or has something
            else in it than nuScenes has.
    """
    path = folder / f"{name}.json"
    try:
        return [_checked({field: row[field] for field in fields}, path) for row in _rows(path) if wanted(row)]
    except OSError as error:
        raise ScanError(f"{path}: cannot be read: {error.strerror}") from error
    except KeyError as error:
        raise ScanError(f"{path}: a row has no {error}") from error
    except (ValueError, TypeError) as error:
        raise ScanError(f"{path}: is not a table of nuScenes (a JSON list of rows): {error}") from error


def _checked(row: Row, path: Path) -> Row:
    for field, value in row.items():
        if not _fits(field, value):
            raise ScanError(f"{path}: a row has {field} {json.dumps(value)[:100]}, which is not valid in nuScenes")
    return row


def _fits(field: str, value: Any) -> bool:
    if field in ("timestamp", "width", "height"):
        return type(value) is int
    if field in NUMBERS:
        return _are_numbers(value, NUMBERS[field])
    if field == "camera_intrinsic":  # of other sensors it is empty
        return isinstance(value, list) and len(value) in (0, 3) and all(_are_numbers(row, 3) for row in value)
    is_text = field.endswith("token") or field in ("filename", "name", "channel")
    return isinstance(value, str) or not is_text


def _are_numbers(value: Any, count: int) -> bool:
    return isinstance(value, list) and len(value) == count and all(type(x) in (int, float) for x in value)


def _rows(path: Path) -> Iterator[Row]:
    """The objects of a JSON list, with little more than one chunk of the file in memory."""
    decode = json.JSONDecoder().raw_decode
    with path.open(encoding="utf-8") as file:
        text = file.read(CHUNK).lstrip()
        if not text.startswith("["):
            raise ValueError("it does not begin with [")
        at = 1
        while True:
            at = _skip(text, at)
            if text[at : at + 1] == "]":
                return
            try:
                row, end = decode(text, at)
            except ValueError:
                more = file.read(CHUNK)
                if not more:
                    raise
                text, at = text[at:] + more, 0
                continue
            yield row
            at = end


def _skip(text: str, at: int) -> int:
    """The next place that is neither a comma nor white space."""
    while text[at : at + 1] in (",", " ", "\n", "\r", "\t"):
        at += 1
    return at
