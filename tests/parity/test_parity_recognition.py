"""Every golden is recognised as the architecture it is: by settings inside, and by file name.

Weights play no part here, so tensors have shapes only.
"""

from __future__ import annotations

from typing import Any

import golden_checkpoints as files
import pytest
import torch

from avadet.convert import architectures, recognise
from avadet.convert.export import write
from avadet.models.description import ModelDescription, create

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


_WRITTEN = [("pyslowfast", name, arch) for name, arch in sorted(PYSLOWFAST.items())]
_WRITTEN += [("mmaction2", name, rest[0]) for name, rest in sorted(MMACTION2.items())]
_WRITTEN += [
    ("pyslowfast", "X3D_M", "x3d_m_16x5_k400"),
    ("pyslowfast", "MVITv2_S_16x4", "mvit_v2_s_16x4_k400"),
    ("pyslowfast", "MVIT_B_16x4_CONV", "mvit_v1_b_16x4_k400"),
    ("mmaction2", "x3d_m_16x5", "x3d_m_16x5_k400_mmaction2"),
    ("mmaction2", "c3d_ucf101", "c3d_16x1_ucf101_mmaction2"),
    ("mmaction2", "r2plus1d_r34_8x8", "r2plus1d_34_8x8_k400_mmaction2"),
    ("mmaction2", "avak_videomae_vit_b16", "vit_b_16x4_videomae_avak_mmaction2"),
]


@pytest.mark.parametrize(("source", "name", "arch"), _WRITTEN)
def test_what_is_written_has_the_reference_s_names_and_shapes(
    source: str, name: str, arch: str
) -> None:
    """So that the other framework loads it strictly."""
    description = architectures.get(arch).description
    with torch.device("meta"):
        model = create(description)
    _, state, _ = write(model.state_dict(), description, source)
    assert {key: list(value.shape) for key, value in state.items()} == files.manifest(source, name)[
        "keys"
    ]
