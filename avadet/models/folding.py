"""Networks that only run: norms folded into convolutions, ReLU inside them, one call each.

Measured with torch 2.14 on a CPU (SlowFast R50, one clip): torch sends 1x1x1 convolutions to a
slow kernel where one thread runs them, and a ReLU of its own costs a pass over memory. Calling
oneDNN directly, on channels-last maps, runs all convolutions at the speed of its matrix product.
"""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avadet.models.depthwise import DepthwiseConv3d


class FusedConv3d(nn.Module):
    """A convolution for inference: own number format, channels-last weights, ReLU on request.

    Input of another format is converted. Parameter names: ``weight``, ``bias``; never trained.

    Shape: (B,C,T,H,W) -> (B,C',T',H',W').
    """

    def __init__(self, conv: nn.Conv3d, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        if conv.padding_mode != "zeros" or isinstance(conv.padding, str):
            raise ValueError("only convolutions padded with zeros by numbers are fused")
        weight = conv.weight.detach().to(dtype)
        weight = weight.contiguous(memory_format=torch.channels_last_3d)
        bias = weight.new_zeros(len(weight)) if conv.bias is None else conv.bias.detach().to(dtype)
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = nn.Parameter(bias, requires_grad=False)
        self.stride, self.padding = list(conv.stride), list(conv.padding)
        self.dilation, self.groups = list(conv.dilation), conv.groups

    def forward(self, x: Tensor) -> Tensor:
        return self._run(x, "none")

    def rectified(self, x: Tensor) -> Tensor:
        """ReLU of the result."""
        return self._run(x, "relu")

    def _run(self, x: Tensor, after: str) -> Tensor:
        x = x.to(self.weight.dtype)
        shape = (self.padding, self.stride, self.dilation, self.groups)
        if x.device.type == "cpu" and x.numel() and one_dnn_convolves(x.dtype):
            run: Any = torch.ops.mkldnn._convolution_pointwise
            return run(x, self.weight, self.bias, *shape, after, [], "")
        padding, stride, dilation, groups = shape
        y = F.conv3d(x, self.weight, self.bias, stride, padding, dilation, groups)
        return y.relu_() if after == "relu" else y

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        outputs, inputs, *kernel = self.weight.shape
        return (
            f"{inputs * self.groups}, {outputs}, kernel={tuple(kernel)}, stride={self.stride}, "
            f"groups={self.groups}, {self.weight.dtype}"
        )


@cache
def one_dnn_convolves(dtype: torch.dtype) -> bool:
    """Whether oneDNN's fused convolution is here and right, in float32 or bfloat16.

    The operator belongs to torch's compiler and has no promise of stability, hence the trial.
    """
    if dtype not in (torch.float32, torch.bfloat16) or not torch.backends.mkldnn.is_available():
        return False
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 16, 2, 5, 5, generator=generator).to(dtype)
    weight = torch.randn(16, 16, 1, 3, 3, generator=generator).to(dtype)
    bias = torch.randn(16, generator=generator).to(dtype)
    ones = [1, 1, 1]
    try:
        run: Any = torch.ops.mkldnn._convolution_pointwise
        found = run(x, weight, bias, [0, 1, 1], ones, ones, 1, "relu", [], "")
    except (AttributeError, RuntimeError, TypeError):
        return False
    expected = F.conv3d(x.float(), weight.float(), bias.float(), padding=(0, 1, 1)).relu()
    tolerance = 1e-4 if dtype == torch.float32 else 0.05
    return bool((found.float() - expected).abs().max() <= tolerance * expected.abs().max())


def fold_norms(model: nn.Module) -> int:
    """Puts every batch norm that follows a convolution into the convolution, in place.

    y = (W x - mean) * s + shift with s = weight / sqrt(var + eps) is one convolution; computed in
    float64, so only the rounding to the weights' format is left. A norm follows the convolution
    that its module registers right before it (``norm_pairs``). The state dict is another one
    afterwards: save before.

    Returns:
        how many were folded.
    """
    model.eval()
    count = 0
    for module in model.modules():
        for conv_name, norm_name in norm_pairs(module):
            _fold(module.get_submodule(conv_name), module.get_submodule(norm_name))
            parent, _, name = norm_name.rpartition(".")
            setattr(module.get_submodule(parent), name, nn.Identity())
            count += 1
    return count


def norm_pairs(module: nn.Module) -> list[tuple[str, str]]:
    """(convolution, norm) among the direct children of ``module``, by their names.

    The networks here register a norm right after its convolution; modules that do not say their
    pairs themselves, as ``norm_pairs``. A part that stands for a convolution and ends with one
    says which, as ``last_conv``.
    """
    names = [name for name, _ in module.named_children()]
    found = []
    for first, second in getattr(module, "norm_pairs", pairwise(names)):
        last = getattr(module.get_submodule(first), "last_conv", None)
        conv = f"{first}.{last}" if last else first
        if isinstance(module.get_submodule(conv), nn.Conv3d) and isinstance(
            module.get_submodule(second), nn.BatchNorm3d
        ):
            found.append((conv, second))
    return found


def _fold(conv: nn.Module, norm: nn.Module) -> None:
    assert isinstance(conv, nn.Conv3d)
    assert isinstance(norm, nn.BatchNorm3d)
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError("a norm without running statistics cannot be folded")
    with torch.no_grad():
        scale = (norm.running_var.double() + norm.eps).rsqrt()
        if norm.weight is not None:
            scale *= norm.weight.double()
        start = 0.0 if conv.bias is None else conv.bias.double()
        bias = (start - norm.running_mean.double()) * scale
        if norm.bias is not None:
            bias += norm.bias.double()
        weight = conv.weight.double() * scale.view(-1, 1, 1, 1, 1)
        conv.weight = nn.Parameter(weight.to(conv.weight.dtype), requires_grad=False)
        conv.bias = nn.Parameter(bias.to(conv.weight.dtype), requires_grad=False)


def fuse_convolutions(model: nn.Module, dtype: torch.dtype) -> int:
    """Makes every plain 3D convolution a ``FusedConv3d`` in ``dtype``; returns how many.

    Convolutions that pad in a way of their own stay.
    """
    count = 0
    for module in model.modules():
        for name, child in module.named_children():
            # Another subclass with a forward of its own does more than a convolution.
            plain = nn.Conv3d.forward, DepthwiseConv3d.forward
            if isinstance(child, nn.Conv3d) and type(child).forward in plain:
                setattr(module, name, FusedConv3d(child, dtype))
                count += 1
    return count
