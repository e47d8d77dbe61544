"""What a pickle may name in a checkpoint, and what becomes of it: data, never a call.

Every global of a pickle stream is looked up here. Tensors, numpy arrays and plain containers are
rebuilt from their fields with every size checked; a few well-known bookkeeping classes become
``Inert`` records that hold their fields and do nothing; everything else is refused by name.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from avadet.errors import UserError

STORAGE_DTYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "UntypedStorage": torch.uint8,
}
_TORCH_DTYPES = (
    *("float32", "float64", "float16", "bfloat16"),
    *("int64", "int32", "int16", "int8", "uint8", "bool"),
)
_MAX_AXES = 16
_MAX_NAME = 300
# What an object costs beside its data, in bytes, roughly.
_TENSOR, _ARRAY = 256, 64
# Numbers and text; anything else could make numpy parse a language.
_PLAIN_TYPE = re.compile(r"[<>|=]?[biufSU]\d{0,9}|bool|u?int\d+|float\d+|\?")
# Records of training frameworks that travel beside weights. They are read as fields only.
INERT_MODULES = ("mmengine.", "mmcv.", "mmaction.", "yacs.config", "fvcore.common.config")
INERT_GLOBALS = {
    "argparse.Namespace",
    "datetime.datetime",
    "datetime.timedelta",
    "pathlib.PosixPath",
    "pathlib.WindowsPath",
    "pathlib.PurePosixPath",
    "pathlib._local.PosixPath",
}


class Refused(UserError):
    """The stream asks for something that is not data."""


@dataclass(eq=False)
class Inert:
    """An object of a class that is not run: its name and the fields the pickle gave it.

    Attributes:
        name: module and class, as the pickle says.
        is_class: True for the class itself, False for an object of it.
        arguments: constructor arguments.
        state: attributes.
        items: entries set or appended (of dict- and list-like classes).
    """

    name: str
    is_class: bool = False
    arguments: tuple[Any, ...] = ()
    state: dict[str, Any] = field(default_factory=dict)
    items: list[Any] = field(default_factory=list)


@dataclass(frozen=True)
class Known:
    """A global that this module understands; ``make`` builds its value from arguments."""

    name: str
    make: Callable[..., Any] | None = None
    value: Any = None


@dataclass(eq=False)
class ArrayUnderWay:
    """A numpy array or dtype between its two opcodes: first the shell, then the state."""

    kind: str  # "array" or "dtype"
    value: Any = None


@dataclass(eq=False)
class Storage:
    """Raw elements that tensors share, (numel,) of ``dtype``."""

    data: torch.Tensor


class Budget:
    """Bytes that values may take together, so that a small file cannot fill the memory."""

    def __init__(self, limit: int) -> None:
        self.left = limit

    def charge(self, size: int) -> None:
        """Takes ``size`` bytes.

        Raises:
            Refused: more is asked than a file of this length can honestly hold.
        """
        self.left -= size
        if self.left < 0:
            raise Refused("far more data than the file holds")


def _whole_numbers(values: Any, what: str) -> tuple[int, ...]:
    if (
        not isinstance(values, tuple | list)
        or len(values) > _MAX_AXES
        or not all(
            isinstance(v, int) and not isinstance(v, bool) and 0 <= v < 2**40 for v in values
        )
    ):
        raise Refused(f"a tensor with {what} {shown(values)}")
    return tuple(values)


def shown(value: Any) -> str:
    """A value in an error message. Containers may be bombs: only their kind is named."""
    if isinstance(value, str | int | float | bytes | None):
        return str(value)[:60]
    return f"of kind {type(value).__name__}"


def check_key(key: Any) -> None:
    """Keys of dictionaries and members of sets: text and small numbers.

    Hashing a nested tuple can overflow the interpreter's stack, and large integers can be chosen
    so that all hashes are equal and every insertion visits all others.

    Raises:
        Refused: any other value.
    """
    if not isinstance(key, str | int | float | bool | bytes | None):
        raise Refused(f"a dictionary key or set member of type {type(key).__name__}")
    if isinstance(key, int) and key.bit_length() > 60:
        raise Refused("a dictionary key or set member of more than 60 bits")


def rebuild_tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> torch.Tensor:
    """A view of a storage, with its bounds checked (``torch._utils._rebuild_tensor_v2``)."""
    if not isinstance(storage, Storage):
        raise Refused("a tensor whose storage is not a storage")
    size, stride = _whole_numbers(size, "size"), _whole_numbers(stride, "stride")
    (offset,) = _whole_numbers((offset,), "offset")
    if len(size) != len(stride):
        raise Refused(f"a tensor of size {size} with stride {stride}")
    available = storage.data.numel()
    empty = 0 in size
    last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
    if not empty and (last >= available or math.prod(size) > available):
        raise Refused(f"a tensor of size {size} in a storage of {available} elements")
    if empty:
        return torch.empty(size, dtype=storage.data.dtype)
    return torch.as_strided(storage.data, size, stride, offset)


def _rebuild_tensor_v3(
    storage: Any, offset: Any, size: Any, stride: Any, grad: Any, hooks: Any, dtype: Any, *_: Any
) -> torch.Tensor:
    if not isinstance(storage, Storage) or not isinstance(dtype, torch.dtype):
        raise Refused("a tensor whose storage or type is not one")
    if storage.data.numel() % dtype.itemsize:
        raise Refused(f"a {dtype} tensor in a storage of {storage.data.numel()} bytes")
    return rebuild_tensor(Storage(storage.data.view(dtype)), offset, size, stride)


def _rebuild_parameter(data: Any, *_: Any) -> torch.Tensor:
    if not isinstance(data, torch.Tensor):
        raise Refused("a parameter whose data is not a tensor")
    return data


def _dtype(spec: Any, *_: Any) -> ArrayUnderWay:
    if not isinstance(spec, str):
        raise Refused("a numpy type that is not named by a string")
    if not _PLAIN_TYPE.fullmatch(spec):
        raise Refused(f"numpy type '{spec[:40]}' (only numbers and strings are read)")
    try:
        dtype = np.dtype(spec)
    except TypeError as error:
        raise Refused(f"numpy type '{spec[:40]}'") from error
    if dtype.kind not in "biufSU" or dtype.fields is not None:
        raise Refused(f"numpy type '{spec[:40]}' (only numbers and strings are read)")
    return ArrayUnderWay("dtype", dtype)


def set_dtype_state(shell: ArrayUnderWay, state: Any) -> None:
    """Sets a dtype's byte order from ``(version, order, None, None, None, size, ...)``."""
    if (
        not isinstance(state, tuple)
        or len(state) < 5
        or any(part is not None for part in state[2:5])
    ):
        raise Refused("a structured numpy type")
    if state[1] not in ("<", ">", "|", "="):
        raise Refused("a numpy type with an unknown byte order")
    if state[1] in "<>":
        shell.value = shell.value.newbyteorder(state[1])


def array_from_bytes(
    raw: Any, dtype: Any, shape: Any, fortran: bool, budget: Budget
) -> np.ndarray[Any, Any]:
    """An array from its bytes, with the length checked against shape and type."""
    if not isinstance(dtype, ArrayUnderWay) or dtype.kind != "dtype":
        raise Refused("a numpy array without a type")
    if isinstance(raw, str):
        # Python 2 wrote bytes as text; latin-1 gives each byte back.
        raw = raw.encode("latin-1")
    if not isinstance(raw, bytes | bytearray):
        raise Refused("a numpy array of Python objects")
    shape = _whole_numbers(shape, "shape")
    if math.prod(shape) * dtype.value.itemsize != len(raw):
        raise Refused(f"a numpy array of shape {shape} and {dtype.value} with {len(raw)} bytes")
    budget.charge(len(raw) + _ARRAY)
    if not raw:
        return np.empty(shape, dtype.value)
    array = np.frombuffer(raw, dtype.value)
    return array.reshape(shape, order="F" if fortran else "C").copy()


def set_array_state(shell: ArrayUnderWay, state: Any, budget: Budget) -> None:
    """Fills an array: ``(version, shape, dtype, fortran order, bytes)``."""
    if not isinstance(state, tuple) or len(state) != 5 or shell.value is not None:
        raise Refused("a numpy array with a strange state")
    _, shape, dtype, fortran, raw = state
    shell.value = array_from_bytes(raw, dtype, shape, bool(fortran), budget)


def _reconstruct(cls: Any, *_: Any) -> ArrayUnderWay:
    if not isinstance(cls, Known) or cls.name != "numpy.ndarray":
        raise Refused("a subclass of numpy's array")
    return ArrayUnderWay("array")


def _plain_dict(*arguments: Any) -> dict[Any, Any]:
    if not arguments:
        return {}
    if isinstance(arguments[-1], Known):  # defaultdict(factory)
        return {}
    if isinstance(arguments[-1], dict):
        return dict(arguments[-1])
    pairs = [tuple(pair) for pair in arguments[-1]]
    for key, _ in pairs:
        check_key(key)
    return dict(pairs)


def _getattr(owner: Any, name: Any) -> Inert:
    # mmengine's log buffers name their own methods; as words, never looked up.
    named = isinstance(owner, Inert) and owner.is_class and isinstance(name, str)
    if named and len(owner.name) + len(name) < _MAX_NAME:
        return Inert(f"{owner.name}.{name}", is_class=True)
    raise Refused("builtins.getattr")


def _reconstructor(cls: Any, _base: Any, _state: Any) -> Inert:
    if isinstance(cls, Inert) and cls.is_class:
        return Inert(cls.name)
    raise Refused("copyreg._reconstructor of a class that is not data")


def _limited(kind: Callable[[Any], Any]) -> Callable[..., Any]:
    def make(*arguments: Any) -> Any:
        if len(arguments) > 1 or not all(
            isinstance(a, list | tuple | set | frozenset) for a in arguments
        ):
            raise Refused(f"{kind.__name__} of something that is not a list")
        if kind in (set, frozenset):
            for members in arguments:
                for member in members:
                    check_key(member)
        return kind(*arguments)

    return make


def _device(*words: Any) -> str:
    if len(words) > 2 or not all(isinstance(word, str | int) for word in words):
        raise Refused("a device without a name")
    return ":".join(shown(word) for word in words)


def known_globals(budget: Budget) -> dict[str, Known]:
    """Every name a stream may use, with what it becomes."""

    makers: set[Callable[..., torch.Tensor]] = {_rebuild_parameter}

    def encode(text: Any, encoding: Any = "latin1") -> bytes:
        if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
            raise Refused(f"_codecs.encode with {shown(encoding)}")
        budget.charge(len(text))
        return text.encode("latin-1")

    def charged(make: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        def tensor(*arguments: Any) -> torch.Tensor:
            budget.charge(_TENSOR)
            return make(*arguments)

        makers.add(tensor)
        return tensor

    def from_type(function: Any, _type: Any, arguments: Any, _state: Any) -> torch.Tensor:
        if not isinstance(function, Known) or function.make not in makers:
            raise Refused("a tensor built by something that builds no tensors")
        return function.make(*arguments)

    def scalar(dtype: Any, raw: Any) -> Any:
        return array_from_bytes(raw, dtype, (), False, budget).item()

    def from_buffer(raw: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray[Any, Any]:
        return array_from_bytes(raw, dtype, shape, order == "F", budget)

    table: dict[str, Callable[..., Any] | None] = {
        "collections.OrderedDict": _plain_dict,
        "collections.defaultdict": _plain_dict,
        "collections.Counter": _plain_dict,
        "torch._utils._rebuild_tensor": charged(rebuild_tensor),
        "torch._utils._rebuild_tensor_v2": charged(rebuild_tensor),
        "torch._utils._rebuild_tensor_v3": charged(_rebuild_tensor_v3),
        "torch._utils._rebuild_parameter": _rebuild_parameter,
        "torch._utils._rebuild_parameter_with_state": _rebuild_parameter,
        "torch._tensor._rebuild_from_type_v2": from_type,
        "torch.nn.parameter.Parameter": _rebuild_parameter,
        "torch.Tensor": None,
        "torch.Size": _limited(tuple),
        "torch.device": _device,
        "_codecs.encode": encode,
        "numpy.ndarray": None,
        "numpy.dtype": _dtype,
        "copy_reg._reconstructor": _reconstructor,
        "copyreg._reconstructor": _reconstructor,
    }
    for core in ("numpy.core", "numpy._core"):
        table[f"{core}.multiarray._reconstruct"] = _reconstruct
        table[f"{core}.multiarray.scalar"] = scalar
        table[f"{core}.numeric._frombuffer"] = from_buffer
    for builtins in ("builtins", "__builtin__"):
        table[f"{builtins}.set"] = _limited(set)
        table[f"{builtins}.frozenset"] = _limited(frozenset)
        table[f"{builtins}.list"] = _limited(list)
        table[f"{builtins}.tuple"] = _limited(tuple)
        table[f"{builtins}.dict"] = _plain_dict
        table[f"{builtins}.getattr"] = _getattr
        for word in ("object", "int", "float", "bool", "str", "bytes", "long", "unicode"):
            table[f"{builtins}.{word}"] = None
    known = {name: Known(name, make) for name, make in table.items()}
    for name, dtype in STORAGE_DTYPES.items():
        for module in ("torch", "torch.cuda", "torch.storage"):
            known[f"{module}.{name}"] = Known(f"{module}.{name}", value=dtype)
    for name in _TORCH_DTYPES:
        known[f"torch.{name}"] = Known(f"torch.{name}", value=getattr(torch, name))
    return known


def is_inert(name: str) -> bool:
    """Whether a global is a bookkeeping class that is read as fields and never run."""
    return name in INERT_GLOBALS or name.startswith(INERT_MODULES)
