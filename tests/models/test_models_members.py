"""Every member of the family is whole: classifier, detector, tiny variant, and a config for each.

Backbones that are another depth or clip length of a listed one have no configs of their own.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from avadet.config import load_config
from avadet.errors import UserError
from avadet.models.action import ActionClassifier, ActionDetector
from avadet.models.backbones import BACKBONES
from avadet.models.heads import PoolHead, RoIHead

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
# Member -> its tiny variant.
MEMBERS = {
    "c3d": "c3d_tiny",
    "r2d_18": "r2d_tiny",
    "f_r2d_18": "f_r2d_tiny",
    "r3d_18": "r3d_tiny",
    "r3d_34": "r3d_tiny",
    **{f"mc{x}_18": "mc3_tiny" for x in (2, 3, 4, 5)},
    **{f"rmc{x}_18": "rmc3_tiny" for x in (2, 3, 4, 5)},
    **{f"r2plus1d_{depth}": "r2plus1d_tiny" for depth in (18, 34, 50, 152)},
    "p3d_63": "p3d_tiny",
    "p3d_199": "p3d_tiny",
    "i3d_inception": "i3d_inception_tiny",
    "s3d": "s3d_tiny",
    "s3d_g": "s3d_g_tiny",
    "c2d_r50": "c2d_tiny",
    "i3d_r50": "i3d_tiny",
    **{f"ir_csn_{depth}": "ir_csn_tiny" for depth in (50, 101, 152)},
    **{f"ip_csn_{depth}": "ip_csn_tiny" for depth in (50, 101, 152)},
    **{f"x3d_{size}": "x3d_tiny" for size in ("xs", "s", "m", "l")},
    "mvit_v1_b": "mvit_v1_tiny",
    "mvit_v1_b_32x3": "mvit_v1_tiny",
    "mvit_v2_s": "mvit_v2_tiny",
    "mvit_v2_b": "mvit_v2_tiny",
    "cnn_lstm_r50": "cnn_lstm_tiny",
    **{
        f"torchvision_{name}": "torchvision_tiny"
        for name in ("r3d_18", "mc3_18", "r2plus1d_18", "s3d", "swin3d_t")
    },
}  # fmt: skip
# Their windows merge four times; boxes of a person would have a cell or two.
NO_DENSE_MAP = ("torchvision_swin3d_t", "torchvision_swin3d_s", "torchvision_swin3d_b")


def used(folder: str) -> set[str]:
    return {
        load_config(path).model.backbone.name for path in sorted((CONFIGS / folder).glob("*.yaml"))
    }


def test_every_member_has_its_configs_and_a_tiny_variant() -> None:
    assert set(MEMBERS) <= set(BACKBONES.names())
    assert set(MEMBERS.values()) <= set(BACKBONES.names("*_tiny"))
    assert set(MEMBERS) - used("kinetics") == set()
    assert set(MEMBERS) - used("ava") == {"torchvision_swin3d_t"}


# Deep ones take seconds to be put together, even without numbers.
_DEEP = ("101", "152", "199", "_16x8", "x3d_l", "mvit_v2_b", "mvit_v2_l", "b24", "vit_l", "vit_h")
_DEEP += ("swin3d_s", "swin3d_b")


def _all() -> list:
    names = [name for name in BACKBONES.names() if not name.endswith("_tiny")]
    slow = [[pytest.mark.slow] if any(part in name for part in _DEEP) else [] for name in names]
    return [pytest.param(name, marks=marks) for name, marks in zip(names, slow, strict=True)]


@pytest.mark.parametrize("name", _all())
def test_as_classifier_and_as_detector(name: str) -> None:
    with torch.device("meta"):
        backbone = BACKBONES.get(name)()
        frames = getattr(backbone, "num_frames", 16)  # R2D is made for so many
        clip = torch.empty(1, 3, frames, 64, 96)
        classifier = ActionClassifier(backbone, PoolHead(backbone.out_channels, 7))
        assert classifier(clip).shape == (1, 7)
        if name in NO_DENSE_MAP:
            with pytest.raises(UserError, match="output_stride"):
                BACKBONES.get(name)(output_stride=16)
            return
        # What has stride 16 by itself and no choice need not be told.
        coarse = max(backbone.strides) > 16
        dense = BACKBONES.get(name)(**({"output_stride": 16} if coarse else {}))
        head = RoIHead(dense.out_channels, 7, stride=dense.strides)
        boxes = [torch.empty(3, 4)]
        assert ActionDetector(dense, head)(clip, boxes).shape == (3, 7)
        # Weights of one fit the other, but for the head.
        shapes = [{k: v.shape for k, v in m.state_dict().items()} for m in (backbone, dense)]
        assert shapes[0] == shapes[1]
