"""How many messages were lost on the way, by the numbers that DDS gives them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

UNNUMBERED = 2**64 - 1
"""What a middleware says that does not number messages (rmw/types.h)."""

REMEMBERED = 1000
"""So far back a message that was not heard is known when it comes after all."""

PUBLISHERS = 100
"""So many are known, those heard last: a driver that starts again and again is another one each time, of 65 KB."""


class SequenceGaps:
    """Losses, from the numbers that DDS gives to the messages of each publisher.

    DDS's own event of lost messages does not tell of those that a newer one replaced in the queue. Several
    subscriptions to a topic may share it: then it also tells what has come by another one.
    """

    def __init__(self, has_one_publisher: Callable[[], bool]) -> None:
        """`has_one_publisher`: whether the topic has no more than one, now."""
        self._has_one_publisher = has_one_publisher
        self._heard: dict[bytes, _Heard] = {}
        self._of_the_only: _Heard | None = None

    @property
    def numbered(self) -> bool:
        """Whether the middleware numbers messages and says whose they are (since Kilted)."""
        return bool(self._heard)

    @property
    def tells_of_losses(self) -> bool:
        """Whether numbers tell of all losses, of those too of which DDS has an event."""
        return self.numbered or (self._of_the_only is not None and self._has_one_publisher())

    def before(self, info: Mapping[str, Any]) -> int | None:
        """How many messages are missing between the publisher's previous one and this.

        -1: this one was among the missing. None: it has come before.
        """
        number: int | None = info.get("publication_sequence_number")
        publisher: Mapping[str, bytes] | None = info.get("publisher_gid")
        if number is None or number == UNNUMBERED:
            return 0
        if publisher is None:
            return self._before_of_the_only(number)
        name = publisher["data"]
        if (heard := self._heard.pop(name, None)) is None:
            self._heard[name] = _Heard.beginning_with(number)
            if len(self._heard) > PUBLISHERS:
                del self._heard[next(iter(self._heard))]
            return 0
        self._heard[name] = heard  # those heard last come last
        if number > heard.newest:
            return heard.go_on_to(number)
        if number not in heard.missing:
            return None
        heard.missing.remove(number)
        return -1 if number > heard.first else 0

    def _before_of_the_only(self, number: int) -> int:
        """Jazzy does not say whose the numbers are, so they tell something where there is one publisher alone."""
        heard = self._of_the_only
        if heard is None or (number <= heard.newest and number not in heard.missing):  # of another publisher
            self._of_the_only = _Heard.beginning_with(number)
            return 0
        if number <= heard.newest:
            heard.missing.remove(number)
            return -1 if number > heard.first and self._has_one_publisher() else 0
        missing = heard.go_on_to(number)
        return missing if missing and self._has_one_publisher() else 0


@dataclasses.dataclass
class _Heard:
    """Of one publisher: the first number that came, the newest, and those of the last ones that did not."""

    first: int
    newest: int
    missing: set[int] = dataclasses.field(default_factory=set)

    @classmethod
    def beginning_with(cls, number: int) -> _Heard:
        """Earlier messages may still come: from here on they are missing, without counting as losses."""
        heard = cls(first=number, newest=number - REMEMBERED)
        heard.go_on_to(number)
        return heard

    def go_on_to(self, number: int) -> int:
        """Takes a newer number; returns how many it leaves out."""
        if left_out := number - self.newest - 1:
            oldest = number - REMEMBERED
            self.missing = {old for old in self.missing if old >= oldest}
            self.missing.update(range(max(self.newest + 1, oldest), number))
        self.newest = number
        return left_out
