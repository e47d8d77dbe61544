"""The tables of the 3D-convolution family beyond SlowFast and CSN, gathered."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from avadet.convert import c3d, inception, r2plus1d, torchvision_video, x3d
from avadet.convert.architectures import Architecture
from avadet.convert.layout import Layout
from avadet.convert.rules import Shape
from avadet.convert.structure import Structure

LAYOUTS: tuple[Layout, ...] = (
    *x3d.LAYOUTS,
    *r2plus1d.LAYOUTS,
    *c3d.LAYOUTS,
    *inception.LAYOUTS,
    *torchvision_video.LAYOUTS,
)
READERS: dict[str, Callable[[Mapping[str, Shape]], Structure]] = {
    "x3d": x3d.read_x3d,
    "c3d": c3d.read_c3d,
    "inception": inception.read_inception,
    "torchvision_video": torchvision_video.read_torchvision_video,
    **{f"r2plus1d_{source}": r2plus1d.reader(source) for source in r2plus1d.ARGS},
}


def rows() -> Iterator[Architecture]:
    """Their published networks."""
    yield from x3d.rows()
    yield from r2plus1d.rows()
    yield from c3d.rows()
    yield from inception.rows()
    yield from torchvision_video.rows()
