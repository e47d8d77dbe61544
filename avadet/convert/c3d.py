"""C3D's names at MMAction2 (the Sports-1M file holds the backbone alone), and its structure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from avadet.convert.architectures import Architecture, row
from avadet.convert.layout import Layout
from avadet.convert.rules import AFFINE, Rule, Shape, Table
from avadet.convert.structure import Structure
from avadet.errors import UserError

# In units of 1/255: 104, 117, 128 and no scaling.
MEAN_ONLY = ((0.407843, 0.458824, 0.501961), (0.003922, 0.003922, 0.003922))
_CONV = {"l": {name: name for name in ("1a", "2a", "3a", "3b", "4a", "4b", "5a", "5b")}}
_TABLE = Table(
    (
        Rule("backbone.conv{l}.conv.{n}", "backbone.conv{l}.{n}", {**_CONV, "n": AFFINE}),
        Rule("backbone.fc6.{n}", "head.fc6.{n}", {"n": AFFINE}),
        Rule("backbone.fc7.{n}", "head.fc7.{n}", {"n": AFFINE}),
        Rule("cls_head.fc_cls.{n}", "head.projection.{n}", {"n": AFFINE}),
    ),
    (r"data_preprocessor\..*",),
)
LAYOUTS = (
    Layout(
        "mmaction2",
        "c3d",
        _TABLE,
        (r"backbone\.conv5b\.conv\.weight", r"backbone\.fc6\.weight", r"cls_head\.fc_cls\.weight"),
        task="classification",
    ),
)


def read_c3d(shapes: Mapping[str, Shape]) -> Structure:
    """C3D has one size.

    Raises:
        UserError: the classifier is missing.
    """
    if "head.projection.weight" not in shapes:
        raise UserError("the classifier is missing: these are the weights of a backbone alone")
    return Structure(
        backbone="c3d",
        num_classes=shapes["head.projection.weight"][0],
        whole=True,
        head="c3d",
    )


def rows() -> Iterator[Architecture]:
    """MMAction2's network, fine-tuned from Sports-1M."""
    yield row(
        "c3d_16x1_ucf101_mmaction2",
        "c3d",
        "ucf101",
        16,
        1,
        ("mmaction2",),
        {"head_name": "c3d", "norm": MEAN_ONLY, "side": 128},
        "c3d_sports1m-pretrained_8xb30-16x1x1-45e_ucf101-rgb",
        "c3d_ucf101",
    )
