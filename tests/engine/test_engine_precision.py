"""Number formats and memory formats."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from avadet.engine import precision
from avadet.engine.precision import GuardedConv3d, Precision, default_device, place, resolve
from avadet.errors import UserError

CPU = torch.device("cpu")


def network() -> nn.Sequential:
    return nn.Sequential(nn.Conv3d(3, 8, 3), nn.Conv3d(8, 4, 1), nn.Flatten(), nn.LazyLinear(2))


@pytest.mark.parametrize(("hardware", "expected"), [(True, "bf16"), (False, "fp32")])
def test_auto_on_cpu(monkeypatch: pytest.MonkeyPatch, hardware: bool, expected: str) -> None:
    monkeypatch.setattr(precision, "cpu_has_bfloat16", lambda: hardware)
    assert resolve("auto", CPU) == Precision(expected, "cpu")
    assert resolve("bf16", CPU).dtype == torch.bfloat16  # asked for, done


@pytest.mark.parametrize(("capability", "expected"), [((7, 5), "fp16"), ((9, 0), "bf16")])
def test_auto_on_gpu(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    assert resolve("auto", "cuda:1") == Precision(expected, "cuda")
    if expected == "fp16":
        with pytest.raises(UserError, match="no bfloat16"):
            resolve("bf16", "cuda")


def test_unknown_names() -> None:
    with pytest.raises(UserError, match="Known: auto, bf16, fp16, fp32"):
        resolve("int8", CPU)
    with pytest.raises(UserError, match="device 'gpu'"):
        default_device("gpu")
    if not torch.cuda.is_available():
        assert default_device() == CPU
        with pytest.raises(UserError, match="no CUDA GPU"):
            default_device("cuda")


def test_only_guarded_places_leave_bfloat16() -> None:
    model = network()
    keys = list(model.state_dict())
    place(model, CPU, resolve("bf16", CPU))
    assert [type(module) for module in model[:2]] == [GuardedConv3d] * 2
    assert list(model.state_dict()) == keys
    video = torch.randn(2, 3, 4, 8, 8)
    with resolve("bf16", CPU).autocast():
        stem = model[0](video)
        assert stem.dtype == torch.float32
        assert model[1](stem).dtype == torch.bfloat16
    torch.testing.assert_close(stem, nn.functional.conv3d(video, model[0].weight, model[0].bias))
    # A copy must run on its own weights.
    twin = copy.deepcopy(model)
    twin[0].weight.data.zero_()
    twin[0].bias.data.zero_()
    assert not twin[0](video).any()


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(("kernel", "frames"), [(3, 1), (3, 2), (3, 3), (5, 2), (5, 4), (5, 8)])
def test_gradients_of_short_clips_under_bfloat16(
    kernel: int, frames: int, channels_last: bool
) -> None:
    """oneDNN leaves the weight gradient unset where the clip is shorter than the kernel."""
    conv = nn.Conv3d(20, 12, (kernel, 1, 1), padding=(kernel // 2, 0, 0), bias=False)
    conv.weight.data = conv.weight.data.bfloat16().float()
    video = torch.randn(2, 20, frames, 8, 8).bfloat16().float()
    up = torch.randn_like(conv(video)).bfloat16().float()
    conv(video).backward(up)
    expected = conv.weight.grad
    assert expected is not None
    conv.weight.grad = None
    place(conv, CPU, resolve("bf16", CPU), channels_last)
    with resolve("bf16", CPU).autocast():
        maps = conv(video)
    maps.backward(up.to(maps.dtype))
    assert conv.weight.grad is not None
    error = (conv.weight.grad - expected).norm() / expected.norm()
    assert error < 0.005


def test_float32_keeps_the_classes() -> None:
    assert type(place(network(), CPU, resolve("fp32", CPU))[0]) is nn.Conv3d


@pytest.mark.parametrize(
    ("outputs", "kernel", "shape"),
    [(32, (1, 5, 5), (8, 3, 4, 128, 160)), (64, (1, 7, 7), (8, 3, 4, 128, 160))],
)
def test_stem_gradients_are_exact_under_bfloat16(
    outputs: int, kernel: tuple[int, int, int], shape: tuple[int, ...]
) -> None:
    """The shapes whose bfloat16 gradient is NaN or 1% off on CPUs with AMX."""
    padding = tuple(side // 2 for side in kernel)
    conv = nn.Conv3d(3, outputs, kernel, (1, 2, 2), padding, bias=False)  # type: ignore[arg-type]
    video = torch.randn(shape)
    loss = conv(video).square().mean()
    loss.backward()
    expected = conv.weight.grad
    assert expected is not None
    conv.weight.grad = None
    place(conv, CPU, resolve("bf16", CPU), channels_last=False)
    with resolve("bf16", CPU).autocast():
        loss = conv(video).square().mean()
    loss.backward()
    torch.testing.assert_close(conv.weight.grad, expected, rtol=1e-4, atol=1e-6)


def test_channels_last_covers_pictures_and_clips() -> None:
    model = nn.Sequential(nn.Conv3d(4, 4, 3), nn.Conv2d(4, 4, 3), nn.Linear(2, 2))
    before = [id(parameter) for parameter in model.parameters()]
    place(model, CPU, resolve("fp32", CPU), channels_last=True)
    assert [id(parameter) for parameter in model.parameters()] == before
    assert model[0].weight.is_contiguous(memory_format=torch.channels_last_3d)
    assert model[1].weight.is_contiguous(memory_format=torch.channels_last)
    # Activations follow the weights, from plain clips on.
    maps = model[0](torch.randn(4, 4, 4, 16, 16))
    assert maps.is_contiguous(memory_format=torch.channels_last_3d)
