"""Action models of a config and by name, with the weights they start from."""

from __future__ import annotations

import fnmatch
import logging
from pathlib import Path

import torch
from torch import Tensor, nn

from avadet import convert
from avadet.build.components import given, validate
from avadet.config import RunConfig
from avadet.config.schema import PreprocessingConfig
from avadet.convert import architectures
from avadet.data.clip_lists import folder_classes
from avadet.data.label_map import LabelMap, read_label_map
from avadet.errors import UserError
from avadet.evaluation import charades_io
from avadet.models.description import ModelDescription, create, load_backbone, load_state
from avadet.models.inflate import average_colours, inflate
from avadet.models.preprocess import FLOW_MEAN, FLOW_STD, Preprocessing

_log = logging.getLogger(__name__)
_WEIGHTS = Path(__file__).resolve().parents[1] / "models" / "weights"


def read_classes(config: RunConfig) -> LabelMap:
    """The classes that the network answers for, in its order."""
    data = config.data
    if config.task == "clips":
        if not data.classes and data.train_clips and Path(data.train_clips).is_dir():
            names = folder_classes(data.train_clips)
            return LabelMap.numbered(len(names), names)
        return read_label_map(given("data.classes", data.classes))
    if config.task == "charades":
        names = charades_io.read_classes(data.classes) if data.classes else charades_io.class_ids()
        return LabelMap.numbered(len(names), names)
    return read_label_map(data.label_map) if data.label_map else LabelMap.numbered(80)


def describe(config: RunConfig, classes: LabelMap, name: str = "") -> ModelDescription:
    """The model of a config as plain data."""
    validate(config)
    model, data = config.model, config.data
    assert model.backbone is not None
    detection = config.task == "ava"
    flow = data.modality == "flow"
    mean, std = model.preprocessing.mean, model.preprocessing.std
    if flow and model.preprocessing == PreprocessingConfig():
        mean, std = FLOW_MEAN, FLOW_STD
    return ModelDescription(
        name=name or model.backbone.name,
        task="detection" if detection else "classification",
        backbone=model.backbone.name,
        backbone_args={**model.backbone.args, **({"in_channels": 2} if flow else {})},
        head=model.head.name,
        head_args=dict(model.head.args),
        num_classes=len(classes),
        class_names=classes.names,
        # Charades counts from c000.
        class_ids=tuple(range(len(classes))) if config.task == "charades" else classes.ids,
        preprocessing=Preprocessing(
            num_frames=data.num_frames,
            frame_stride=data.frame_stride,
            test_short_side=data.test_short_side,
            mean=mean,
            std=std,
            channel_order=model.preprocessing.channel_order,
            fps=data.fps,
            modality=data.modality,
            one_crop_side=None
            if detection or data.train_short_side[0] <= data.test_short_side
            else data.train_short_side[0],
        ),
        activation="sigmoid"
        if detection or config.train.loss.name != "cross_entropy"
        else "softmax",
    )


def build_model(config: RunConfig, classes: LabelMap) -> nn.Module:
    """The freshly initialised action model of a config.

    Raises:
        UserError: arguments that make no network, or clips that it cannot take.
    """
    description = describe(config, classes)
    side = config.data.crop or config.data.test_short_side
    # Parts of the user's own may not know how to compute without numbers.
    if ":" not in description.backbone + description.head:
        problem = clip_problem(description, config.data.num_frames, side)
        if problem:
            raise UserError(
                f"data.num_frames, data.crop: {problem}; use longer or larger clips, or mend the "
                "arguments of model.backbone"
            )
    return create(description)


def clip_problem(description: ModelDescription, num_frames: int, side: int) -> str:
    """Why a network cannot take clips of a size; "" where it can. Computes with shapes alone."""
    channels = description.preprocessing.channels
    with torch.device("meta"), torch.no_grad():
        model = create(description).eval()
        if description.task == "detection":
            model = model.backbone
        try:
            model(torch.zeros((1, channels, num_frames, side, side)))
        except (TypeError, ValueError, ArithmeticError, RuntimeError) as error:
            return (
                f"{description.backbone} cannot take clips of {num_frames} frames of {side} "
                f"pixels ({error})"
            )
    return ""


def initialise(model: nn.Module, config: RunConfig) -> None:
    """Fills ``model`` from where ``model.init`` points: the whole of it where everything fits,
    else the backbone, with a new head.

    Raises:
        UserError: the weights are missing or belong to another backbone; names tensors.
    """
    init = config.model.init
    if init.source == "none":
        return
    if init.source == "bundled":
        source = _WEIGHTS / f"{init.name}.safetensors"
        if not source.is_file():
            known = ", ".join(sorted(path.stem for path in _WEIGHTS.glob("*.safetensors")))
            raise UserError(
                f"model.init.name: no bundled weights '{init.name}'; there are: {known}"
            )
        load_backbone(source, model)
        _log.info("backbone from the bundled weights %s; the head starts anew", init.name)
        return
    if init.source == "inflate":
        assert init.path is not None
        inflate(model.backbone, convert.read_image_network(init.path))
        _log.info("backbone inflated from %s; the head starts anew", init.path)
        return
    name = init.path if init.source == "file" else init.name
    assert name is not None
    pretrained = convert.read_backbone(name)
    if pretrained is not None:
        _take_backbone(model.backbone, pretrained, str(name))
        return
    donor = convert.load_model(name, arch=init.arch)
    _take_over(model, donor, str(name))


def _take_backbone(backbone: nn.Module, state: dict[str, Tensor], name: str) -> None:
    """Fills a backbone from a pre-trained one; the norm after it may be missing there."""
    own = backbone.state_dict()
    fresh = sorted({"norm.weight", "norm.bias"} & (own.keys() - state.keys()))
    load_state(backbone, {**{key: own[key] for key in fresh}, **state}, name)
    starts = "the head starts" if not fresh else "the last norm and the head start"
    _log.info("backbone from %s; %s anew", name, starts)


def _take_over(model: nn.Module, donor: nn.Module, name: str) -> None:
    state = average_colours(donor.backbone.state_dict(), model.backbone.state_dict())
    load_state(model.backbone, state, name)
    own, other = model.head.state_dict(), donor.head.state_dict()
    same = {key: value.shape for key, value in own.items()} == {
        key: value.shape for key, value in other.items()
    }
    if same and type(model.head) is type(donor.head):
        model.head.load_state_dict(other)
        _log.info("backbone and head from %s", name)
    else:
        _log.info("backbone from %s; the head starts anew (its shape or kind differs)", name)


def create_model(
    name: str, *, num_classes: int | None = None, weights: str | Path | None = None
) -> nn.Module:
    """A model by its published name, such as ``slowfast_r50_8x8_k400``.

    Args:
        name: see ``list_models``.
        num_classes: other than published re-makes the head, and a log line says so.
        weights: a checkpoint of any known source, or a zoo name.

    Returns:
        the model: in evaluation mode with ``weights``, else freshly initialised.

    Raises:
        UserError: an unknown name, or weights that do not fit.
    """
    published = architectures.get(name).description
    count = published.num_classes if num_classes is None else num_classes
    if count != published.num_classes:
        _log.info("%s: new head of %d classes in place of %d", name, count, published.num_classes)
    model = create(architectures.with_classes(published, count))
    if weights is None:
        return model
    _take_over(model, convert.load_model(weights, arch=name), str(weights))
    return model.eval()


def list_models(pattern: str = "*") -> list[str]:
    """Names that ``create_model`` knows and that match a shell pattern, sorted."""
    return fnmatch.filter(architectures.architecture_names(), pattern)
