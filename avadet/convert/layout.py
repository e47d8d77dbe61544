"""What a table file provides: how a source names its tensors, and how to tell that it is one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from avadet.convert.rules import Renamed, Table
from avadet.errors import UserError


@dataclass(frozen=True)
class Layout:
    """One way to name the tensors of one family of networks.

    Attributes:
        source: whose names they are.
        family: "resnet" or another that ``structure_families`` has a reader for.
        table: the rules.
        marks: patterns that must each match some tensor's whole name.
        not_marks: patterns that must match none.
        applies: a further test of the tensors themselves.
        task: "classification" or "detection" where the names tell, else None.
    """

    source: str
    family: str
    table: Table
    marks: tuple[str, ...]
    not_marks: tuple[str, ...] = ()
    applies: Callable[[Mapping[str, Tensor]], bool] | None = None
    task: str | None = None

    def read(self, state: Mapping[str, Tensor], path: Path) -> Renamed:
        """The file's tensors under our names, see ``Table.read``.

        Raises:
            UserError: a tensor's shape does not go with its name; names the file.
        """
        try:
            return self.table.read(state)
        except UserError as error:
            raise UserError(f"{path}: named as {self.source} does, but {error}") from error

    def recognises(self, state: Mapping[str, Tensor]) -> bool:
        """Whether a state dict is named this way."""
        return (
            all(_any_match(pattern, state) for pattern in self.marks)
            and not any(_any_match(pattern, state) for pattern in self.not_marks)
            and (self.applies is None or self.applies(state))
        )


def _any_match(pattern: str, names: Iterable[str]) -> bool:
    compiled = re.compile(pattern)
    return any(compiled.fullmatch(name) for name in names)
