"""Every golden of PySlowFast, PyTorchVideo, MMAction2 and VMZ, through ``load_model``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import golden_checkpoints as files
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from golden_recipe import make_input, make_mixed_input

from avadet.convert import load_model

# An operator, not a network: see test_parity_feature_bank.
ELSEWHERE = {"fbo_non_local"}
# Cases above two seconds or so on one core.
SLOW = {
    "SLOWFAST_32x2_R101_50_50", "SLOWFAST_64x2_R101_50_50", "SLOWFAST_16x8_R50",
    "ava21_slowonly_r101_8x8", "ip_csn_152", "ir_csn_152", "ircsn_r152_bnfrozen", "csn_r101",
    "ava21_slowfast_r50_8x8", "ava21_slowonly_r50_4x16", "ava22_slowfast_r50_8x8_cosine",
    "ava22_slowfast_r50_temporal_max_focal", "slowonly_r50_8x8", "i3d_r50_32x2",
    "mvit_base_16x4", "mvit_base_16x4_s112", "avak_videomae_vit_b16",
    "MVIT_B_16x4_CONV", "MVITv2_S_16x4", "ava22_slowfast_acrn_r50_8x8",
    "X3D_M", "r2plus1d_34", "r2plus1d_152", "r2plus1d_r34_8x8", "r2plus1d_r50", "c3d_ucf101",
    "i3d_r50_nl_gaussian", "slowfast_r101_r50_4x16",
    "SLOWFAST_NLN_8x8_R50", "SLOW_NLN_8x8_R50", "C2D_NLN_8x8_R50",
}  # fmt: skip


def _goldens(source: str, slow: set[str] = SLOW) -> list:
    params = []
    for name in files.names(source):
        marks = [pytest.mark.slow] if name in slow else []
        if name not in ELSEWHERE:
            params.append(pytest.param(name, marks=marks))
    return params


def _pyslowfast_cases() -> list:
    params = []
    for name in files.names("pyslowfast"):
        for index, case in enumerate(files.manifest("pyslowfast", name)["cases"]):
            marks = [pytest.mark.slow] if index or name in SLOW else []
            params.append(pytest.param(name, case, id=f"{name}-{case['name']}", marks=marks))
    return params


def _boxes(rows: list, count: int) -> list[torch.Tensor]:
    table = torch.tensor(rows)
    return [table[table[:, 0] == i, 1:] for i in range(count)]


def _cells(model: torch.nn.Module, video: torch.Tensor) -> torch.Tensor:
    """Logits of every window of a fully convolutional test, (B,1,h,w,K)."""
    pooled = []
    for each in model.backbone(video):
        side = model.head.window
        pooled.append(F.avg_pool3d(each, (each.shape[2], side, side), stride=1))
    return model.head.classify(torch.cat(pooled, 1).permute(0, 2, 3, 4, 1))


@torch.inference_mode()
@pytest.mark.parametrize(("name", "case"), _pyslowfast_cases())
def test_pyslowfast(name: str, case: dict, tmp_path: Path) -> None:
    """A file with its config inside, under a name that says nothing."""
    model = load_model(files.write_pyth(tmp_path, name))
    golden = files.manifest("pyslowfast", name)
    expected = files.answers("pyslowfast", name)[f"{case['name']}/logits"]
    scores = files.answers("pyslowfast", name)[f"{case['name']}/scores"]
    video = torch.from_numpy(make_input(**case["input"]))
    assert model.description.num_classes == golden["facts"]["num_classes"]
    assert model.description.preprocessing.num_frames == golden["facts"]["frames"]
    assert model.description.preprocessing.frame_stride == golden["facts"]["sampling_rate"]
    if "boxes" in case:
        logits = model(video, _boxes(case["boxes"], len(video)))
        np.testing.assert_allclose(logits, expected, rtol=0, atol=2e-5)
        np.testing.assert_allclose(logits.sigmoid(), scores, rtol=0, atol=1e-5)
        return
    if expected.ndim == 2:  # the transformers: no windows
        np.testing.assert_allclose(model(video), expected, rtol=0, atol=2e-5)
        np.testing.assert_allclose(model.probabilities(video), scores, rtol=1e-4, atol=1e-7)
        return
    overrides = case["config_overrides"]
    crop = overrides[1] if overrides else golden["facts"]["train_crop"]
    model.head.window = crop // 32
    np.testing.assert_allclose(_cells(model, video), expected, rtol=0, atol=2e-5)
    np.testing.assert_allclose(model.probabilities(video), scores, rtol=1e-4, atol=1e-7)
    if case["name"] != "test_crop":
        np.testing.assert_allclose(model(video), expected[:, 0, 0, 0], rtol=0, atol=2e-5)


# Both pathways, attention, detection; the other blobs are in the slow tier.
_FAST_BLOBS = {"SLOWFAST_8x8_R50", "I3D_NLN_8x8_R50", "SLOW_8x8_R50_SHORT"}
# Families that came after Caffe2.
_NEVER_BLOBS = ("MVIT", "X3D")


@torch.inference_mode()
@pytest.mark.parametrize(
    "name",
    [
        param
        for param in _goldens("pyslowfast", slow=set(files.names("pyslowfast")) - _FAST_BLOBS)
        if not param.values[0].startswith(_NEVER_BLOBS)
    ],
)
def test_caffe2(name: str, tmp_path: Path) -> None:
    """The same networks from Caffe2 blobs, recognised by the published file name."""
    model = load_model(files.write_caffe2(tmp_path, name))
    case = files.manifest("pyslowfast", name)["cases"][0]
    expected = files.answers("pyslowfast", name)[f"{case['name']}/logits"]
    video = torch.from_numpy(make_input(**case["input"]))
    if "boxes" in case:
        logits = model(video, _boxes(case["boxes"], len(video)))
    else:
        logits = model(video)
        expected = expected[:, 0, 0, 0]
    np.testing.assert_allclose(logits, expected, rtol=0, atol=2e-5)


def _close(actual: torch.Tensor, expected: np.ndarray) -> None:
    """1e-4 relative to the size of the values."""
    scale = float(np.abs(expected).max())
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4 * scale)


def _check_golden(source: str, name: str, folder: Path, ours: Callable[[str], str | None]) -> None:
    golden, numbers = files.manifest(source, name), files.answers(source, name)
    model = load_model(files.write_torch(folder, source, name))
    clips = tuple(
        torch.from_numpy(make_mixed_input(each["seed"], each["shape"])) for each in golden["inputs"]
    )
    video = clips[0] if len(clips) == 1 else clips
    seen: dict[str, torch.Tensor] = {}
    for probe in golden["probes"]:
        if (module := ours(probe)) is not None:
            model.get_submodule(module).register_forward_hook(
                lambda _module, _input, output, probe=probe: seen.__setitem__(probe, output)
            )
    if "boxes" in golden:
        logits = model(video, _boxes(golden["boxes"], len(clips[0])))
    else:
        logits = model(video)
    expected = numbers["logits"]
    if source == "mmaction2" and "boxes" in golden:
        expected = expected[:, 1:]  # the background column
        assert model.description.class_ids == tuple(range(1, 81))
    _close(logits, expected)
    for probe, value in seen.items():
        flat = value.flatten()
        index = np.linspace(0, len(flat) - 1, 64).astype(np.int64)
        assert tuple(value.shape) == tuple(numbers[f"probe/{probe}/shape"])
        _close(flat[index], numbers[f"probe/{probe}/values64"])
    assert seen or ours("") is None


def _no_probe(_: str) -> None:
    return None


@torch.inference_mode()
@pytest.mark.parametrize("name", _goldens("pytorchvideo"))
def test_pytorchvideo(name: str, tmp_path: Path) -> None:
    _check_golden("pytorchvideo", name, tmp_path, _no_probe)


@torch.inference_mode()
@pytest.mark.parametrize("name", _goldens("mmaction2"))
def test_mmaction2(name: str, tmp_path: Path) -> None:
    def ours(probe: str) -> str | None:
        return {f"backbone.layer{i}": f"backbone.res{i + 1}" for i in (2, 3, 4)}.get(probe)

    single = "slowfast" not in name and "ava" not in name
    _check_golden("mmaction2", name, tmp_path, ours if single else _no_probe)


@torch.inference_mode()
@pytest.mark.parametrize("name", _goldens("vmz"))
def test_vmz(name: str, tmp_path: Path) -> None:
    def ours(probe: str) -> str | None:
        table = {f"layer{i}": f"backbone.res{i + 1}" for i in range(1, 5)}
        return {"stem": "backbone.stem", **table}.get(probe)

    _check_golden("vmz", name, tmp_path, ours)


@torch.inference_mode()
def test_torchvision_image_network(tmp_path: Path) -> None:
    """A 2D ResNet-50 over a clip of one frame answers as torchvision's own."""
    import torchvision

    theirs = torchvision.models.resnet50().eval()
    torch.save(theirs.state_dict(), tmp_path / "resnet50-11ad3fa6.pth")
    ours = load_model(tmp_path / "resnet50-11ad3fa6.pth")
    image = torch.randn(2, 3, 64, 64)
    expected = theirs(image)
    _close(ours(image.unsqueeze(2)), expected.numpy())
