"""From image networks to video networks: 2D weights in 3D backbones.

A filter k x k becomes t x k x k, either repeated along time and divided by t (I3D, Carreira and
Zisserman, CVPR 2017, section 2.2), or placed in the middle with zeros around. Where a layer comes
in parts, the spatial one is the image network's and the others start so that they change nothing.
A still clip then gives the image network's features: with "center" in every frame, with "mean" in
the frames that the zero padding at the clip's ends does not reach. Networks of optical flow get the
mean of the colours' filters in each of their channels (Temporal Segment Networks, ECCV 2016, 3.2).

Who takes what: every ``ResNet3D`` and SlowFast's Slow pathway take ResNets of their depth under
torchvision's names (timm's plain ResNets have the same), Inception takes torchvision's GoogLeNet.
Left as they are: the depthwise layers of CSN, SlowFast's Fast pathway, and the LSTM of ``CNNLSTM``.
R(2+1)D takes none: a ReLU lies between the parts of its layers, and where channels double too few
pass between for either sign. C3D, X3D and the transformers have no image network of their shape.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from avadet.errors import UserError
from avadet.models.backbones.cnn_lstm import CNNLSTM
from avadet.models.backbones.factorised import Factorised, PseudoUnit
from avadet.models.backbones.inception3d import MIXED, Inception3D, SplitLayer
from avadet.models.backbones.resnet3d import STAGES, ResNet3D
from avadet.models.backbones.slowfast import SlowFast

MODES = ("mean", "center")
_LAYERS = {"a": "1", "b": "2", "c": "3"}
# Of an image batch norm; the counter may be missing in old files.
_NORM = ("weight", "bias", "running_mean", "running_var")
_GOOGLENET = ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")
_LISTED = 5

# Name of the layer in the backbone, of its convolution and of its norm in the image network.
Pair = tuple[str, str, str]


def inflate_filter(weight: Tensor, kernel_t: int, mode: str = "mean") -> Tensor:
    """(O,I,h,w) -> (O,I,kernel_t,h,w).

    Raises:
        UserError: ``mode`` is neither "mean" nor "center".
    """
    if mode == "mean":
        return weight.unsqueeze(2).repeat(1, 1, kernel_t, 1, 1) / kernel_t
    if mode == "center":
        inflated = weight.new_zeros(*weight.shape[:2], kernel_t, *weight.shape[2:])
        inflated[:, :, kernel_t // 2] = weight
        return inflated
    raise UserError(f"inflation mode: '{mode}' is not one of {', '.join(MODES)}")


@torch.no_grad()
def inflate(
    backbone: nn.Module, image_state: Mapping[str, Tensor], mode: str = "mean"
) -> list[str]:
    """Fills a backbone from an image network, in place.

    In SlowFast the Slow pathway is filled, and its weights on what the lateral connections bring
    start at 0, so that it begins as the image network.

    Args:
        backbone: see the module.
        image_state: state dict of torchvision's ``resnet18`` .. ``resnet152`` or ``googlenet``
            (whose published weights expect pixels from -1 to 1: mean and std 0.5); the classifiers
            ``fc.*`` and ``aux*`` are left out.
        mode: "mean" or "center".

    Returns:
        keys of the backbone that were left as they were.

    Raises:
        UserError: the image network is not of the backbone's kind, depth and width; the message
            names the tensors. Nothing has been written then.
    """
    trunk, prefix, pairs = _trunk(backbone)
    filled: dict[str, Tensor] = {}
    misfits: list[str] = []
    claimed: set[str] = set()
    for name, conv, norm in pairs:
        claimed |= {f"{conv}.weight", f"{norm}.num_batches_tracked"}
        claimed |= {f"{norm}.{end}" for end in _NORM}
        missing = [
            key
            for key in (f"{conv}.weight", *(f"{norm}.{end}" for end in _NORM))
            if key not in image_state
        ]
        if missing:
            misfits.append(f"{name}: the image network has no {missing[0]}")
            continue
        layer = trunk.get_submodule(name)
        statistics = {end: image_state[f"{norm}.{end}"] for end in _NORM}
        values = _fill(layer, image_state[f"{conv}.weight"], statistics, mode, name)
        own = layer.state_dict()
        for key, value in values.items():
            value = _with_lateral(value, own[key]) if isinstance(backbone, SlowFast) else value
            if value.shape != own[key].shape:
                misfits.append(
                    f"{conv if 'conv' in key else norm}: {tuple(value.shape)} does not fit "
                    f"{name}.{key} {tuple(own[key].shape)}"
                )
            filled[f"{name}.{key}"] = value
    strangers = [key for key in image_state if key not in claimed and not _classifier(key)]
    misfits += [f"{key}: the backbone has no layer for it" for key in strangers]
    if misfits:
        more = f" (and {len(misfits) - _LISTED} more)" if len(misfits) > _LISTED else ""
        raise UserError(
            f"the image network does not fit: {'; '.join(misfits[:_LISTED])}{more}. "
            "Kind, depth and width must be those of the backbone"
        )
    target = trunk.state_dict()
    for key, value in filled.items():
        target[key].copy_(value)
    return [key for key in backbone.state_dict() if key.removeprefix(prefix) not in filled]


def average_colours(state: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a network of pictures for the same network of optical flow.

    Where ``target`` has two input channels for three of ``state``, each gets the mean of the
    colours' filters; every other tensor stays as it is.
    """
    return {
        key: value.mean(1, keepdim=True).repeat(1, 2, 1, 1, 1)
        if value.ndim == 5 and key in target and _first_of_flow(value, target[key])
        else value
        for key, value in state.items()
    }


def _first_of_flow(colours: Tensor, flow: Tensor) -> bool:
    return colours.shape[1] == 3 and flow.shape == (len(colours), 2, *colours.shape[2:])


def _classifier(key: str) -> bool:
    return key.startswith(("fc.", "aux"))


def _trunk(backbone: nn.Module) -> tuple[nn.Module, str, list[Pair]]:
    """The part that is filled, its prefix in the backbone's keys, and its layers."""
    if isinstance(backbone, Inception3D):
        return backbone, "", list(_inception_pairs())
    if isinstance(backbone, SlowFast):
        return backbone.slow, "slow.", list(_resnet_pairs(backbone.slow))
    if isinstance(backbone, CNNLSTM):
        return backbone.frames, "frames.", list(_resnet_pairs(backbone.frames))
    if isinstance(backbone, ResNet3D):
        return backbone, "", list(_resnet_pairs(backbone))
    raise UserError(
        f"{type(backbone).__name__} has the shape of no image network: it cannot be inflated"
    )


def _resnet_pairs(network: ResNet3D) -> Iterator[Pair]:
    yield "stem", "conv1", "bn1"
    for number, stage in enumerate(STAGES, start=1):
        for i, block in enumerate(getattr(network, stage).blocks):
            ours, theirs = f"{stage}.blocks.{i}", f"layer{number}.{i}"
            for layer, digit in _LAYERS.items():
                if hasattr(block, layer):
                    yield f"{ours}.{layer}", f"{theirs}.conv{digit}", f"{theirs}.bn{digit}"
            if not isinstance(block.shortcut, nn.Identity):
                yield f"{ours}.shortcut", f"{theirs}.downsample.0", f"{theirs}.downsample.1"


def _inception_pairs() -> Iterator[Pair]:
    for i in (1, 2, 3):
        yield f"conv{i}", f"conv{i}.conv", f"conv{i}.bn"
    for theirs, ours in zip(_GOOGLENET, MIXED, strict=True):
        block = f"inception{theirs}"
        branches = [("branch1", "branch1"), ("branch4", "branch4.1")]
        branches += [(f"branch{b}.{i}", f"branch{b}.{i}") for b in (2, 3) for i in (0, 1)]
        for own, branch in branches:
            yield f"mixed.{ours}.{own}", f"{block}.{branch}.conv", f"{block}.{branch}.bn"


def _fill(
    layer: nn.Module, weight: Tensor, norm: Mapping[str, Tensor], mode: str, name: str
) -> dict[str, Tensor]:
    """Tensors of one layer of the backbone, by their names in it."""
    image = {f"norm.{end}": value for end, value in norm.items()}
    if isinstance(layer, SplitLayer):
        spatial = {"conv.weight": weight.unsqueeze(2), **image}
        spatial["conv.weight"] = _for_channels(spatial["conv.weight"], layer.spatial.conv)
        values = {f"spatial.{key}": value for key, value in spatial.items()}
        values["temporal.conv.weight"] = _pass_through(layer.temporal.conv)
        # A gate without weights is half open.
        scale = 1.0 if layer.gate is None else 2.0
        values |= _neutral(layer.temporal.norm, "temporal.norm.", scale)
        if layer.gate is not None:
            values |= {
                f"gate.{key}": torch.zeros_like(value)
                for key, value in layer.gate.named_parameters()
            }
        return values
    conv = layer.conv
    if isinstance(conv, PseudoUnit):
        return _pseudo_unit(conv, layer.norm, weight, norm)
    if isinstance(conv, Factorised):
        raise UserError(
            f"{name}: a ReLU lies between the parts of R(2+1)D's layers, so that no image network "
            "can be put into them"
        )
    if not isinstance(conv, nn.Conv3d) or conv.groups > 1:
        return image  # CSN's depthwise layers stay
    inflated = inflate_filter(weight, conv.kernel_size[0], mode)
    return {"conv.weight": _for_channels(inflated, conv, mode), **image}


def _pseudo_unit(
    unit: PseudoUnit, last: nn.Module, weight: Tensor, norm: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """P3D's units: S is the image layer. T passes on what S gives (A, C), or nothing (B)."""
    values = {"conv.spatial.weight": weight.unsqueeze(2)}
    values |= {f"conv.spatial_norm.{end}": value for end, value in norm.items()}
    if unit.kind == "A":  # T(S)
        values["conv.temporal.weight"] = _pass_through(unit.temporal)
        return values | _neutral(last, "norm.")
    if unit.kind == "C":  # S + T(S), halved
        values["conv.temporal.weight"] = _pass_through(unit.temporal)
        values |= _neutral(unit.temporal_norm, "conv.temporal_norm.")
        return values | _neutral(last, "norm.", 0.5)
    # S + T(x): T's norm starts with weight 0 and gives 1, where its ReLU lets gradients through;
    # the last norm takes that off. The temporal filters stay as they were drawn.
    values |= _neutral(unit.temporal_norm, "conv.temporal_norm.", 0.0)
    values["conv.temporal_norm.bias"] = torch.ones_like(unit.temporal_norm.bias)
    values |= _neutral(last, "norm.")
    values["norm.running_mean"] = torch.ones_like(last.running_mean)
    return values


def _pass_through(conv: nn.Conv3d) -> Tensor:
    """Weights of a temporal convolution that gives each channel as it is."""
    weight = torch.zeros_like(conv.weight)
    channels = torch.arange(conv.out_channels)
    weight[channels, channels, conv.kernel_size[0] // 2] = 1
    return weight


def _neutral(norm: nn.Module, prefix: str, scale: float = 1.0) -> dict[str, Tensor]:
    """A batch norm that multiplies by ``scale`` with its running statistics."""
    one = torch.ones_like(norm.weight)
    return {
        f"{prefix}weight": one * scale * (1 + norm.eps) ** 0.5,
        f"{prefix}bias": one * 0,
        f"{prefix}running_mean": one * 0,
        f"{prefix}running_var": one,
    }


def _for_channels(weight: Tensor, conv: nn.Conv3d, mode: str = "mean") -> Tensor:
    """First-layer filters for flow, or for frames that enter as channels (R2D)."""
    have, want = weight.shape[1], conv.in_channels
    if have != 3 or want == have:
        return weight
    if want % 3 == 0:  # R2D: channel by channel, all its frames
        frames = inflate_filter(weight[:, :, 0], want // 3, mode)
        return frames.flatten(1, 2).unsqueeze(2)
    return weight.mean(1, keepdim=True).repeat(1, want, 1, 1, 1)


def _with_lateral(value: Tensor, slot: Tensor) -> Tensor:
    """Zeros for the channels that SlowFast's lateral connections add."""
    more = slot.shape[1] - value.shape[1] if value.ndim == 5 else 0
    if more <= 0 or value.shape[0] != slot.shape[0]:
        return value
    return torch.cat([value, value.new_zeros(len(value), more, *value.shape[2:])], 1)
