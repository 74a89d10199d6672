"""nuScenes' JSON tables, read row by row: of the 2.6 million in sample_data.json, all but a few are not needed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from twodpass_core.errors import ScanError

Row: TypeAlias = dict[str, Any]
CHUNK = 1 << 20  # characters


def read_table(
    folder: Path, name: str, fields: Sequence[str], wanted: Callable[[Row], bool] = lambda row: True
) -> list[Row]:
    """Those fields of the wanted rows of a table.

    Raises:
        ScanError: naming the table where it is missing, no JSON list of rows, or a row lacks a field.
    """
    path = folder / f"{name}.json"
    try:
        return [{field: row[field] for field in fields} for row in _rows(path) if wanted(row)]
    except OSError as error:
        raise ScanError(f"{path}: cannot be read: {error.strerror}") from error
    except KeyError as error:
        raise ScanError(f"{path}: a row has no {error}") from error
    except (ValueError, TypeError) as error:
        raise ScanError(f"{path}: is no table of nuScenes (a JSON list of rows): {error}") from error


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
