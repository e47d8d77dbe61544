"""Who reads the structure of which family: a layout names its family, the family has a reader."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from avadet.convert import convnets
from avadet.convert.rules import Shape
from avadet.convert.structure import Structure, read_structure
from avadet.convert.structure_transformers import read_mvit, read_vit

Reader = Callable[[Mapping[str, Shape]], Structure]
READERS: dict[str, Reader] = {
    "resnet": read_structure,
    "mvit": read_mvit,
    "vit": read_vit,
    **convnets.READERS,
}


def read_family(family: str, shapes: Mapping[str, Shape]) -> Structure:
    """The structure of a network of ``family`` from its shapes under avadet's names.

    Raises:
        UserError: the shapes are of no such network.
    """
    return READERS[family](shapes)
