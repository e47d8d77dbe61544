"""Networks made ready to run."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from avadet.engine import precision
from avadet.engine.inference import prepare_for_inference, prepare_for_scoring
from avadet.models.action import ActionClassifier, ActionDetector
from avadet.models.backbones import BACKBONES
from avadet.models.folding import FusedConv3d
from avadet.models.heads import PoolHead, RoIHead

CPU = torch.device("cpu")
BOXES = [torch.tensor([[4.0, 4.0, 40.0, 60.0], [0.0, 0.0, 63.0, 63.0]]), torch.zeros(0, 4)]


def detector(name: str = "slowfast_tiny") -> ActionDetector:
    torch.manual_seed(0)
    backbone = BACKBONES.get(name)()
    model = ActionDetector(backbone, RoIHead(backbone.out_channels, 7, init_std=0.2))
    video = torch.randn(2, 3, 32, 64, 64)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm3d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
        # Running statistics that fit, so that activations keep their size.
        for _ in range(30):
            model(video, BOXES)
    return model.eval()


@pytest.mark.parametrize("name", ["slowfast_tiny", "ir_csn_tiny", "x3d_tiny", "mvit_v2_tiny"])
@torch.no_grad()
def test_scores_stay(name: str) -> None:
    backbone = BACKBONES.get(name)()
    frames, side = (16, 112) if name.startswith("mvit") else (16, 64)
    torch.manual_seed(0)
    model = ActionClassifier(backbone, PoolHead(backbone.out_channels, 5, init_std=0.2)).eval()
    video = torch.randn(1, 3, frames, side, side)
    expected = model(video).sigmoid()
    prepared = prepare_for_inference(model, CPU, "fp32")
    assert prepared.precision.name == "fp32"
    torch.testing.assert_close(prepared.model(video).sigmoid(), expected, rtol=2e-6, atol=2e-6)
    prepared = prepare_for_inference(model, CPU, "bf16")
    with prepared.precision.autocast():
        scores = prepared.model(video).float().sigmoid()
    torch.testing.assert_close(scores, expected, rtol=0, atol=0.03)
    assert "bf16 on cpu (as asked)" in prepared.choice


@pytest.mark.parametrize(("hardware", "expected"), [(True, "bf16"), (False, "fp32")])
@torch.no_grad()
def test_the_processor_decides(
    monkeypatch: pytest.MonkeyPatch, hardware: bool, expected: str
) -> None:
    monkeypatch.setattr(precision, "cpu_has_bfloat16", lambda: hardware)
    exact = detector()
    prepared = prepare_for_inference(exact, CPU)
    model = prepared.model
    assert prepared.precision.name == expected
    assert not any(isinstance(module, FusedConv3d) for module in exact.modules())
    assert prepared.choice.startswith(f"{expected} on cpu (chosen for this processor), ")
    kinds = {module.weight.dtype for module in model.modules() if isinstance(module, FusedConv3d)}
    assert kinds == {prepared.precision.dtype}
    # The head counts in float32.
    assert model.head.projection.weight.dtype == torch.float32
    video = torch.randn(2, 3, 32, 64, 64)
    with prepared.precision.autocast():
        logits = model(video, BOXES).float()
    tolerance = 0.05 if hardware else 1e-5
    difference = (logits - exact(video, BOXES)).abs().max()
    assert difference < tolerance * exact(video, BOXES).abs().max()


def test_published_numbers_keep_the_trained_network() -> None:
    model = detector()
    state = {key: value.clone() for key, value in model.state_dict().items()}
    prepared = prepare_for_scoring(model, CPU, "fp32")
    assert prepared.model is model
    assert prepared.precision.name == "fp32"
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    prepared = prepare_for_scoring(model, CPU, "bf16")
    assert prepared.precision.name == "bf16"
    assert any(isinstance(module, FusedConv3d) for module in prepared.model.modules())
