"""torchvision's own video networks beside ours, from a file of random weights."""

from __future__ import annotations

from pathlib import Path

import golden_checkpoints as files
import pytest
import torch
import torchvision

from avadet.convert import load_model

CLIPS = {
    "r3d_18": (1, 3, 8, 48, 48),
    "mc3_18": (1, 3, 8, 48, 48),
    "r2plus1d_18": (1, 3, 8, 48, 48),
    "s3d": (1, 3, 24, 224, 224),
    "swin3d_t": (1, 3, 4, 64, 64),
}


@torch.inference_mode()
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] if n == "s3d" else []) for n in CLIPS]
)
def test_torchvision_video(name: str, tmp_path: Path) -> None:
    theirs = getattr(torchvision.models.video, name)().eval()
    state = theirs.state_dict()
    golden = files.manifest("torchvision", name)
    assert {key: list(value.shape) for key, value in state.items()} == golden["keys"]
    path = tmp_path / "weights.pth"  # a name that says nothing
    torch.save(state, path)
    ours = load_model(path)
    clip = torch.randn(CLIPS[name])
    torch.testing.assert_close(ours(clip), theirs(clip), rtol=1e-4, atol=1e-5)
    # One map per clip cell: the same network serves a RoI head.
    assert ours.backbone.strides == ((32,) if name in ("s3d", "swin3d_t") else (16,))
