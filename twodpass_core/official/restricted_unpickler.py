"""Reading pickles of unknown origin: a stack machine that builds plain data and calls nothing the pickle names.

Python's `pickle.Unpickler` calls what a file tells it to call, and overriding `find_class` leaves holes (attributes
set on classes, `__setstate__`, hashing of nested tuples). Here the names in the file stay names. The caller gives
constructors for the few that it understands; every other object becomes an `InertObject` with its data.
Opcodes are decoded by the standard library's `pickletools`; protocols 0 to 5 are read, apart from extension codes
and out-of-band buffers.
"""

from __future__ import annotations

import pickletools
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from twodpass_core.errors import WeightsError

MAX_PICKLE_BYTES = 8 << 20
"""Refused beyond: the pickle of the largest published checkpoint (its tensors lie outside of it) has about 200 kB."""

HARMLESS_STANDARD_NAMES: Mapping[str, frozenset[str]] = {
    "_codecs": frozenset({"encode"}),
    "argparse": frozenset({"Namespace"}),
    "builtins": frozenset(
        {"bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "int", "list", "object", "range", "set"}
        | {"slice", "str", "tuple"}
    ),
    "collections": frozenset({"Counter", "OrderedDict", "defaultdict", "deque"}),
    "copyreg": frozenset({"_reconstructor"}),
    "datetime": frozenset({"date", "datetime", "timedelta"}),
    "decimal": frozenset({"Decimal"}),
    "pathlib": frozenset({"Path", "PosixPath", "PurePosixPath", "PureWindowsPath", "WindowsPath"}),
    "types": frozenset({"SimpleNamespace"}),
    "uuid": frozenset({"UUID"}),
}
"""Names of the standard library that checkpoints really hold. Any other one in a file is a sign of an attack."""

PYTHON2_MODULES = {"__builtin__": "builtins", "copy_reg": "copyreg", "cPickle": "_pickle", "commands": "subprocess"}


@dataclass(frozen=True)
class Global:
    """The name of a class or function as the pickle gives it. Nothing is imported."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass
class InertObject:
    """Stands for an object of a class that is not constructed: the class's name and the data that came with it."""

    kind: Global
    arguments: tuple[Any, ...]
    state: Any = None
    items: dict[Any, Any] = field(default_factory=dict)
    elements: list[Any] = field(default_factory=list)


Constructor = Callable[..., Any]


def read_pickle(
    data: bytes, constructors: Mapping[Global, Constructor], load_persistent: Callable[[Any], Any]
) -> tuple[Any, frozenset[Global]]:
    """The pickle's content as None, bool, numbers, str, bytes, list, tuple, dict, Global, InertObject, and what
    `constructors` (called with the pickled arguments) and `load_persistent` (called with a persistent id) return;
    sets come as lists. Second, the names that were left inert.

    Raises WeightsError when the pickle is damaged, too large, or names something that can have side effects.
    """
    if len(data) > MAX_PICKLE_BYTES:
        raise WeightsError(f"its pickle has {len(data)} bytes; no checkpoint needs more than {MAX_PICKLE_BYTES}")
    machine = _Machine(constructors, load_persistent)
    try:
        return machine.run(data), frozenset(machine.inert)
    except (ValueError, LookupError, TypeError, OverflowError) as error:
        raise WeightsError(f"its pickle is damaged: {error}") from error


class _Machine:
    """The stack, the marks and the memo of one pickle."""

    def __init__(self, constructors: Mapping[Global, Constructor], load_persistent: Callable[[Any], Any]) -> None:
        self.constructors = constructors
        self.load_persistent = load_persistent
        self.inert: set[Global] = set()
        self.stack: list[Any] = []
        self.outer_stacks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def run(self, data: bytes) -> Any:
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name == "STOP":
                return self.stack.pop()
            self.step(opcode.name, argument)
        raise ValueError("it has no end")

    def step(self, name: str, argument: Any) -> None:
        match name:
            case "PROTO" | "FRAME":
                pass
            case "NONE":
                self.stack.append(None)
            case "NEWTRUE" | "NEWFALSE":
                self.stack.append(name == "NEWTRUE")
            case _ if name in _LITERALS:
                self.stack.append(argument)
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                self.memo[argument] = self.stack[-1]
            case "MEMOIZE":
                self.memo[len(self.memo)] = self.stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                self.stack.append(self.memo[argument])
            case "DUP":
                self.stack.append(self.stack[-1])
            case "MARK":
                self.outer_stacks.append(self.stack)
                self.stack = []
            case "POP_MARK":
                self.since_mark()
            case "POP":
                self.since_mark() if not self.stack else self.stack.pop()
            case "EMPTY_TUPLE" | "TUPLE1" | "TUPLE2" | "TUPLE3":
                self.push(tuple(self.take(_SHORT_TUPLES[name])))
            case "TUPLE":
                self.push(tuple(self.since_mark()))
            case "EMPTY_LIST" | "EMPTY_SET":
                self.push([])
            case "LIST" | "FROZENSET":
                self.push(self.since_mark())
            case "EMPTY_DICT":
                self.push({})
            case "DICT":
                self.push(_checked_dict(self.since_mark()))
            case "APPEND":
                self.append(self.take(1))
            case "APPENDS" | "ADDITEMS":
                self.append(self.since_mark())
            case "SETITEM":
                self.set_items(self.take(2))
            case "SETITEMS":
                self.set_items(self.since_mark())
            case "GLOBAL":
                self.push(_checked_global(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                self.push(_checked_global(*self.take(2)))
            case "REDUCE" | "NEWOBJ":
                self.push(self.construct(*self.take(2)))
            case "NEWOBJ_EX":
                kind, arguments, keywords = self.take(3)
                self.push(self.construct(kind, (*arguments, keywords)))
            case "OBJ":
                kind, *arguments = self.since_mark()
                self.push(self.construct(kind, tuple(arguments)))
            case "INST":
                arguments = self.since_mark()
                self.push(self.construct(_checked_global(*argument.split(" ", 1)), tuple(arguments)))
            case "BUILD":
                self.set_state(*self.take(1))
            case "BINPERSID":
                self.push(self.load_persistent(*self.take(1)))
            case _:
                raise WeightsError(f"its pickle uses opcode {name}, which no checkpoint needs")

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def take(self, count: int) -> list[Any]:
        """The last `count` values, removed from the stack."""
        start = len(self.stack) - count
        if start < 0:
            raise IndexError("an operation on more values than there are")
        values = self.stack[start:]
        del self.stack[start:]
        return values

    def since_mark(self) -> list[Any]:
        values = self.stack
        self.stack = self.outer_stacks.pop()
        return values

    def append(self, values: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, InertObject):
            target.elements.extend(values)
        elif isinstance(target, list):
            target.extend(values)
        else:
            _refuse("append to", target)

    def set_items(self, values: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, InertObject):
            target.items.update(_checked_dict(values))
        elif isinstance(target, dict):
            target.update(_checked_dict(values))
        else:
            _refuse("set items of", target)

    def set_state(self, state: Any) -> None:
        target = self.stack[-1]
        if isinstance(target, InertObject):
            target.state = state
        elif not isinstance(target, dict):  # an OrderedDict's attributes (a state_dict's _metadata) are of no use here
            _refuse("set the state of", target)

    def construct(self, kind: Any, arguments: Any) -> Any:
        if not isinstance(kind, Global) or not isinstance(arguments, tuple):
            _refuse("call", kind)
        if kind in self.constructors:
            return self.constructors[kind](*arguments)
        self.inert.add(kind)
        return InertObject(kind, arguments)


_LITERALS = frozenset(
    {"INT", "LONG", "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "FLOAT", "BINFLOAT"}
    | {"STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}
    | {"BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"}
)
_DOTTED_NAME = re.compile(r"[\w.]{3,300}")
_SHORT_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def _checked_global(module: Any, name: Any) -> Global:
    if not isinstance(module, str) or not isinstance(name, str) or not _DOTTED_NAME.fullmatch(f"{module}.{name}"):
        raise ValueError("a name of a class that cannot be one")
    found = Global(PYTHON2_MODULES.get(module, module), name)
    standard = found.module.split(".")[0] in sys.stdlib_module_names
    if standard and found.name not in HARMLESS_STANDARD_NAMES.get(found.module, ()):
        raise WeightsError(
            f"its pickle refers to {found}, which may run code when loaded and has no place in a checkpoint. "
            "Refused, and nothing of it was run: get the file from a source you trust"
        )
    return found


def _checked_dict(values: list[Any]) -> dict[Any, Any]:
    """Of alternating keys and values. Only keys that checkpoints have: others can be made to take forever to hash."""
    keys = values[::2]
    for key in keys:
        if not (key is None or isinstance(key, str | Global) or (isinstance(key, int) and abs(key) < 1 << 31)):
            raise WeightsError(f"its pickle has a {type(key).__name__} as a key of a dict, which no checkpoint needs")
    return dict(zip(keys, values[1::2], strict=True))


def _refuse(action: str, target: Any) -> NoReturn:
    name = str(target) if isinstance(target, Global) else f"a {type(target).__name__}"
    raise WeightsError(f"its pickle wants to {action} {name}, which no checkpoint needs")
