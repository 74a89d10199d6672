"""Settings as YAML for people: every setting with what it means beside it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from twodpass_core.training.config import TrainingConfig

WIDTH = 120


def dump_config(config: TrainingConfig) -> str:
    """All settings as YAML with comments; `load_config` reads it back.

    What follows from another setting, as from the augmentation's preset, or has no effect beside it, is a comment, so
    that the other one still decides.
    """
    return "\n".join(_settings(config, "")) + "\n"


def _settings(section: BaseModel, indent: str) -> Iterator[str]:
    implied: frozenset[str] = getattr(section, "implied", frozenset())
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield from _commented(f"{indent}{name}:", _meaning(field) or _summary(value), indent)
            yield from _settings(value, f"{indent}  ")
        elif isinstance(value, tuple) and value and isinstance(value[0], BaseModel):
            yield from _commented(f"{indent}{name}:", _meaning(field), indent)
            for entry in value:
                first, *rest = _settings(entry, f"{indent}    ")
                yield from (f"{indent}  - {first.lstrip()}", *rest)
        else:
            off = "# " if name in implied else ""
            yield from _commented(f"{indent}{off}{name}: {_yaml(section, name)}", _meaning(field), indent)


def _commented(line: str, comment: str, indent: str) -> Iterator[str]:
    """The comment after the line, or before it where there is no room."""
    if not comment:
        yield line
    elif len(line) + len(comment) + 4 <= WIDTH:
        yield f"{line}  # {comment}"
    else:
        yield from textwrap.wrap(comment, WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")
        yield line


def _yaml(section: BaseModel, name: str) -> str:
    """A value in one line."""
    value = section.model_dump(mode="json", include={name})[name]
    text: str = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=float("inf"))
    return text.removesuffix("\n").removesuffix("\n...")


def _meaning(field: FieldInfo) -> str:
    """The description, after the values to choose from where they are few."""
    choices = " | ".join(map(str, _choices(field.annotation)))
    return "; ".join(filter(None, (choices, field.description)))


def _choices(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) is Literal else ()


def _summary(section: BaseModel) -> str:
    return (type(section).__doc__ or "").partition("\n")[0].rstrip(".")
