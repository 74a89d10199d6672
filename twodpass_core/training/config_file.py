"""Settings from a YAML file and overrides; unknown keys are refused."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from twodpass_core.checked import describe_problems
from twodpass_core.data.bags import bags_in
from twodpass_core.errors import ConfigError
from twodpass_core.training.config import ONE, SEVERAL, TrainingConfig
from twodpass_core.training.shipped import settings_file, shipped_settings
from twodpass_core.yaml_files import read_yaml, read_yaml_file


def load_config(path: Path | None, overrides: Sequence[str] = ()) -> TrainingConfig:
    """The settings of a YAML file (none: the defaults) with overrides like "optimiser.learning_rate=0.1" on top.

    `path` may be the name of a shipped file: see `shipped_settings`.

    Raises:
        ConfigError: no such file, not YAML, a key is unknown (the nearest known one is named), a value does not fit.
    """
    path = None if path is None else settings_file(path)
    settings = {} if path is None else _read_yaml(path)
    _refuse_unknown(settings, str(path))
    for override in overrides:
        key, value = _read_override(override)
        _put(settings, key, value)
        _refuse_unknown(_nested(key, value), f"--set {override}")
    try:
        return TrainingConfig.model_validate(settings)
    except ValidationError as error:
        problems = describe_problems(error).replace(f".{ONE}", "").replace(f".{SEVERAL}", "")
        origin = f"{path} with --set" if path and overrides else path or "settings"
        raise ConfigError(f"{origin}: {problems}") from error


def known_keys(model: type[BaseModel] = TrainingConfig, prefix: str = "") -> Iterator[str]:
    """Dotted names of all settings and groups of them."""
    for name, field in model.model_fields.items():
        yield prefix + name
        for section in _sections(field.annotation):
            yield from known_keys(section, f"{prefix}{name}.")


def _sections(annotation: Any) -> list[type[BaseModel]]:
    """The models in a type such as `SourceConfig | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [section for part in getattr(annotation, "__args__", ()) for section in _sections(part)]


def _read_yaml(path: Path) -> dict[str, Any]:
    if bags_in(path):
        raise ConfigError(
            f"{path}: holds data, not settings: give finetune --set data.train.0.root={path} "
            f"--set data.validation.root={path}"
        )
    hint = f"; with twodpass come {', '.join(shipped_settings())}"
    content = read_yaml_file(path, "configuration", ConfigError, hint)
    if not isinstance(content, dict | None):
        raise ConfigError(f"{path}: must hold keys and values, as `twodpass train --print-config` shows")
    tree: dict[str, Any] = _without_aliases(content or {})
    return tree


def _without_aliases(content: Any) -> Any:
    """Groups that the YAML shares by an alias as groups of their own: one may be changed without the other."""
    if isinstance(content, dict):
        return {name: _without_aliases(value) for name, value in content.items()}
    return [_without_aliases(value) for value in content] if isinstance(content, list) else content


def _read_override(override: str) -> tuple[str, Any]:
    key, equals, text = override.partition("=")
    if not equals:
        raise ConfigError(f"--set {override}: must be KEY=VALUE, as in optimiser.learning_rate=0.1")
    try:
        return key.strip(), read_yaml(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {override}: the value is not YAML: {error}") from error


def _nested(key: str, value: Any) -> dict[str, Any]:
    """Groups with nothing in them but what a dotted key names."""
    for name in reversed(key.split(".")):
        value = {name: value}
    tree: dict[str, Any] = value
    return tree


def _put(settings: dict[str, Any], key: str, value: Any) -> None:
    """Set what a dotted key names, making groups that are not there; numbers in it are entries of lists."""
    *groups, last = key.split(".")
    place: Any = settings
    for depth, name in enumerate(groups):
        place = _inside(place, name, ".".join(groups[:depth]), key)
    if not isinstance(place, dict):
        raise ConfigError(f"--set {key}: {_refusal(place, '.'.join(groups))}")
    place[last] = value


def _inside(place: Any, name: str, path: str, key: str) -> Any:
    """What `path` has under a name."""
    if isinstance(place, list) and name.isdecimal() and int(name) < len(place):
        return place[int(name)]
    if not isinstance(place, dict):
        raise ConfigError(f"--set {key}: {_refusal(place, path)}")
    if place.get(name) is None:
        place[name] = {}
    return place[name]


def _refusal(place: Any, path: str) -> str:
    if isinstance(place, list):
        return f"{path} is a list of {len(place)}: set a key of one of them, as in {path}.0.root"
    return f"{path} is {place} and has no settings of its own"


def _refuse_unknown(settings: Mapping[str, Any], origin: str) -> None:
    known = sorted(set(known_keys()))
    for given in _keys(settings, set(known)):
        key = _without_numbers(given)
        if key not in known:
            # The nearest by its last part first: a key in the wrong group is as likely as a slip of the pen.
            by_name = [name for name in known if name.split(".")[-1] == key.split(".")[-1]]
            near = by_name or difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f": did you mean {_numbered(near[0], given)}?" if near else ": see `twodpass train --print-config`"
            raise ConfigError(f"{origin}: unknown key {given}{hint}")


def _keys(settings: Mapping[str, Any], known: set[str], prefix: str = "") -> Iterator[str]:
    """The dotted keys of all that is set, with the numbers of entries in lists."""
    for name, value in settings.items():
        key = f"{prefix}{name}"
        yield key
        if any(other.startswith(f"{_without_numbers(key)}.") for other in known):
            entries = enumerate(value) if isinstance(value, list) else [(None, value)]
            for number, entry in entries:
                if isinstance(entry, dict):
                    yield from _keys(entry, known, f"{key}." if number is None else f"{key}.{number}.")


def _without_numbers(key: str) -> str:
    """The key of a setting of any entry of a list."""
    return ".".join(name for name in key.split(".") if not name.isdecimal())


def _numbered(known: str, given: str) -> str:
    """A known key of the same entries of lists as a given one."""
    left, numbered = known.split("."), []
    for name in given.split("."):
        if name.isdecimal():
            numbered.append(name)
        elif name == left[0]:
            numbered.append(left.pop(0))
        else:
            break
    return ".".join(numbered + left)
