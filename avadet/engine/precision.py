"""Number formats: which one, and where bfloat16 must not be trusted.

Measured in training on CPU, speed over float32 in plain layout (torch 2.14, one or two cores):

- bfloat16 with ``channels_last_3d``: small and full 3D ResNets 2.8 with AMX, 3.6-5.0 with
  AVX512-BF16 alone (2.7-4.3 with the stem in float32); the tiny SlowFast 2.1 on 112 pixels, 1.2 on
  64; the tiny ir-CSN and X3D-M 2.8, with the gradients of ``models.depthwise`` (0.9-1.0 with
  torch's);
- bfloat16 in plain layout: 1.3 with AMX, 1.05-3.4 with AVX512-BF16;
- float32 with ``channels_last_3d``: 1.0-1.3, but 0.8-0.9 for the tiny networks.

So ``auto`` takes bfloat16 with ``channels_last_3d`` where the CPU has either instruction set, and
plain float32 elsewhere: a CPU with neither emulates bfloat16 and loses.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from avadet.errors import UserError

# Inputs with at most this many channels are pictures, not features.
_STEM_CHANNELS = 4


@dataclass(frozen=True)
class Precision:
    """A resolved choice.

    Attributes:
        name: "fp32", "bf16" or "fp16"; weights and optimiser state are float32 in all.
        device_type: "cpu", "cuda", ...
    """

    name: Literal["fp32", "bf16", "fp16"]
    device_type: str

    @property
    def dtype(self) -> torch.dtype:
        """Of the activations."""
        return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[self.name]

    @contextmanager
    def autocast(self) -> Iterator[None]:
        """Context in which the model runs."""
        with torch.autocast(self.device_type, dtype=self.dtype, enabled=self.name != "fp32"):
            yield

    def scaler(self) -> torch.amp.GradScaler:
        """Loss scaling: dynamic for float16, whose small gradients vanish; else off."""
        return torch.amp.GradScaler(self.device_type, enabled=self.name == "fp16")


def cpu_has_bfloat16() -> bool:
    """True where the CPU multiplies bfloat16 in hardware (AMX or AVX512-BF16)."""
    probes = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    found = [getattr(torch.cpu, probe)() for probe in probes if hasattr(torch.cpu, probe)]
    return any(found)


def resolve(name: str, device: torch.device | str) -> Precision:
    """The precision meant by ``name`` ("auto", "fp32", "bf16", "fp16") on ``device``.

    ``auto`` is bfloat16 on a GPU and a CPU that compute it in hardware, float16 on older CUDA
    GPUs, float32 elsewhere.

    Raises:
        UserError: the name is unknown or the device cannot do it.
    """
    kind = torch.device(device).type
    if name == "auto":
        if kind == "cuda":
            return Precision("bf16" if _cuda_has_bfloat16() else "fp16", kind)
        return Precision("bf16" if kind == "cpu" and cpu_has_bfloat16() else "fp32", kind)
    if name == "bf16" and kind == "cuda" and not _cuda_has_bfloat16():
        raise UserError("precision bf16: this GPU has no bfloat16 units; use fp16 or auto")
    if name == "fp32":
        return Precision("fp32", kind)
    if name == "bf16":
        return Precision("bf16", kind)
    if name == "fp16":
        return Precision("fp16", kind)
    raise UserError(f"unknown precision '{name}'. Known: auto, bf16, fp16, fp32")


def _cuda_has_bfloat16() -> bool:
    # Compute capability 8.0 (Ampere); earlier GPUs emulate it slowly.
    return torch.cuda.get_device_capability()[0] >= 8


class GuardedConv3d(nn.Conv3d):
    """A Conv3d that leaves autocast on the CPU where bfloat16 gradients cannot be trusted.

    Measured with torch 2.14 (oneDNN) against float32; elsewhere bfloat16 is 0.3% off at most:

    - A clip of 1 < T < k frames under a temporal kernel of k: the weight gradient holds whatever
      was in memory (off by 100%, infinite or NaN), with AVX512-BF16, whatever the spatial size,
      the kernel (3, 5, 7) and the memory format.
    - Three input channels, with AMX: NaN or 1% off and different from call to call, for example
      32 outputs, kernel 1x5x5, stride 1x2x2 on 8x3x4x128x160.

    Both cost little in float32: such clips are short, and stems have few channels.
    """

    def forward(self, input: Tensor) -> Tensor:
        kernel, frames = self.kernel_size[0], input.shape[-3]
        if input.device.type == "cpu" and (
            self.in_channels <= _STEM_CHANNELS or 1 < frames < self.dilation[0] * (kernel - 1) + 1
        ):
            with torch.autocast("cpu", enabled=False):
                return super().forward(input.float())
        return super().forward(input)


def guard_convolutions(model: nn.Module) -> int:
    """Turns every Conv3d into a ``GuardedConv3d``; returns how many there are.

    The class is swapped rather than ``forward`` patched, so that parameters, copies, state dicts
    and ``isinstance`` are as before.
    """
    count = 0
    for module in model.modules():
        if type(module) is nn.Conv3d:
            module.__class__ = GuardedConv3d
        count += isinstance(module, GuardedConv3d)
    return count


def use_channels_last(model: nn.Module) -> None:
    """Lays convolution weights out channels-last; activations follow the weights by themselves."""
    for parameter in model.parameters():
        if parameter.ndim == 5:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last_3d)
        elif parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)


def place(
    model: nn.Module,
    device: torch.device,
    precision: Precision,
    channels_last: bool | None = None,
) -> nn.Module:
    """Moves a model to ``device`` and readies it for ``precision``; parameters stay the same.

    Args:
        channels_last: memory format of the convolutions; by default with bfloat16 on the CPU,
            where it gains most (see above).
    """
    model.to(device)
    if channels_last is None:
        channels_last = device.type == "cpu" and precision.name == "bf16"
    if channels_last:
        use_channels_last(model)
    if device.type == "cpu" and precision.name != "fp32":
        guard_convolutions(model)
    return model


def default_device(name: str = "auto", local_rank: int = 0) -> torch.device:
    """``auto``: this process's CUDA GPU where there is one, else the CPU.

    Raises:
        UserError: the device named is not on this machine.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(f"device '{name}': use cpu, cuda, cuda:0, ...") from error
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise UserError("device 'cuda': torch sees no CUDA GPU here; use device=cpu")
        device = torch.device("cuda", local_rank if device.index is None else device.index)
        if device.index >= torch.cuda.device_count():
            raise UserError(f"device '{device}': there are {torch.cuda.device_count()} GPUs here")
    return device
