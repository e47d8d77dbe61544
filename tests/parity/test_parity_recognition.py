"""Every golden is recognised as the architecture it is: by settings inside, and by file name.

Weights play no part here, so tensors have shapes only.
"""

from __future__ import annotations

from typing import Any

import golden_checkpoints as files
import pytest
import torch

from avadet.convert import recognise
from avadet.models.description import ModelDescription

PYSLOWFAST = {
    "C2D_8x8_R50": "c2d_r50_8x8_k400",
    "C2D_NLN_8x8_R50": "c2d_r50_8x8_nl_k400",
    "I3D_8x8_R50": "i3d_r50_8x8_k400",
    "I3D_NLN_8x8_R50": "i3d_r50_8x8_nl_k400",
    "SLOW_8x8_R50": "slow_r50_8x8_k400",
    "SLOW_NLN_8x8_R50": "slow_r50_8x8_nl_k400",
    "SLOW_8x8_R50_SHORT": "slow_r50_4x16_ava22_short",
    "SLOWFAST_4x16_R50": "slowfast_r50_4x16_k400",
    "SLOWFAST_8x8_R50": "slowfast_r50_8x8_k400",
    "SLOWFAST_NLN_8x8_R50": "slowfast_r50_8x8_nl_k400",
    "SLOWFAST_16x8_R50": "slowfast_r50_16x8_charades",
    "SLOWFAST_32x2_R50_SHORT": "slowfast_r50_8x8_ava22_short",
    "SLOWFAST_32x2_R101_50_50": "slowfast_r101_8x8_nl_ava22",
    "SLOWFAST_64x2_R101_50_50": "slowfast_r101_16x8_nl_ava22",
}
MMACTION2 = {
    "ava21_slowfast_r50_4x16_context": ("slowfast_r50_4x16_context_ava21_mmaction2", 32, 2),
    "ava21_slowfast_r50_8x8": ("slowfast_r50_8x8_ava21_mmaction2", 32, 2),
    "ava21_slowonly_r101_8x8": ("slow_r101_8x8_ava21_mmaction2", 8, 8),
    "ava21_slowonly_r50_4x16": ("slow_r50_4x16_ava21_mmaction2", 4, 16),
    "ava21_slowonly_r50_nl_8x8": ("slow_r50_8x8_nl_ava21_mmaction2", 8, 8),
    "ava22_slowfast_r50_8x8_cosine": ("slowfast_r50_8x8_ava22_mmaction2", 32, 2),
    "ava22_slowfast_acrn_r50_8x8": ("slowfast_r50_8x8_acrn_ava22_mmaction2", 32, 2),
    "ava22_slowfast_r50_temporal_max": ("slowfast_r50_8x8_tmax_ava22_mmaction2", 32, 2),
    "avak_slowonly_r50_context_temporal_max_nl_head": (
        "slow_r50_8x8_context_tmax_mlp_avak_mmaction2",
        8,
        8,
    ),
    "c2d_r50_8x8": ("c2d_r50_8x8_k400_mmaction2", 8, 8),
    "i3d_r50_32x2": ("i3d_r50_32x2_k400_mmaction2", 32, 2),
    "i3d_r50_nl_dot_product": ("i3d_r50_32x2_nl_k400_mmaction2", 32, 2),
    "i3d_r50_nl_embedded_gaussian": ("i3d_r50_32x2_nl_embedded_k400_mmaction2", 32, 2),
    "i3d_r50_nl_gaussian": ("i3d_r50_32x2_nl_gaussian_k400_mmaction2", 32, 2),
    "ircsn_r152_bnfrozen": ("ir_csn_152_32x2_frozen_k400_mmaction2", 32, 2),
    "ircsn_r50_bnfrozen": ("ir_csn_50_32x2_frozen_k400_mmaction2", 32, 2),
    "slowfast_r101_r50_4x16": ("slowfast_r101_r50_4x16_k400_mmaction2", 32, 2),
    "slowfast_r50_4x16": ("slowfast_r50_4x16_k400_mmaction2", 32, 2),
    "slowfast_r50_8x8": ("slowfast_r50_8x8_k400_mmaction2", 32, 2),
    "slowonly_r50_8x8": ("slow_r50_8x8_k400_mmaction2", 8, 8),
}
OTHERS = {
    ("pytorchvideo", "c2d_r50"): "c2d_r50_8x8_k400",
    ("pytorchvideo", "i3d_r50"): "i3d_r50_8x8_k400",
    ("pytorchvideo", "slow_r50"): "slow_r50_8x8_k400",
    ("pytorchvideo", "slow_r50_detection"): "slow_r50_4x16_ava22",
    ("pytorchvideo", "slowfast_r50"): "slowfast_r50_8x8_k400",
    ("pytorchvideo", "slowfast_r50_detection"): "slowfast_r50_8x8_ava22",
    ("pytorchvideo", "csn_r101"): "ir_csn_101_32x2_k400_pytorchvideo",
    ("vmz", "ir_csn_50"): "ir_csn_50_32x2_k400",
    ("vmz", "ir_csn_152"): "ir_csn_152_32x2_k400",
    ("vmz", "ip_csn_50"): "ip_csn_50_32x2_k400",
    ("vmz", "ip_csn_152"): "ip_csn_152_32x2_k400",
}


def _describe(
    monkeypatch: pytest.MonkeyPatch, source: str, name: str, file: str, **more: Any
) -> ModelDescription:
    keys = files.manifest(source, name)["keys"]
    state = {key: torch.empty(shape, device="meta") for key, shape in keys.items()}
    content = {"state_dict": state, **more}
    monkeypatch.setattr(recognise, "read_checkpoint", lambda _: (content, "torch-zip"))
    return recognise.recognise(file).description


def _same(left: ModelDescription, right: ModelDescription) -> None:
    """But for the window of the goldens' small crops."""
    assert recognise.differences(left, right) in ("", "head_args.window: 2 or 7")


@pytest.mark.parametrize("name", sorted(PYSLOWFAST))
def test_pyslowfast(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    by_name = _describe(monkeypatch, "pyslowfast", name, f"{name}.pyth")
    assert by_name.name == PYSLOWFAST[name]
    settings = files.pyslowfast_config(name)
    by_settings = _describe(monkeypatch, "pyslowfast", name, "epoch_1.pyth", cfg=settings)
    _same(by_name, by_settings)


@pytest.mark.parametrize("name", sorted(MMACTION2))
def test_mmaction2(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    expected, frames, stride = MMACTION2[name]
    by_name = _describe(monkeypatch, "mmaction2", name, f"{name}.pth")
    assert by_name.name == expected
    meta = {"cfg": files.mmaction2_config(name, frames, stride)}
    by_settings = _describe(monkeypatch, "mmaction2", name, "epoch_10.pth", meta=meta)
    _same(by_name, by_settings)


@pytest.mark.parametrize(("source", "name"), sorted(OTHERS))
def test_others(monkeypatch: pytest.MonkeyPatch, source: str, name: str) -> None:
    assert _describe(monkeypatch, source, name, f"{name}.pth").name == OTHERS[source, name]
