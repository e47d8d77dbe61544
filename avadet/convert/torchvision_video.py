"""torchvision's video networks: their names stay as they are under ``backbone.network.``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from avadet.convert.architectures import IMAGENET, KINETICS, Architecture, row
from avadet.convert.layout import Layout
from avadet.convert.rules import AFFINE, Rule, Shape, Table
from avadet.convert.structure import Structure
from avadet.errors import UserError

_INSIDE = "backbone.network."
# Classifier of each sort of network.
_LAST = {"resnet": "fc", "s3d": "classifier.1", "swin": "head"}


@dataclass(frozen=True)
class Inside(Rule):
    """Puts a prefix in front of every name that no rule before it took."""

    def read(self, name: str) -> str | None:
        return self.ours + name

    def write(self, name: str) -> str | None:
        return name[len(self.ours) :] if name.startswith(self.ours) else None


def _table(sort: str) -> Table:
    last = Rule(f"{_LAST[sort]}.{{n}}", "head.projection.{n}", {"n": AFFINE})
    return Table((last, Inside("", _INSIDE)))


def _is_torchvision_resnet(state: Mapping[str, Tensor]) -> bool:
    """Tells torchvision's R(2+1)D-18 from VMZ's, whose middle layers are wider."""
    wide = state.get("layer2.0.conv2.0.0.weight")
    return wide is None or wide.shape[:1] == (230,)


LAYOUTS = (
    Layout(
        "torchvision",
        "torchvision_video",
        _table("resnet"),
        (r"stem\.0\.weight", r"layer1\.0\.conv1\.0(\.0)?\.weight", r"fc\.weight"),
        (r"layer1\.0\.conv3\.0\.weight",),
        task="classification",
        applies=_is_torchvision_resnet,
    ),
    Layout(
        "torchvision",
        "torchvision_video",
        _table("s3d"),
        (r"features\.0\.0\.0\.weight", r"classifier\.1\.weight"),
        task="classification",
    ),
    Layout(
        "torchvision",
        "torchvision_video",
        _table("swin"),
        (r"patch_embed\.proj\.weight", r"features\.0\.0\.attn\.qkv\.weight", r"head\.weight"),
        task="classification",
        applies=lambda state: state["patch_embed.proj.weight"].ndim == 5,
    ),
)


def read_torchvision_video(shapes: Mapping[str, Shape]) -> Structure:
    """Which network, from a few names and widths.

    Raises:
        UserError: none that torchvision has.
    """
    has: Callable[[str], bool] = lambda name: _INSIDE + name in shapes  # noqa: E731
    of: Callable[[str], Shape] = lambda name: shapes.get(_INSIDE + name, ())  # noqa: E731
    name = None
    if has("features.15.branch0.0.weight"):
        name = "s3d"
    elif has("patch_embed.proj.weight"):
        if of("patch_embed.proj.weight")[0] == 128:
            name = "swin3d_b"
        else:
            name = "swin3d_s" if has("features.4.17.norm1.weight") else "swin3d_t"
    elif has("stem.3.weight"):
        name = "r2plus1d_18"
    elif of("layer2.0.conv1.0.weight")[2:3] == (3,):
        name = "r3d_18"
    elif of("layer1.0.conv1.0.weight")[2:3] == (3,):
        name = "mc3_18"
    if name is None or "head.projection.weight" not in shapes:
        raise UserError("this is none of torchvision's video networks that avadet has")
    return Structure(
        backbone=f"torchvision_{name}",
        num_classes=shapes["head.projection.weight"][0],
        whole=True,
    )


def rows() -> Iterator[Architecture]:
    """The published Kinetics networks; clips and sides of torchvision's presets."""
    for network, frames, stride, side, norm, head in (
        ("r3d_18", 16, 2, 128, KINETICS, {}),
        ("mc3_18", 16, 2, 128, KINETICS, {}),
        ("r2plus1d_18", 16, 2, 128, KINETICS, {}),
        ("s3d", 128, 2, 256, KINETICS, {"sliding": [2, 7, 7], "dropout": 0.2}),
        ("swin3d_t", 32, 2, 256, IMAGENET, {"dropout": 0.0}),
        ("swin3d_s", 32, 2, 256, IMAGENET, {"dropout": 0.0}),
        ("swin3d_b", 32, 2, 256, IMAGENET, {"dropout": 0.0}),
    ):
        yield row(
            f"{network}_{frames}x{stride}_k400_torchvision",
            f"torchvision_{network}",
            "k400",
            frames,
            stride,
            ("torchvision",),
            {"norm": norm, "side": side, "head": head},
            network,
        )
