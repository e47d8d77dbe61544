"""Detectron2's Faster R-CNN checkpoints: names and shapes into avadet's.

A table of renamings and a reading of the architecture from the shapes. What a person detector
has no use for (mask and keypoint heads) is set aside by name and said; anything else without a
rule is an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from avadet.errors import UserError

# (pattern, replacement), tried in order on names without the "bottom_up" level. The first group
# of renamings is of whole parts, the second of the convolutions within a ResNet.
RENAMINGS = (
    (r"backbone\.stem\.conv1\.(weight)", r"backbone.stem.conv.\1"),
    (r"backbone\.stem\.conv1\.norm\.(\w+)", r"backbone.stem.norm.\1"),
    (r"backbone\.(res\d\.\d+\.\w+)\.weight", r"backbone.\1.conv.weight"),
    (r"backbone\.(res\d\.\d+\.\w+\.norm\.\w+)", r"backbone.\1"),
    (r"backbone\.fpn_(lateral|output)(\d)\.(\w+)", r"pyramid.\1.\2.\3"),
    (r"proposal_generator\.rpn_head\.conv\.(\w+)", r"proposals.conv.\1"),
    (r"proposal_generator\.rpn_head\.objectness_logits\.(\w+)", r"proposals.objectness.\1"),
    (r"proposal_generator\.rpn_head\.anchor_deltas\.(\w+)", r"proposals.deltas.\1"),
    (r"roi_heads\.res5\.(\d+\.\w+)\.weight", r"box_head.trunk.res5.\1.conv.weight"),
    (r"roi_heads\.res5\.(\d+\.\w+\.norm\.\w+)", r"box_head.trunk.res5.\1"),
    (r"roi_heads\.box_head\.(fc[12]\.\w+)", r"box_head.trunk.\1"),
    (r"roi_heads\.box_predictor\.cls_score\.(\w+)", r"box_head.classifier.\1"),
    (r"roi_heads\.box_predictor\.bbox_pred\.(\w+)", r"box_head.deltas.\1"),
)
# Constants that the code makes itself.
CONSTANTS = re.compile(r"(pixel_mean|pixel_std|.*anchor_generator.*|.*num_batches_tracked)$")
# Parts beyond boxes.
OTHER_HEADS = {
    "keypoint head": re.compile(r"roi_heads\.keypoint_"),
    "mask head": re.compile(r"roi_heads\.mask_"),
}


@dataclass(frozen=True)
class DetectorWeights:
    """A converted checkpoint.

    Attributes:
        state: avadet's state dict.
        name: of the architecture, as in the registry of person detectors.
        num_classes: foreground classes.
        ignored: parts set aside, in words, with the number of tensors.
        filled: how many normalisation statistics the file left out (old files keep them in the
            affine map: mean 0, variance 1).
        pixel_mean, pixel_std: where the file has them.
        resnext: whether the backbone has groups.
    """

    state: dict[str, Tensor]
    name: str
    num_classes: int
    ignored: tuple[str, ...]
    filled: int
    pixel_mean: tuple[float, ...] | None
    pixel_std: tuple[float, ...] | None
    resnext: bool


def is_detectron2(content: Any) -> bool:
    """Whether a checkpoint's content looks like a Detectron2 region-based detector."""
    state = content.get("model", content) if isinstance(content, Mapping) else {}
    return isinstance(state, Mapping) and any(
        str(name).startswith("roi_heads.box_predictor.") for name in state
    )


def convert(content: Mapping[str, Any], source: str = "checkpoint") -> DetectorWeights:
    """Renames a Detectron2 checkpoint's tensors.

    Args:
        content: the whole file as read, ``{"model": {name: array}}``, or the names directly.
        source: file name for messages.

    Raises:
        UserError: no box predictor, names without a rule, or an architecture that avadet has not.
    """
    raw = content.get("model", content)
    if not is_detectron2(content):
        raise UserError(
            f"{source}: not a Detectron2 Faster R-CNN (no roi_heads.box_predictor); a backbone "
            "alone, RetinaNet and DensePose models cannot be read"
        )
    state: dict[str, Tensor] = {}
    unknown: list[str] = []
    aside: dict[str, int] = {}
    constants: dict[str, tuple[float, ...]] = {}
    for name, value in raw.items():
        if not isinstance(name, str):
            raise UserError(f"{source}: a tensor is called {name!r}, not by a text")
        head = next((part for part, rule in OTHER_HEADS.items() if rule.match(name)), None)
        if head is not None:
            aside[head] = aside.get(head, 0) + 1
        elif CONSTANTS.match(name):
            if name in ("pixel_mean", "pixel_std"):
                constants[name] = tuple(float(v) for v in as_tensor(value, name).flatten())
        else:
            renamed = rename(name)
            if renamed is None:
                unknown.append(name)
            else:
                state[renamed] = as_tensor(value, name)
    if unknown:
        raise UserError(
            f"{source}: no rule for {len(unknown)} tensors, such as '{unknown[0]}'; avadet reads "
            "Faster, Mask and Keypoint R-CNN with R50-C4, R50-DC5, R50-FPN, R101-FPN and "
            "X101-32x8d-FPN backbones"
        )
    name = architecture(state, source)
    return DetectorWeights(
        state=state,
        filled=_fill_statistics(state),
        name=name,
        num_classes=foreground_classes(state.get("box_head.classifier.bias"), source),
        ignored=tuple(f"{part} ({count} tensors)" for part, count in aside.items()),
        pixel_mean=constants.get("pixel_mean"),
        pixel_std=constants.get("pixel_std"),
        resnext="x101" in name,
    )


def foreground_classes(bias: Any, source: str = "checkpoint") -> int:
    """The number of classes but for the background, from the classifier's bias.

    Raises:
        UserError: it is missing or no list of two or more.
    """
    shape = tuple(getattr(bias, "shape", ()))
    if len(shape) != 1 or shape[0] < 2:
        raise UserError(
            f"{source}: roi_heads.box_predictor.cls_score.bias is missing or no list of two or "
            "more classes"
        )
    return int(shape[0]) - 1


def rename(name: str) -> str | None:
    """avadet's name of a Detectron2 tensor, or None where there is no rule."""
    short = name.replace("backbone.bottom_up.", "backbone.")
    for pattern, replacement in RENAMINGS:
        if re.fullmatch(pattern, short):
            return re.sub(pattern, replacement, short)
    return None


# The same table the other way round, for names only.
_BACK = (
    (r"backbone\.stem\.conv\.weight", r"backbone.stem.conv1.weight"),
    (r"backbone\.stem\.norm\.(\w+)", r"backbone.stem.conv1.norm.\1"),
    (r"backbone\.(res\d\.\d+\.\w+)\.conv\.weight", r"backbone.\1.weight"),
    (r"pyramid\.(lateral|output)\.(\d)\.(\w+)", r"backbone.fpn_\1\2.\3"),
    (r"proposals\.conv\.(\w+)", r"proposal_generator.rpn_head.conv.\1"),
    (r"proposals\.objectness\.(\w+)", r"proposal_generator.rpn_head.objectness_logits.\1"),
    (r"proposals\.deltas\.(\w+)", r"proposal_generator.rpn_head.anchor_deltas.\1"),
    (r"box_head\.trunk\.res5\.(\d+\.\w+)\.conv\.weight", r"roi_heads.res5.\1.weight"),
    (r"box_head\.trunk\.res5\.(\d+\.\w+\.norm\.\w+)", r"roi_heads.res5.\1"),
    (r"box_head\.trunk\.(fc[12]\.\w+)", r"roi_heads.box_head.\1"),
    (r"box_head\.classifier\.(\w+)", r"roi_heads.box_predictor.cls_score.\1"),
    (r"box_head\.deltas\.(\w+)", r"roi_heads.box_predictor.bbox_pred.\1"),
)


def original_names(names: Iterable[str]) -> dict[str, str]:
    """Detectron2's name of each of avadet's, {avadet: detectron2}, for writing its checkpoints."""
    names = list(names)
    level = "backbone.bottom_up." if any(n.startswith("pyramid.") for n in names) else "backbone."
    back = {}
    for name in names:
        short = name
        for pattern, replacement in _BACK:
            if re.fullmatch(pattern, name):
                short = re.sub(pattern, replacement, name)
                break
        if short.startswith(("backbone.stem", "backbone.res")):
            short = level + short.removeprefix("backbone.")
        back[name] = short
    return back


def architecture(state: Mapping[str, Tensor], source: str = "checkpoint") -> str:
    """The detector's name, read from the shapes of a converted state dict.

    Raises:
        UserError: it is none of those that avadet builds.
    """
    blocks = len({n.split(".")[2] for n in state if n.startswith("backbone.res4.")})
    depth = {6: 50, 23: 101}.get(blocks)
    first = state.get("backbone.res2.0.conv2.conv.weight")
    if depth is None or first is None or state.get("backbone.res2.0.conv3.conv.weight") is None:
        raise UserError(f"{source}: a backbone with {blocks} blocks in res4 is not supported")
    if first.ndim != 4 or not first.shape[1]:
        raise UserError(
            f"{source}: res2.0.conv2 has the shape {list(first.shape)}, unlike any 3x3 convolution"
        )
    groups = first.shape[0] // first.shape[1]
    if "pyramid.lateral.5.weight" in state:
        if groups == 1:
            return f"faster_rcnn_r{depth}_fpn"
        if (depth, groups, first.shape[0]) == (101, 32, 256):
            return "faster_rcnn_x101_32x8d_fpn"
    elif depth == 50 and groups == 1:
        if "box_head.trunk.res5.0.conv1.conv.weight" in state:
            return "faster_rcnn_r50_c4"
        if "box_head.trunk.fc1.weight" in state:
            return "faster_rcnn_r50_dc5"
    raise UserError(
        f"{source}: a ResNet-{depth} with {groups} groups of width {first.shape[1]} in this "
        "layout is not supported; known: R50-C4, R50-DC5, R50-FPN, R101-FPN, X101-32x8d-FPN"
    )


def _fill_statistics(state: dict[str, Tensor]) -> int:
    filled = 0
    for name in [n for n in state if n.endswith("norm.weight")]:
        for kind, make in (("running_mean", torch.zeros_like), ("running_var", torch.ones_like)):
            key = name.removesuffix("weight") + kind
            if key not in state:
                state[key] = make(state[name])
                filled += 1
    return filled


def as_tensor(value: Any, name: str = "tensor") -> Tensor:
    """float32, from a torch tensor or a numpy array.

    Raises:
        UserError: ``name`` holds something else than numbers.
    """
    if isinstance(value, Tensor):
        return value.detach().float()
    try:
        return torch.from_numpy(np.array(value, dtype=np.float32))
    except (TypeError, ValueError) as error:
        raise UserError(f"'{name}' of the checkpoint holds no numbers ({error})") from error
