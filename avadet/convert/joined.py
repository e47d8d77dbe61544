"""Tables for sources that keep in several tensors what is one of ours.

Attention has one matrix for queries, keys and values here; some sources have three, or biases of
queries and values only. Joining happens before the rules read, splitting after they wrote.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from avadet.convert.rules import Renamed, Table
from avadet.errors import UserError


@dataclass(frozen=True)
class JoinedTable(Table):
    """A table whose source splits some tensors along their first axis.

    Attributes:
        parts: the names of the parts, as last words of a tensor's name, in order; None is a part
            of zeros that the source does not have (and which is dropped on writing).
        whole: the last words of the joined tensor's name, as the rules know it.
    """

    parts: tuple[tuple[str | None, ...], ...] = ()
    whole: tuple[str, ...] = ()

    def read(self, state: Mapping[str, Tensor]) -> Renamed:
        """As ``Table.read``, parts joined; an incomplete set is left to be complained of.

        Raises:
            UserError: the parts have shapes that do not join.
        """
        joined = dict(state)
        for parts, whole in zip(self.parts, self.whole, strict=True):
            first = next(part for part in parts if part is not None)
            for name in [name for name in joined if name.endswith(first)]:
                stem = name[: -len(first)]
                named = [None if part is None else joined.get(stem + part) for part in parts]
                if any(t is None for t, part in zip(named, parts, strict=True) if part is not None):
                    continue
                like = joined[name]
                tensors = [torch.zeros_like(like) if t is None else t for t in named]
                for part in parts:
                    joined.pop(stem + part, None) if part is not None else None
                try:
                    joined[stem + whole] = torch.cat(tensors)
                except RuntimeError as error:
                    shown = ", ".join(
                        f"{stem}{part} {list(tensor.shape)}"
                        for part, tensor in zip(parts, tensors, strict=True)
                        if part is not None
                    )
                    raise UserError(f"these tensors do not join to one: {shown}") from error
        return super().read(joined)

    def write(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """As ``Table.write``, then split."""
        written = super().write(state)
        for parts, whole in zip(self.parts, self.whole, strict=True):
            pattern = re.compile(rf"(.*){re.escape(whole)}")
            for name in list(written):
                match = pattern.fullmatch(name)
                if match is None:
                    continue
                pieces = written.pop(name).chunk(len(parts))
                for part, piece in zip(parts, pieces, strict=True):
                    if part is not None:
                        written[match[1] + part] = piece.clone()
        return written
