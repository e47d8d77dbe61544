"""A reader of pickle streams that builds data and calls nothing.

The standard unpickler is an interpreter with the rights of the process: any file may name any
function. This one knows the same opcodes, but a global is only ever a row of
``pickled_values.known_globals``; nothing is imported, no attribute is set on anything alive, and
the length of the stream, the depth of the result and the bytes it takes are bounded.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from typing import Any

import torch

from avadet.convert.pickled_values import (
    ArrayUnderWay,
    Budget,
    Inert,
    Known,
    Refused,
    Storage,
    check_key,
    is_inert,
    known_globals,
    set_array_state,
    set_dtype_state,
)

MAX_OPCODES = 5_000_000
# Bytes of memory for containers and records: an empty one takes a byte of the file only.
MAX_CONTAINERS = 256 << 20
MAX_DEPTH = 64
MAX_NODES = 5_000_000
_MARK = object()
_PUSH_ARGUMENT = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
    "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE",
    "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
}  # fmt: skip
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: dict[str, Callable[[], Any]] = {
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_SET": set,
    "EMPTY_TUPLE": tuple,
}
# Memory of what an instruction makes, where it is much more than of a list.
_SIZES = {"EMPTY_SET": 256, "REDUCE": 384}
_NOTHING_TO_DO = {"PROTO", "FRAME"}


class StackMachine:
    """Reads one pickle stream.

    Args:
        stream: file-like with ``read``, ``readline`` and ``tell``; must end at the end of the data.
        budget: bytes that the values may take.
        persistent: gives the storage for a persistent id; None refuses every persistent id.
    """

    def __init__(
        self, stream: Any, budget: Budget, persistent: Callable[[tuple[Any, ...]], Storage] | None
    ) -> None:
        self._stream = stream
        self._persistent = persistent
        self._budget = budget
        self._known = known_globals(budget)
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._containers = 0

    def run(self) -> Any:
        """The value of the stream: plain containers, numbers, text, tensors, arrays, ``Inert``.

        Raises:
            Refused: the stream names something that is not data, or is too large or too deep.
            ValueError, IndexError, KeyError, TypeError, struct.error: a damaged stream.
        """
        for count, (opcode, argument, _) in enumerate(pickletools.genops(self._stream)):
            if count > MAX_OPCODES:
                raise Refused(f"a pickle of more than {MAX_OPCODES} instructions")
            if opcode.name == "STOP":
                return Finisher().finish(self._stack.pop())
            self._step(opcode.name, argument)
        raise ValueError("the stream ends before its end mark")

    def _step(self, name: str, argument: Any) -> None:
        stack = self._stack
        if name in _PUSH_ARGUMENT:
            if isinstance(argument, int) and argument.bit_length() > 256:
                raise Refused("an integer of more than 256 bits")
            stack.append(argument)
        elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
            self._memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            self._memo[len(self._memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(self._memo[argument])
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            self._charge(_SIZES.get(name, 64))
            stack.append(_EMPTY[name]())
        elif name == "MARK":
            stack.append(_MARK)
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            size = int(name[-1])
            self._charge(64)
            stack[-size:] = [tuple(stack[-size:])]
        elif name == "TUPLE":
            self._charge(64)
            stack.append(tuple(self._pop_to_mark()))
        elif name == "LIST":
            self._charge(64)
            stack.append(self._pop_to_mark())
        elif name == "DICT":
            self._charge(64)
            values = self._pop_to_mark()
            stack.append({})
            self._set_items(values)
        elif name == "FROZENSET":
            members = self._pop_to_mark()
            for member in members:
                check_key(member)
            stack.append(frozenset(members))
        elif name == "SETITEM":
            value, key = stack.pop(), stack.pop()
            self._set_items([key, value])
        elif name == "SETITEMS":
            self._set_items(self._pop_to_mark())
        elif name in ("APPEND", "APPENDS", "ADDITEMS"):
            self._append([stack.pop()] if name == "APPEND" else self._pop_to_mark())
        elif name == "POP":
            stack.pop()
        elif name == "POP_MARK":
            self._pop_to_mark()
        elif name == "DUP":
            stack.append(stack[-1])
        elif name not in _NOTHING_TO_DO:
            self._object_step(name, argument)

    def _object_step(self, name: str, argument: Any) -> None:
        stack = self._stack
        if name == "GLOBAL":
            stack.append(self._global(*argument.split(" ", 1)))
        elif name == "STACK_GLOBAL":
            attribute, module = stack.pop(), stack.pop()
            stack.append(self._global(module, attribute))
        elif name in ("REDUCE", "NEWOBJ"):
            arguments, maker = stack.pop(), stack.pop()
            stack.append(self._make(maker, arguments, {}))
        elif name == "NEWOBJ_EX":
            keywords, arguments, maker = stack.pop(), stack.pop(), stack.pop()
            stack.append(self._make(maker, arguments, keywords))
        elif name == "INST":
            stack.append(
                self._make(self._global(*argument.split(" ", 1)), tuple(self._pop_to_mark()), {})
            )
        elif name == "OBJ":
            maker, *rest = self._pop_to_mark()
            stack.append(self._make(maker, tuple(rest), {}))
        elif name == "BUILD":
            self._build(stack.pop())
        elif name == "BINPERSID":
            identifier = stack.pop()
            if self._persistent is None:
                raise Refused("a reference to data outside the file (persistent id)")
            if not isinstance(identifier, tuple):
                raise Refused("a persistent id that names no storage")
            stack.append(self._persistent(identifier))
        else:
            raise Refused(f"pickle instruction {name}")

    def _charge(self, size: int) -> None:
        self._containers += size
        if self._containers > MAX_CONTAINERS:
            raise Refused("more containers than any checkpoint has")

    def _global(self, module: Any, attribute: Any) -> Known | Inert:
        if not isinstance(module, str) or not isinstance(attribute, str):
            raise Refused("a global whose name is not text")
        name = f"{module}.{attribute}"
        if name in self._known:
            return self._known[name]
        if is_inert(name):
            return Inert(name, is_class=True)
        raise Refused(f"the Python object {name[:120]}")

    def _make(self, maker: Any, arguments: Any, keywords: Any) -> Any:
        if not isinstance(arguments, tuple) or not isinstance(keywords, dict):
            raise Refused("a call without a list of arguments")
        self._charge(_SIZES["REDUCE"])
        if isinstance(maker, Inert) and maker.is_class:
            return Inert(maker.name, arguments=arguments, state=dict(keywords))
        if not isinstance(maker, Known) or maker.make is None or keywords:
            raise Refused(f"a call of {getattr(maker, 'name', type(maker).__name__)}")
        return maker.make(*arguments)

    def _build(self, state: Any) -> None:
        target = self._stack[-1]
        if isinstance(target, ArrayUnderWay):
            if target.kind == "dtype":
                set_dtype_state(target, state)
            else:
                set_array_state(target, state, self._budget)
        elif isinstance(target, Inert) and not target.is_class:
            if isinstance(state, dict):
                target.state.update(state)
            else:
                target.state["state"] = state
        elif not isinstance(target, dict | torch.Tensor) or not isinstance(state, dict | tuple):
            raise Refused(f"attributes set on {type(target).__name__}")
        # The attributes of a state dict ("_metadata") and of a tensor say nothing about weights.

    def _set_items(self, values: list[Any]) -> None:
        target = self._stack[-1]
        if len(values) % 2:
            raise ValueError("a key without a value")
        pairs = list(zip(values[::2], values[1::2], strict=True))
        if isinstance(target, Inert) and not target.is_class:
            target.items.extend(pairs)
        elif type(target) is dict:
            for key, value in pairs:
                check_key(key)
                target[key] = value
        else:
            raise Refused(f"items set on {type(target).__name__}")

    def _append(self, values: list[Any]) -> None:
        target = self._stack[-1]
        if isinstance(target, Inert) and not target.is_class:
            target.items.extend(values)
        elif type(target) is list:
            target.extend(values)
        elif type(target) is set:
            for member in values:
                check_key(member)
            target.update(values)
        else:
            raise Refused(f"values appended to {type(target).__name__}")

    def _pop_to_mark(self) -> list[Any]:
        stack = self._stack
        for index in range(len(stack) - 1, -1, -1):
            if stack[index] is _MARK:
                values = stack[index + 1 :]
                del stack[index:]
                return values
        raise IndexError("a mark is missing")


class Finisher:
    """Replaces the shells of arrays by their arrays and bounds the depth and size of the result.

    A short stream can describe a huge or endless tree by naming the same list many times; sizes
    are therefore counted as a reader would meet them.
    """

    def __init__(self) -> None:
        # Per container: final value, values below it, levels below it.
        self._done: dict[int, tuple[Any, int, int]] = {}
        self._open: set[int] = set()

    def finish(self, value: Any) -> Any:
        """The value with every part final.

        Raises:
            Refused: too deep, too many parts, or a part that holds itself.
        """
        return self._visit(value, 0)[0]

    def _visit(self, value: Any, depth: int) -> tuple[Any, int, int]:
        if isinstance(value, ArrayUnderWay):
            return self._array(value), 1, 0
        if isinstance(value, Known):
            return value.value if value.value is not None else value.name, 1, 0
        if not isinstance(value, list | tuple | dict | set | frozenset | Inert):
            return value, 1, 0
        done = self._done.get(id(value))
        if done is None:
            if depth >= MAX_DEPTH or id(value) in self._open:
                raise Refused(f"containers nested more than {MAX_DEPTH} deep")
            self._open.add(id(value))
            done = self._done[id(value)] = self._container(value, depth + 1)
            self._open.discard(id(value))
        if done[1] > MAX_NODES:
            raise Refused(f"more than {MAX_NODES} values")
        if depth + done[2] > MAX_DEPTH:
            raise Refused(f"containers nested more than {MAX_DEPTH} deep")
        return done

    def _array(self, shell: ArrayUnderWay) -> Any:
        if shell.value is None:
            raise Refused("a numpy array without its data")
        return shell.value if shell.kind == "array" else str(shell.value)

    def _container(self, value: Any, depth: int) -> tuple[Any, int, int]:
        if isinstance(value, Inert):
            parts: list[Any] = [value.arguments, value.state, value.items]
        else:
            parts = list(value.values()) if isinstance(value, dict) else list(value)
        visited = [self._visit(part, depth) for part in parts]
        finals = [final for final, _, _ in visited]
        size = 1 + sum(part for _, part, _ in visited)
        height = 1 + max((part for _, _, part in visited), default=0)
        if isinstance(value, Inert):
            value.arguments, value.state, value.items = finals
            return value, size, height
        if isinstance(value, dict):
            return dict(zip(value, finals, strict=True)), size, height
        return type(value)(finals), size, height
