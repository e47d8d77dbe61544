"""Loading any weights, strictly: every tensor claimed, every parameter filled."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from avadet.convert import architectures, zoo
from avadet.convert.recognise import Recognised, backbone_layout, recognise, unwrap
from avadet.convert.rules import fit, listing
from avadet.convert.unpickle import read_checkpoint
from avadet.errors import UserError
from avadet.models.description import (
    ModelDescription,
    create,
    load_weights,
    read_description,
)
from avadet.registry import suggest

logger = logging.getLogger(__name__)

# A tensor of each kind of image network that can be inflated.
_IMAGE_NETWORKS = ("layer1.0.conv2.weight", "inception3a.branch1.conv.weight")


def load_model(
    path_or_name: str | os.PathLike[str],
    arch: str | None = None,
    class_names: Sequence[str] | None = None,
) -> nn.Module:
    """A network with its weights, in evaluation mode.

    Args:
        path_or_name: a checkpoint file of avadet, PySlowFast (``.pyth`` or Caffe2 ``.pkl``),
            PyTorchVideo, MMAction2, VMZ or torchvision; or a name of ``avadet zoo list``, which is
            taken from the cache or downloaded.
        arch: name of the architecture (``avadet models``), for files that leave it open.
        class_names: K names to carry instead of the file's own; for data sets whose list may not
            be handed on (Charades), or in another language.

    Returns:
        ``model(video)`` gives class logits, ``model(video, boxes)`` box logits; ``.description``
        holds preprocessing, classes and sampling.

    Raises:
        UserError: unreadable, unknown, ambiguous, or tensors without a place; the message lists
            them all.
    """
    path, published = _locate(path_or_name)
    own = _is_own(path)
    model: Any = load_weights(path) if own else load_recognised(recognise(path, arch, published))
    if class_names is not None:
        try:
            model.description = replace(model.description, class_names=tuple(class_names))
        except UserError as error:
            raise UserError(f"{path_or_name}: {error}") from error
    return model


def load_recognised(found: Recognised) -> nn.Module:
    """The network of a recognised checkpoint, in evaluation mode.

    Raises:
        UserError: it does not fit; lists every tensor that does not.
    """
    description = found.description
    with torch.device("meta"):
        model = create(description)
    state, problems = fit(found.renamed, model.state_dict())
    if problems:
        raise UserError(
            f"{found.path}: read as {found.layout.source} weights of {description.name}, but it "
            "does not fit:\n" + "\n".join(problems)
        )
    model.load_state_dict(state, strict=True, assign=True)
    if any(tensor.is_meta for tensor in model.buffers()):
        # Constants that no file holds were made without values.
        model = create(description)
        model.load_state_dict(state, strict=True)
    model.eval()
    if odd := not_finite(state):
        logger.warning("%s: NaN or infinite values in:\n%s", found.path, listing(odd))
    logger.info(
        "%s: %s weights of %s, %d tensors, %d classes",
        found.path,
        found.layout.source,
        description.name,
        len(found.renamed.tensors),
        description.num_classes,
    )
    return model


def not_finite(state: Mapping[str, Tensor]) -> list[str]:
    """Names of tensors that hold NaN or infinity: whatever the network answers is NaN then."""
    return [n for n, t in state.items() if t.is_floating_point() and not t.isfinite().all()]


def read_backbone(path_or_name: str | os.PathLike[str]) -> dict[str, Tensor] | None:
    """The state of a pre-trained backbone that comes without a classifier, under our names.

    Returns:
        None for every other file: a whole network, or avadet's own.

    Raises:
        UserError: unreadable, or tensors without a place.
    """
    path, _ = _locate(path_or_name)
    if _is_own(path):
        return None
    content, _ = read_checkpoint(path)
    state, _ = unwrap(content, path)
    layout = backbone_layout(state)
    if layout is None:
        return None
    renamed = layout.read(state, path)
    if renamed.unclaimed:
        raise UserError(
            f"{path}: read as a backbone of {layout.source}, but these tensors have no place:\n"
            f"{listing(renamed.unclaimed)}"
        )
    if odd := not_finite(renamed.tensors):
        logger.warning("%s: NaN or infinite values in:\n%s", path, listing(odd))
    logger.info("%s: a pre-trained backbone of %s, without a classifier", path, layout.source)
    return {name.removeprefix("backbone."): value for name, value in renamed.tensors.items()}


def read_image_network(path_or_name: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The state dict of a 2D ImageNet ResNet or GoogLeNet, torchvision's names, for inflation.

    Raises:
        UserError: unreadable, or another network.
    """
    path, _ = _locate(path_or_name)
    content, _ = read_checkpoint(path)
    state, _ = unwrap(content, path)
    first = [state[name] for name in _IMAGE_NETWORKS if name in state]
    if not first or first[0].ndim != 4:
        raise UserError(
            f"{path}: neither a 2D ResNet nor a GoogLeNet under torchvision's names; only those "
            f"are inflated (its first tensors: {', '.join(list(state)[:3])})"
        )
    return {name: t.float() if t.is_floating_point() else t for name, t in state.items()}


def inspect(path_or_name: str | os.PathLike[str], arch: str | None = None) -> tuple[str, bool]:
    """What a checkpoint is, in words, and whether it would load.

    Returns:
        format, source, architecture and where it was told from, tensors, classes, preprocessing,
        and everything that does not fit.

    Raises:
        UserError: the file cannot be read at all.
    """
    path, published = _locate(path_or_name)
    if _is_own(path):
        description = read_description(path)
        return "\n".join([f"{path}: avadet's own", *_described(description)]), True
    content, kind = read_checkpoint(path)
    state, _ = unwrap(content, path)
    lines = [f"{path}: {kind} file, {len(state)} tensors"]
    try:
        found = recognise(path, arch, published)
    except UserError as error:
        return "\n".join([*lines, f"not recognised: {error}"]), False
    lines.append(f"source: {found.layout.source}")
    lines += found.assumed
    lines += _described(found.description)
    if found.renamed.ignored:
        lines.append(f"left aside: {len(found.renamed.ignored)} tensors of the training state")
    if odd := not_finite(found.renamed.tensors):
        lines += ["NaN or infinite values in:", listing(odd)]
    problems = problems_of(found)
    if problems:
        lines += ["does not fit:", *problems]
    else:
        lines.append("every tensor has its place, every parameter is filled")
    return "\n".join(lines), not problems


def _described(description: ModelDescription) -> list[str]:
    clip = description.preprocessing
    names = description.class_names
    some = f" ({', '.join(names[:3])}, ...)" if names else ""
    lines = [
        f"network: {description.name}: {description.backbone} {description.backbone_args}, "
        f"head {description.head} {description.head_args}",
        f"task: {description.task}, {description.num_classes} classes{some}, "
        f"{description.activation}",
        f"clip: {clip.num_frames} frames, stride {clip.frame_stride} at {clip.fps:g} fps, short "
        f"side {clip.test_short_side}, {clip.channel_order}, mean {clip.mean}, std {clip.std}",
    ]
    with torch.device("meta"):
        head: Any = create(description).head
    if hasattr(head, "bank_window"):
        window = head.bank_window
        lines.append(
            f"asks: a long-term feature bank (`avadet features`) of {head.bank_channels} channels, "
            f"{window.seconds:g} s around each keyframe at {window.rate:g} per second, up to "
            f"{window.max_persons} people a step"
        )
    return lines


def problems_of(found: Recognised) -> list[str]:
    """Everything that would not fit, [] when it loads."""
    with torch.device("meta"):
        model = create(found.description)
    return fit(found.renamed, model.state_dict())[1]


def _locate(path_or_name: str | os.PathLike[str]) -> tuple[Path, str | None]:
    """The file, and for a name of the zoo the architecture it was published as."""
    path = Path(path_or_name)
    if path.exists():
        return path, None
    name = str(path_or_name)
    row = zoo.rows().get(name)
    if row is None:
        known = sorted(zoo.rows())
        if Path(name).suffix or os.sep in name:
            raise UserError(f"{name}: there is no such file")
        weightless = name in architectures.architectures()
        hint = (
            f"'{name}' is an architecture without public weights"
            if weightless
            else f"'{name}' is neither a file nor a name of the zoo.{suggest(name, known)}"
        )
        raise UserError(f"{hint}; `avadet zoo list` shows what can be had")
    return zoo.get(name), row.arch or None


def _is_own(path: Path) -> bool:
    """Whether a file is avadet's own: safetensors with a description inside."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return "avadet" in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False
