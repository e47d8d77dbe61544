"""I3D's names in the PyTorch port of DeepMind's weights, S3D's in the one of Min, and structure.

``rgb_imagenet.pt`` and ``flow_imagenet.pt`` (pytorch-i3d, read at 05783d1) hold an Inception-v1
whose layers are called as in TensorFlow and pad as there; flow has two input channels, in [-1,1]
for displacements of up to 20 pixels. S3D's file (kylemin/S3D) numbers its layers ``base.{i}``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from avadet.convert.architectures import Architecture, row
from avadet.convert.layout import Layout
from avadet.convert.rules import AFFINE, NORM, Rule, Shape, Table
from avadet.convert.structure import Structure
from avadet.errors import UserError
from avadet.models.preprocess import FLOW_MEAN, FLOW_STD

# Pixels from -1 to 1.
_CENTRED = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
_NORM = {"n": NORM}
_BLOCKS = {"m": {name: name for name in ("3b", "3c", "4b", "4c", "4d", "4e", "4f", "5b", "5c")}}
_FIRST = {"l": {"1a_7x7": "conv1", "2b_1x1": "conv2", "2c_3x3": "conv3"}}
_BRANCH = {
    "b": {
        "b0": "branch1",
        "b1a": "branch2.0",
        "b1b": "branch2.1",
        "b2a": "branch3.0",
        "b2b": "branch3.1",
        "b3b": "branch4",
    }
}
_OURS = "backbone.mixed.{m}.{b}"
_I3D = Table(
    (
        Rule("Conv3d_{l}.conv3d.weight", "backbone.{l}.conv.weight", _FIRST),
        Rule("Conv3d_{l}.bn.{n}", "backbone.{l}.norm.{n}", _FIRST | _NORM),
        Rule("Mixed_{m}.{b}.conv3d.weight", f"{_OURS}.conv.weight", _BLOCKS | _BRANCH),
        Rule("Mixed_{m}.{b}.bn.{n}", f"{_OURS}.norm.{{n}}", _BLOCKS | _BRANCH | _NORM),
        Rule("logits.conv3d.{n}", "head.projection.{n}", {"n": AFFINE}),
    )
)
# Pools have numbers too.
_PLACES = {"m": dict(zip(("5", "6", *map(str, range(8, 13)), "14", "15"), _BLOCKS["m"]))}
_STEM = {"l": {"0": "conv1", "3": "conv3"}}
_WHOLE = {
    "b": {
        "branch0.0": "branch1",
        "branch1.0": "branch2.0",
        "branch2.0": "branch3.0",
        "branch3.1": "branch4",
    }
}
_SPLIT = {"b": {"branch1.1": "branch2.1", "branch2.1": "branch3.1"}}
_PART = {"p": {"s": "spatial", "t": "temporal"}}
_S3D = Table(
    (
        Rule("base.{l}.conv_{p}.weight", "backbone.{l}.{p}.conv.weight", _STEM | _PART),
        Rule("base.{l}.bn_{p}.{n}", "backbone.{l}.{p}.norm.{n}", _STEM | _PART | _NORM),
        Rule("base.2.conv.weight", "backbone.conv2.conv.weight"),
        Rule("base.2.bn.{n}", "backbone.conv2.norm.{n}", _NORM),
        Rule("base.{m}.{b}.conv.weight", f"{_OURS}.conv.weight", _PLACES | _WHOLE),
        Rule("base.{m}.{b}.bn.{n}", f"{_OURS}.norm.{{n}}", _PLACES | _WHOLE | _NORM),
        Rule(
            "base.{m}.{b}.conv_{p}.weight", f"{_OURS}.{{p}}.conv.weight", _PLACES | _SPLIT | _PART
        ),
        Rule(
            "base.{m}.{b}.bn_{p}.{n}",
            f"{_OURS}.{{p}}.norm.{{n}}",
            _PLACES | _SPLIT | _PART | _NORM,
        ),
        Rule("fc.0.{n}", "head.projection.{n}", {"n": AFFINE}),
    )
)
LAYOUTS = (
    Layout(
        "pytorch_i3d",
        "inception",
        _I3D,
        (r"Conv3d_1a_7x7\.conv3d\.weight", r"Mixed_5c\.b3b\.conv3d\.weight", r"logits\..*"),
        task="classification",
    ),
    Layout(
        "kylemin_s3d",
        "inception",
        _S3D,
        (r"base\.0\.conv_s\.weight", r"base\.15\.branch3\.1\.conv\.weight", r"fc\.0\.weight"),
        task="classification",
    ),
)


def read_inception(shapes: Mapping[str, Shape]) -> Structure:
    """I3D for RGB or flow, or S3D.

    Raises:
        UserError: classifier or first convolution are missing.
    """
    if "head.projection.weight" not in shapes:
        raise UserError("the classifier is missing: these are the weights of a backbone alone")
    split = "backbone.conv1.spatial.conv.weight" in shapes
    first = shapes.get(f"backbone.conv1.{'spatial.' if split else ''}conv.weight")
    if first is None or len(first) != 5:
        raise UserError("the first convolution is missing")
    args: dict[str, Any] = {} if split else {"padding": "tensorflow"}
    if first[1] != 3:
        args["in_channels"] = first[1]
    return Structure(
        backbone="s3d" if split else "i3d_inception",
        num_classes=shapes["head.projection.weight"][0],
        args=args,
        whole=True,
    )


def rows() -> Iterator[Architecture]:
    """The published networks: trained on 64 frames at 25 fps, crops of 224."""
    for modality, args, norm in (
        ("", {}, _CENTRED),
        ("_flow", {"in_channels": 2}, (FLOW_MEAN, FLOW_STD)),
    ):
        for dataset, file in (("k400", "imagenet"), ("charades", "charades")):
            yield row(
                f"i3d_inception_64x1{modality}_{dataset}",
                "i3d_inception",
                dataset,
                64,
                1,
                ("pytorch_i3d",),
                {
                    "args": {"padding": "tensorflow", **args},
                    "head": {"sliding": [2, 7, 7]},
                    "norm": norm,
                    "fps": 25.0 if dataset == "k400" else None,
                    "modality": "flow" if modality else "rgb",
                },
                f"{'flow' if modality else 'rgb'}_{file}",
            )
    yield row(
        "s3d_64x1_k400",
        "s3d",
        "k400",
        64,
        1,
        ("kylemin_s3d",),
        {"head": {"sliding": [2, None, None]}, "norm": _CENTRED, "fps": 25.0},
        "S3D_kinetics400",
    )
