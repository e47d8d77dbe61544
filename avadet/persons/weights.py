"""Detectors to and from files: Detectron2's checkpoints, and avadet's own safetensors."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from avadet.convert import detectron2 as tables
from avadet.convert.unpickle import read_checkpoint
from avadet.errors import UserError
from avadet.files import atomic_path
from avadet.persons.faster_rcnn import (
    CAFFE2_NO_PADDING,
    CAFFE2_PIXELS,
    PERSON_MODELS,
    RESNEXT_PIXELS,
    DetectorDescription,
    FasterRCNN,
)
from avadet.persons.images import ImagePreprocessing
from avadet.registry import refuse_code

_log = logging.getLogger(__name__)

WHERE_TO_GET = (
    "train one with `avadet train configs/persons/...`, or download a Detectron2 Faster R-CNN "
    "checkpoint (https://github.com/facebookresearch/detectron2/blob/main/MODEL_ZOO.md, table "
    "COCO Object Detection Baselines, e.g. R50-FPN 3x, model_final_280758.pkl)"
)


def create(description: DetectorDescription) -> FasterRCNN:
    """Builds the detector that a description names, with fresh weights."""
    model: FasterRCNN = PERSON_MODELS.get(description.name)(**description.args)
    model.description = description
    return model


def save(path: str | os.PathLike[str], model: FasterRCNN) -> None:
    """Writes weights and description into one safetensors file.

    Raises:
        UserError: the file cannot be written.
        ValueError: the model carries no description.
    """
    if model.description is None:
        raise ValueError("the detector has no description; build it with persons.weights.create")
    text = json.dumps(
        {
            "task": "persons",
            "name": model.description.name,
            "args": model.description.args,
            "preprocessing": model.description.preprocessing.to_dict(),
            "person_class": model.description.person_class,
            "notes": model.description.notes,
        }
    )
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    with atomic_path(path) as temporary:
        save_file(state, temporary, metadata={"avadet": text})


def load(
    path: str | os.PathLike[str],
    *,
    pixel_std: tuple[float, float, float] | None = None,
    channel_order: str | None = None,
    stride_in_1x1: bool | None = None,
    num_classes: int | None = None,
) -> FasterRCNN:
    """A detector in evaluation mode from a file of either kind, recognised by content.

    Args:
        path: ``.safetensors`` of avadet, or ``.pkl``/``.pth`` of Detectron2.
        pixel_std, channel_order, stride_in_1x1: what a Detectron2 file does not tell, where it
            differs from the published configurations (BGR; std 1, or 57.4, 57.1, 58.4 for
            ResNeXt; stride in the 1x1 convolution, except for ResNeXt).
        num_classes: 1 keeps only the person of a COCO model, to train further on persons.

    Raises:
        UserError: the file is missing, of another kind, or does not fit the architecture.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such weights file; {WHERE_TO_GET}")
    own = _read_own(path)
    if own is not None:
        model = own
    else:
        model = _load_detectron2(path, pixel_std, channel_order, stride_in_1x1)
    if num_classes == 1 and model.box_head.num_classes > 1:
        model = keep_person(model)
    elif num_classes not in (None, model.box_head.num_classes):
        raise UserError(
            f"{path}: has {model.box_head.num_classes} classes and cannot become {num_classes}; "
            "only the reduction to 1 (the person) is offered"
        )
    return model.eval()


def _read_own(path: Path) -> FasterRCNN | None:
    with path.open("rb") as file:
        head = file.read(9)
    if head[8:9] != b"{":
        return None
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get("avadet")
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise UserError(f"{path}: damaged safetensors file ({error}); fetch it again") from error
    if text is None:
        raise UserError(f"{path}: a safetensors file without avadet's description")
    description = _read_description(text, path)
    refuse_code([description.name, description.args], str(path))
    try:
        with torch.device("meta"):
            outline = create(description)
    except (LookupError, RuntimeError, TypeError, UserError, ValueError) as error:
        raise UserError(
            f"{path}: its description makes no detector ({str(error)[:160]})"
        ) from error
    if not 0 <= description.person_class < outline.box_head.num_classes:
        raise UserError(
            f"{path}: its person_class {description.person_class} is not one of its "
            f"{outline.box_head.num_classes} classes"
        )
    _check(outline, state, path)
    model = create(description)
    model.load_state_dict(state)
    return model


def _read_description(text: str, path: Path) -> DetectorDescription:
    try:
        fields = json.loads(text)
        if fields.get("task") != "persons":
            raise UserError(f"{path}: holds a {fields.get('task')} model, not a person detector")
        return DetectorDescription(
            name=str(fields["name"]),
            args=fields["args"],
            preprocessing=ImagePreprocessing.from_dict(fields["preprocessing"]),
            person_class=int(fields["person_class"]),
            notes=fields["notes"],
        )
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise UserError(
            f"{path}: its description is damaged ({type(error).__name__}: {str(error)[:80]})"
        ) from error


def _load_detectron2(
    path: Path,
    pixel_std: tuple[float, float, float] | None,
    channel_order: str | None,
    stride_in_1x1: bool | None,
) -> FasterRCNN:
    content, _ = read_checkpoint(path)
    if not isinstance(content, dict) or not tables.is_detectron2(content):
        raise UserError(
            f"{path}: neither an avadet person detector nor a Detectron2 Faster R-CNN; "
            f"{WHERE_TO_GET}"
        )
    weights = tables.convert(content, str(path))
    if weights.ignored:
        _log.warning("%s: ignored, as boxes need none: %s", path, ", ".join(weights.ignored))
    if weights.filled:
        _log.warning(
            "%s: %d normalisation statistics are not in the file; set to mean 0, variance 1",
            path,
            weights.filled,
        )
    pixels = RESNEXT_PIXELS if weights.resnext else CAFFE2_PIXELS
    if not weights.name.endswith("_fpn"):
        pixels = replace(CAFFE2_NO_PADDING, std=pixels.std)
    # Dictionaries, as what a file tells is of any length; the preprocessing refuses all but three.
    told = {
        "mean": weights.pixel_mean,
        "std": pixel_std or weights.pixel_std,
        "channel_order": channel_order,
    }
    try:
        pixels = ImagePreprocessing.from_dict(
            pixels.to_dict() | {name: value for name, value in told.items() if value is not None}
        )
    except ValueError as error:
        raise UserError(f"{path}: its pixel values make no sense: {error}") from error
    if stride_in_1x1 is None:
        stride_in_1x1 = not weights.resnext
    description = DetectorDescription(
        name=weights.name,
        args={"num_classes": weights.num_classes, "stride_in_1x1": stride_in_1x1},
        preprocessing=pixels,
        notes=f"Detectron2 checkpoint {path.name}",
    )
    model = create(description)
    _fill(model, weights.state, path)
    return model


def _fill(model: FasterRCNN, state: dict, path: Path) -> None:
    _check(model, state, path)
    model.load_state_dict(state)


def _check(model: FasterRCNN, state: dict, path: Path) -> None:
    own = model.state_dict()
    missing = sorted(set(own) - set(state))
    extra = sorted(set(state) - set(own))
    wrong = [n for n in own if n in state and own[n].shape != state[n].shape]
    if missing or extra or wrong:
        first = (missing or extra or wrong)[0]
        raise UserError(
            f"{path}: does not fit {model.description.name if model.description else 'the model'}:"
            f" {len(missing)} tensors missing, {len(extra)} without a place, {len(wrong)} of "
            f"another shape; first: '{first}'"
        )
    # Such a detector would find nobody, and say nothing.
    for name, value in state.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise UserError(f"{path}: '{name}' holds NaN or infinity; its training diverged")


def initialise(model: FasterRCNN, path: str | os.PathLike[str]) -> None:
    """Fills ``model`` from a weights file, to train further.

    A COCO model of 80 classes gives its person output to a model of one class. The description
    takes over how the weights want pixels (mean, std, channel order), and keeps its sizes.

    Raises:
        UserError: the file holds another architecture.
    """
    if model.description is None:
        raise ValueError("the detector has no description")
    donor = load(path, num_classes=model.box_head.num_classes)
    assert donor.description is not None
    if donor.description.name != model.description.name:
        raise UserError(
            f"{path}: holds a {donor.description.name}, the config asks for "
            f"{model.description.name}"
        )
    pixels = donor.description.preprocessing
    sizes = model.description.preprocessing
    model.description = replace(
        model.description,
        preprocessing=replace(pixels, short_side=sizes.short_side, max_side=sizes.max_side),
        person_class=donor.description.person_class,
        notes=donor.description.notes,
    )
    _fill(model, donor.state_dict(), Path(path))
    _log.info("person detector starts from %s", path)


def keep_person(model: FasterRCNN) -> FasterRCNN:
    """The same detector with two outputs left, the person and the background.

    A start for training on persons; the scores before training are those of a softmax over two.
    """
    if model.description is None:
        raise ValueError("the detector has no description")
    person = model.description.person_class
    args = {**model.description.args, "num_classes": 1}
    reduced = create(replace(model.description, args=args, person_class=0))
    state = model.state_dict()
    for kind in ("weight", "bias"):
        classifier = state[f"box_head.classifier.{kind}"]
        state[f"box_head.classifier.{kind}"] = classifier[[person, -1]]
        deltas = state[f"box_head.deltas.{kind}"]
        state[f"box_head.deltas.{kind}"] = deltas[4 * person : 4 * person + 4]
    reduced.load_state_dict(state)
    return reduced
