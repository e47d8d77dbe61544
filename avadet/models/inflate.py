"""From image networks to video networks: 2D ResNet weights in 3D backbones.

A filter k x k becomes t x k x k, either repeated along time and divided by t (I3D, Carreira and
Zisserman, CVPR 2017, section 2.2), or placed in the middle with zeros around. A still clip then
gives the image network's features: with "center" in every frame, with "mean" in the frames that
the zero padding at the clip's ends does not reach.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from avadet.errors import UserError
from avadet.models.backbones.resnet3d import ResNet3D
from avadet.models.backbones.slowfast import SlowFast

MODES = ("mean", "center")
_LAYERS = {"1": "a", "2": "b", "3": "c"}


def inflate_filter(weight: Tensor, kernel_t: int, mode: str = "mean") -> Tensor:
    """(O,I,h,w) -> (O,I,kernel_t,h,w)."""
    if mode == "mean":
        return weight.unsqueeze(2).repeat(1, 1, kernel_t, 1, 1) / kernel_t
    if mode == "center":
        inflated = weight.new_zeros(*weight.shape[:2], kernel_t, *weight.shape[2:])
        inflated[:, :, kernel_t // 2] = weight
        return inflated
    raise UserError(f"inflation mode: '{mode}' is not one of {', '.join(MODES)}")


def image_key_to_video_key(key: str) -> str | None:
    """torchvision's ResNet key -> the key in ``ResNet3D``; None for the classifier ``fc.*``.

    Raises:
        UserError: not a key of torchvision's bottleneck ResNets.
    """
    if key.startswith("fc."):
        return None
    if match := re.fullmatch(r"(conv|bn)1\.(\w+)", key):
        return f"stem.{'conv' if match[1] == 'conv' else 'norm'}.{match[2]}"
    if match := re.fullmatch(r"layer(\d)\.(\d+)\.(conv|bn)([123])\.(\w+)", key):
        part = "conv" if match[3] == "conv" else "norm"
        stage = int(match[1]) + 1
        return f"res{stage}.blocks.{match[2]}.{_LAYERS[match[4]]}.{part}.{match[5]}"
    if match := re.fullmatch(r"layer(\d)\.(\d+)\.downsample\.([01])\.(\w+)", key):
        part = "conv" if match[3] == "0" else "norm"
        return f"res{int(match[1]) + 1}.blocks.{match[2]}.shortcut.{part}.{match[4]}"
    raise UserError(
        f"'{key}' is not a tensor of torchvision's ResNet-50/101/152; give such a state dict"
    )


@torch.no_grad()
def inflate_resnet(
    backbone: nn.Module, image_state: Mapping[str, Tensor], mode: str = "mean"
) -> list[str]:
    """Fills a backbone from an image network, in place.

    In SlowFast the Slow pathway is filled, and its weights on what the lateral connections bring
    start at 0, so that it begins as the image network; the thin Fast pathway stays as it is. In
    CSN the depthwise layers stay as they are.

    Args:
        backbone: a ``ResNet3D`` or a ``SlowFast``.
        image_state: torchvision's ``resnet50``, ``resnet101`` or ``resnet152`` state dict.
        mode: "mean" or "center".

    Returns:
        keys of the backbone that were left as they were.

    Raises:
        UserError: the image network is not of the backbone's depth and width; the message names
            the tensors.
    """
    pathway = backbone.slow if isinstance(backbone, SlowFast) else backbone
    if not isinstance(pathway, ResNet3D):
        raise UserError(f"{type(backbone).__name__} is not ResNet-shaped: it cannot be inflated")
    target = pathway.state_dict()
    filled: dict[str, Tensor] = {}
    misfits = []
    for key, value in image_state.items():
        name = image_key_to_video_key(key)
        if name is None:
            continue
        if name not in target:
            # ip-CSN has a composite in place of the 3x3 layer.
            if f"{name.removesuffix('weight')}depthwise.weight" not in target:
                misfits.append(f"{key}: the backbone has no {name}")
            continue
        slot = target[name]
        if slot.ndim == 5:
            if slot.shape[1] == 1 and value.shape[1] > 1:
                continue  # depthwise
            value = inflate_filter(value, slot.shape[2], mode)
            lateral = slot.shape[1] - value.shape[1]
            if lateral > 0 and isinstance(backbone, SlowFast):
                value = torch.cat(
                    [value, value.new_zeros(len(value), lateral, *value.shape[2:])], 1
                )
        if slot.shape != value.shape:
            misfits.append(f"{key}: {tuple(value.shape)} does not fit {name} {tuple(slot.shape)}")
            continue
        filled[name] = value
    blocks = [name for name in target if name.endswith("conv.weight") and ".non_local." not in name]
    for name in blocks:
        depthwise = target[name].shape[1] == 1
        if name not in filled and not depthwise and not misfits:
            misfits.append(f"{name}: the image network has nothing for it")
    if misfits:
        more = f" (and {len(misfits) - 5} more)" if len(misfits) > 5 else ""
        raise UserError(
            f"the image network does not fit: {'; '.join(misfits[:5])}{more}. "
            "Depth and width must be those of the backbone"
        )
    # Nothing is written before everything fits.
    for name, value in filled.items():
        target[name].copy_(value)
    prefix = "slow." if isinstance(backbone, SlowFast) else ""
    done = {prefix + name for name in filled}
    return [name for name in backbone.state_dict() if name not in done]
