"""Where the command line meets the user: errors become one line, text becomes numbers. Imports nothing heavy."""

from __future__ import annotations

import errno
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import typer
from rich.console import Console, Group
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text
from typer.core import TyperGroup

from twodpass_core import __version__
from twodpass_core.errors import ConfigError, TwodpassError

if TYPE_CHECKING:
    from twodpass_core.checked import Checked

Settings = TypeVar("Settings", bound="Checked")
Number = TypeVar("Number", int, float)
IN_THE_WAY: Final[dict[type[Exception], str]] = {
    FileExistsError: "is there already: choose another name",
    NotADirectoryError: "a part of this path is a file: choose another",
}
"""What the system says of a file where a folder is to be, in other words."""


class ReportingGroup(TyperGroup):
    """Runs a command; an expected error ends it with one red line on stderr and exit code 1."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (TwodpassError, OSError) as error:
            if ctx.params.get("debug") or getattr(error, "errno", None) == errno.EPIPE:
                raise
            print_error(in_words(error))
            raise typer.Exit(1) from None


def in_words(error: Exception) -> str:
    """An error in a sentence, without the number that Python puts before those of the system."""
    if not isinstance(error, OSError) or error.filename is None or not error.strerror:
        return str(error)
    files = [str(name) for name in (error.filename, error.filename2) if name is not None]  # what went where
    return f"{' -> '.join(dict.fromkeys(files))}: {IN_THE_WAY.get(type(error), error.strerror)}"


def print_error(message: str, console: Console | None = None) -> None:
    """One red line on stderr; `console` is the one that shows a progress bar, if any."""
    (console or Console(stderr=True)).print(Text(f"error: {message}", style="red"), soft_wrap=True)


def print_note(message: str, console: Console | None = None) -> None:
    """One yellow line on stderr; `console` is the one that shows a progress bar, if any."""
    (console or Console(stderr=True)).print(Text(message, style="yellow"), soft_wrap=True)


def print_whole(renderable: Group | Table) -> None:
    """On stdout, with no number broken: in a terminal that is too narrow whole lines wrap."""
    console = Console()
    needed = Measurement.get(console, console.options.update(width=1000), renderable).maximum
    Console(width=max(console.width, needed)).print(renderable)


def print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"twodpass {__version__}")
        raise typer.Exit


def checked_settings(kind: type[Settings], values: dict[str, Any]) -> Settings:
    """Settings of a kind, as pydantic takes them. Raises ConfigError, which says what is wrong with each value."""
    from pydantic import ValidationError

    from twodpass_core.checked import describe_problems

    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise ConfigError(describe_problems(error)) from None


def floats(text: str, option: str, count: int) -> tuple[float, ...]:
    """The `count` numbers in "1,2.5,3". Raises ConfigError naming the option."""
    return _numbers(text, option, count, float, "numbers")


def integers(text: str, option: str, count: int | None = None) -> tuple[int, ...]:
    """The whole numbers in "1,2,3": `count` of them, or any number but none. Raises ConfigError naming the option."""
    return _numbers(text, option, count, int, "whole numbers")


def _numbers(
    text: str, option: str, count: int | None, read: Callable[[str], Number], described: str
) -> tuple[Number, ...]:
    try:
        values = tuple(read(part) for part in text.split(","))
    except ValueError:
        values = ()
    if not values or (count is not None and len(values) != count):
        wanted = described if count is None else f"{count} {described}"
        raise ConfigError(f"{option} must be {wanted} with commas between, not '{text}'")
    return values


def not_nan(value: float) -> float:
    """The number, for an option with bounds: "not a number" is neither below nor above any. Raises BadParameter."""
    if math.isnan(value):
        raise typer.BadParameter("nan is not a number")
    return value


def name_list(text: str | None, option: str) -> tuple[str, ...] | None:
    """The names in "00,03"; None stays None. Raises ConfigError naming the option where one is empty."""
    if text is None:
        return None
    found = tuple(name.strip() for name in text.split(","))
    if not all(found):
        raise ConfigError(f"{option} must be names with commas between, not '{text}'")
    return found


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Raise ConfigError where `path` exists and may not be replaced."""
    if path.exists() and not overwrite:
        raise ConfigError(f"{path} exists: choose another name, or give --overwrite to replace it")
