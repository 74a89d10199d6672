"""YAML that people write: a key that is there twice is refused, since one of its values would be lost."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from twodpass_core.errors import TwodpassError


def read_yaml_file(path: Path, what: str, error_type: type[TwodpassError], hint: str = "") -> Any:
    """The plain values in a file. Raises `error_type`, naming the file.

    Where it cannot be opened, also `what` it should have been, and `hint`: what could be given instead.
    """
    try:
        return read_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise error_type(f"{path}: no such {what} ({error.strerror}){hint}") from error
    except OSError as error:
        raise error_type(f"{path}: cannot read the {what}: {error.strerror}{hint}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise error_type(f"{path}: not a YAML file: {error}") from error


def read_yaml(text: str) -> Any:
    """Plain values. Raises yaml.YAMLError."""
    try:
        return yaml.load(text, _PlainLoader)
    except RecursionError:
        raise yaml.YAMLError("too many lists or groups within each other") from None


# A date is a name as good as any other, for a folder say, and nothing here is set to a date.
_ALL_BUT_DATES = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


class _PlainLoader(yaml.SafeLoader):
    yaml_implicit_resolvers = _ALL_BUT_DATES

    def construct_document(self, node: yaml.Node) -> Any:
        """All at once: a list that holds itself is refused, and whatever fails does so inside of construct_object."""
        return self.construct_object(node, deep=True)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Python's errors over text that does not fit its tag, as `0x_`, become YAML's, which name the place."""
        try:
            return super().construct_object(node, deep)
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            kind = node.tag.rpartition(":")[2]
            raise yaml.constructor.ConstructorError(None, None, f"cannot be read as {kind}", node.start_mark) from error

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in seen and key.tag != "tag:yaml.org,2002:merge":
                    raise yaml.constructor.ConstructorError(None, None, f"duplicate key '{key.value}'", key.start_mark)
                seen.add((key.tag, key.value))
        return super().construct_mapping(node, deep)
