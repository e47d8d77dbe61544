"""The engine of rename rules: tables that read both ways, and strictness.

A rule is a pair of templates, theirs and ours, that share fields::

    Rule("layer{n}.{b}.conv1.conv.weight", "backbone.res{n+1}.blocks.{b}.a.conv.weight")

``{n}`` is a whole number, ``{n+1}`` the same one shifted; a field with ``choices`` translates
words. The first rule that matches a whole name decides, in either direction.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from avadet.errors import UserError

_FIELD = re.compile(r"\{(\w+)([+-]\d+)?\}")
_LISTED = 12

NORM = {
    name: name for name in ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
}
AFFINE = {"weight": "weight", "bias": "bias"}
Shape = tuple[int, ...]


class NamedShape(tuple[int, ...]):
    """A shape that names its tensor to whoever asks for an axis that it does not have."""

    tensor: str

    def __new__(cls, sizes: Iterable[int], tensor: str) -> NamedShape:
        shape = super().__new__(cls, sizes)
        shape.tensor = tensor
        return shape

    def __getitem__(self, axis: Any) -> Any:
        try:
            return super().__getitem__(axis)
        except IndexError:
            raise misshapen(self.tensor, self) from None


def misshapen(tensor: str, shape: Sequence[int]) -> UserError:
    """The error of a tensor whose shape no network has under that name."""
    return UserError(f"{tensor} has the shape {list(shape)}, which no tensor of that name has")


@dataclass(frozen=True)
class Adapter:
    """A change of values on the way: ``read`` from theirs, ``write`` back to theirs."""

    name: str
    read: Callable[[Tensor], Tensor]
    write: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Rule:
    """One line of a table.

    Attributes:
        theirs, ours: templates.
        choices: words of a field, theirs -> ours.
        adapter: changes the values.
    """

    theirs: str
    ours: str
    choices: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    adapter: Adapter | None = None

    def read(self, name: str) -> str | None:
        """Our name of their tensor, or None when the rule is about others."""
        return _translate(name, self._their_pattern, self.theirs, self.ours, self.choices)

    def write(self, name: str) -> str | None:
        """Their name of our tensor, or None."""
        back = {
            key: {ours: theirs for theirs, ours in words.items()}
            for key, words in self.choices.items()
        }
        return _translate(name, self._our_pattern, self.ours, self.theirs, back)

    @cached_property
    def _their_pattern(self) -> re.Pattern[str]:
        return _pattern(self.theirs, {key: list(words) for key, words in self.choices.items()})

    @cached_property
    def _our_pattern(self) -> re.Pattern[str]:
        words = {key: list(words.values()) for key, words in self.choices.items()}
        return _pattern(self.ours, words)


def _pattern(template: str, words: Mapping[str, Sequence[str]]) -> re.Pattern[str]:
    parts, end, seen = [], 0, set()
    for match in _FIELD.finditer(template):
        key = match[1]
        parts.append(re.escape(template[end : match.start()]))
        if key in seen:
            parts.append(f"(?P={key})")
        elif key in words:
            parts.append(f"(?P<{key}>{'|'.join(map(re.escape, words[key]))})")
        else:
            parts.append(f"(?P<{key}>[0-9]{{1,5}})")
        seen.add(key)
        end = match.end()
    return re.compile("".join(parts) + re.escape(template[end:]))


def _shifts(template: str) -> dict[str, int]:
    return {match[1]: int(match[2] or 0) for match in _FIELD.finditer(template)}


def _translate(
    name: str,
    pattern: re.Pattern[str],
    source: str,
    target: str,
    words: Mapping[str, Mapping[str, str]],
) -> str | None:
    match = pattern.fullmatch(name)
    if match is None:
        return None
    if any(slot[1] not in pattern.groupindex for slot in _FIELD.finditer(target)):
        return None  # the other name holds a number that this one does not: it reads one way only
    shifts = _shifts(source)

    def fill(slot: re.Match[str]) -> str:
        value = match[slot[1]]
        if slot[1] in words:
            return words[slot[1]][value]
        return str(int(value) - shifts[slot[1]] + int(slot[2] or 0))

    return _FIELD.sub(fill, target)


@dataclass(frozen=True)
class Table:
    """All rules of one layout of names.

    Attributes:
        rules: in order; the first that matches decides.
        ignored: patterns of their tensors that carry nothing of the network.
    """

    rules: tuple[Rule, ...]
    ignored: tuple[str, ...] = ()

    def read(self, state: Mapping[str, Tensor]) -> Renamed:
        """Our names for their tensors, values adapted; fit is not judged yet.

        Raises:
            UserError: a tensor's axes are too few for a change of its values.
        """
        renamed = Renamed()
        skip = [re.compile(pattern) for pattern in self.ignored]
        for name, tensor in state.items():
            if any(pattern.fullmatch(name) for pattern in skip):
                renamed.ignored.append(name)
                continue
            for rule in self.rules:
                ours = rule.read(name)
                if ours is None:
                    continue
                if ours in renamed.origin:
                    renamed.twice.append(f"{name} and {renamed.origin[ours]} both give {ours}")
                renamed.origin[ours] = name
                try:
                    renamed.tensors[ours] = rule.adapter.read(tensor) if rule.adapter else tensor
                except (IndexError, RuntimeError, ValueError) as error:
                    raise misshapen(name, tensor.shape) from error
                break
            else:
                renamed.unclaimed.append(name)
        return renamed

    def write(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Their state dict from ours.

        Raises:
            UserError: tensors that this layout has no name for; lists all.
        """
        written: dict[str, Tensor] = {}
        missing = []
        for name, tensor in state.items():
            for rule in self.rules:
                theirs = rule.write(name)
                if theirs is not None:
                    written[theirs] = rule.adapter.write(tensor) if rule.adapter else tensor
                    break
            else:
                missing.append(name)
        if missing:
            raise UserError(
                "this layout has no name for some tensors of the network:\n" + listing(missing)
            )
        return written


@dataclass
class Renamed:
    """Their tensors under our names, and what is odd about them."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    origin: dict[str, str] = field(default_factory=dict)
    unclaimed: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)

    @property
    def shapes(self) -> dict[str, Shape]:
        """Shapes by our names."""
        return {n: NamedShape(t.shape, self.origin[n]) for n, t in self.tensors.items()}


def fit(renamed: Renamed, expected: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """The network's state dict from renamed tensors, and every reason why it does not fit.

    Counters of batch norms (``num_batches_tracked``) may be absent: Caffe2 and old torch have
    none, and in evaluation they play no part. Shapes may differ by trailing ones, as Caffe2
    stores a 1x1x1 convolution as a matrix.

    Args:
        renamed: from ``Table.read``.
        expected: the network's own state dict, on any device.
    """
    state: dict[str, Tensor] = {}
    problems = []
    if renamed.unclaimed:
        problems.append(
            f"{len(renamed.unclaimed)} tensors of the file have no place in the network:\n"
            + listing(renamed.unclaimed)
        )
    problems += renamed.twice
    surplus = [renamed.origin[name] for name in renamed.tensors if name not in expected]
    if surplus:
        problems.append(
            f"{len(surplus)} tensors of the file are of layers that the network does not have:\n"
            + listing(surplus)
        )
    empty, wrong = [], []
    for name, parameter in expected.items():
        tensor = renamed.tensors.get(name)
        if tensor is None:
            if name.endswith("num_batches_tracked"):
                state[name] = torch.zeros((), dtype=torch.int64)
            else:
                empty.append(name)
        elif _core(tensor.shape) != _core(parameter.shape):
            wrong.append(
                f"{renamed.origin[name]} {list(tensor.shape)} where {name} is "
                f"{list(parameter.shape)}"
            )
        else:
            state[name] = tensor.reshape(parameter.shape).to(parameter.dtype)
    if empty:
        problems.append(
            f"{len(empty)} tensors of the network are not in the file:\n" + listing(empty)
        )
    if wrong:
        problems.append(f"{len(wrong)} tensors have another shape:\n" + listing(wrong))
    return state, problems


def _core(shape: Sequence[int]) -> Shape:
    sizes = list(shape)
    while sizes and sizes[-1] == 1:
        sizes.pop()
    return tuple(sizes)


def listing(names: Iterable[str]) -> str:
    """Names, one to a line, families of many written once with their numbers in braces."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(re.sub(r"\d+", "#", name), []).append(name)
    lines = []
    for members in groups.values():
        if len(members) <= _LISTED:
            lines += members
        else:
            lines.append(f"{_braces(members)} ({len(members)} tensors)")
    return "\n".join(f"  {line}" for line in lines)


def _braces(names: Sequence[str]) -> str:
    columns = list(zip(*(re.split(r"(\d+)", name) for name in names), strict=True))
    shown = []
    for column in columns:
        values = sorted(set(column), key=lambda text: (len(text), text))
        shown.append(values[0] if len(values) == 1 else "{" + ",".join(values) + "}")
    return "".join(shown)
