"""Where configuration meets constructors, and the door to models by name."""

from __future__ import annotations

import fnmatch
import inspect
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from avadet import convert
from avadet.config import Component, DataConfig, RunConfig
from avadet.convert import architectures
from avadet.data.ava import AvaDataset
from avadet.data.kinetics import ClipDataset
from avadet.data.label_map import LabelMap, read_label_map
from avadet.data.media import MovieFolder
from avadet.data.transforms import TestPolicy, TrainPolicy
from avadet.errors import UserError
from avadet.models.backbones import BACKBONES
from avadet.models.cost import count_flops, count_parameters
from avadet.models.description import ModelDescription, create, load_backbone, load_state
from avadet.models.heads import HEADS
from avadet.models.inflate import inflate_resnet
from avadet.models.losses import LOSSES
from avadet.models.preprocess import Preprocessing
from avadet.persons import pictures
from avadet.persons import weights as person_weights
from avadet.persons.faster_rcnn import PERSON_MODELS, DetectorDescription, FasterRCNN
from avadet.persons.images import ImagePreprocessing
from avadet.persons.task import PersonDetectionTask
from avadet.registry import Registry, suggest

_log = logging.getLogger(__name__)

# Arguments that follow from the rest of the config; writing them as well invites contradiction.
_DERIVED: dict[str, frozenset[str]] = {
    "head": frozenset({"in_channels", "num_classes", "stride"}),
    "loss": frozenset({"logits", "labels"}),
}
_WEIGHTS = Path(__file__).parent / "models" / "weights"


# --- components ---------------------------------------------------------------------------------


def check_component(key: str, component: Component, registry: Registry) -> Callable[..., Any]:
    """The constructor that ``component`` names, once its arguments are known to fit.

    Args:
        key: place in the config, for messages, such as ``model.backbone``.

    Raises:
        UserError: an unknown name or argument (with the nearest valid one), or a missing one.
    """
    constructor = registry.get(component.name)
    parameters = inspect.signature(constructor).parameters
    derived = _DERIVED.get(key.rpartition(".")[2], frozenset())
    known = [name for name in parameters if name not in derived]
    for name in component.args:
        if name in derived:
            raise UserError(f"{key}.{name}: follows from the rest of the config; leave it out")
        if name not in known:
            raise UserError(
                f"{key}.{name}: {component.name} takes no such argument.{suggest(name, known)} "
                f"It takes: {', '.join(known) or 'none'}"
            )
    needed = [name for name in known if parameters[name].default is inspect.Parameter.empty]
    missing = sorted(set(needed) - set(component.args))
    if missing:
        raise UserError(f"{key}: {component.name} needs {', '.join(missing)}")
    return constructor


def validate(config: RunConfig) -> None:
    """Checks that every component exists and takes its arguments, before any work starts.

    Raises:
        UserError: names the key and the nearest valid one.
    """
    if config.task == "persons":
        assert config.model.detector is not None
        check_component("model.detector", config.model.detector, PERSON_MODELS)
        return
    assert config.model.backbone is not None
    check_component("model.backbone", config.model.backbone, BACKBONES)
    check_component("model.head", config.model.head, HEADS)
    check_component("train.loss", config.train.loss, LOSSES)


def build_loss(config: RunConfig) -> Callable[[Tensor, Tensor], Tensor]:
    """The loss on (logits, labels) that the config names."""
    function = check_component("train.loss", config.train.loss, LOSSES)

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        return function(logits, labels, **config.train.loss.args)

    return loss


# --- action models ------------------------------------------------------------------------------


def read_classes(config: RunConfig) -> LabelMap:
    """The classes that the network answers for, in its order."""
    data = config.data
    if config.task == "clips":
        return read_label_map(_given("data.classes", data.classes))
    return read_label_map(data.label_map) if data.label_map else LabelMap.numbered(80)


def describe(config: RunConfig, classes: LabelMap, name: str = "") -> ModelDescription:
    """The model of a config as plain data."""
    validate(config)
    model, data = config.model, config.data
    assert model.backbone is not None
    detection = config.task == "ava"
    return ModelDescription(
        name=name or model.backbone.name,
        task="detection" if detection else "classification",
        backbone=model.backbone.name,
        backbone_args=dict(model.backbone.args),
        head=model.head.name,
        head_args=dict(model.head.args),
        num_classes=len(classes),
        class_names=classes.names,
        class_ids=classes.ids,
        preprocessing=Preprocessing(
            num_frames=data.num_frames,
            frame_stride=data.frame_stride,
            test_short_side=data.test_short_side,
            mean=model.preprocessing.mean,
            std=model.preprocessing.std,
            channel_order=model.preprocessing.channel_order,
            fps=data.fps,
        ),
        activation="sigmoid"
        if detection or config.train.loss.name != "cross_entropy"
        else "softmax",
    )


def build_model(config: RunConfig, classes: LabelMap) -> nn.Module:
    """The freshly initialised action model of a config."""
    return create(describe(config, classes))


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
        inflate_resnet(model.backbone, convert.read_image_network(init.path))
        _log.info("backbone inflated from %s; the head starts anew", init.path)
        return
    name = init.path if init.source == "file" else init.name
    assert name is not None
    donor = convert.load_model(name, arch=init.arch)
    _take_over(model, donor, str(name))


def _take_over(model: nn.Module, donor: nn.Module, name: str) -> None:
    load_state(model.backbone, donor.backbone.state_dict(), name)
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


def model_costs(name: str) -> dict[str, Any]:
    """Parameters and multiply-adds of a model at its published input, counted on ``meta``."""
    description = architectures.get(name).description
    with torch.device("meta"):
        model = create(description)
    frames, side = description.preprocessing.num_frames, description.preprocessing.test_short_side
    return {
        "name": name,
        "task": description.task,
        "classes": description.num_classes,
        "params": count_parameters(model),
        "macs": count_flops(model.backbone, (1, 3, frames, side, side)),
        "frames": frames,
        "side": side,
    }


# --- data sets ----------------------------------------------------------------------------------


def _given(key: str, value: str) -> str:
    if not value:
        raise UserError(f"{key}: is empty; write it into the config or as {key}=...")
    return value


def _train_policy(data: DataConfig) -> TrainPolicy:
    return TrainPolicy(
        short_side=data.train_short_side,
        sampling=data.short_side_sampling,
        crop=data.crop,
        flip=data.flip,
        color=data.color,
    )


def build_ava(config: RunConfig, classes: LabelMap, *, train: bool) -> AvaDataset:
    """The training set, or the test set with the boxes that are scored."""
    data = config.data
    split = "train" if train else "val"
    truth: str = getattr(data, f"{split}_groundtruth")
    proposals: str | None = getattr(data, f"{split}_proposals")
    return AvaDataset(
        _given("data.movies", data.movies),
        groundtruth=_given(f"data.{split}_groundtruth", truth) if train or not proposals else None,
        proposals=proposals,
        label_map=classes,
        excluded=getattr(data, f"{split}_excluded"),
        train=train,
        policy=_train_policy(data) if train else TestPolicy(data.test_short_side),
        num_frames=data.num_frames,
        frame_stride=data.frame_stride,
        fps=data.fps,
        first_second=data.first_second,
        last_second=data.last_second,
        keyframe_rate=data.keyframe_rate,
        movie_start=data.movie_start,
        score_threshold=data.proposal_score_threshold,
        proposal_iou=data.proposal_iou,
        reader=data.reader,
        frame_lists=data.frame_lists,
        missing=data.missing_movies,
        cache_short_side=data.test_short_side if data.cache else None,
        seed=config.seed,
    )


def build_clips(config: RunConfig, classes: LabelMap, *, train: bool) -> ClipDataset:
    """Labelled clips: random stretches for training, the views of the test protocol."""
    data = config.data
    split = "train" if train else "val"
    path: str = getattr(data, f"{split}_clips")
    return ClipDataset(
        _given(f"data.{split}_clips", path),
        classes=classes.names,
        root=data.movies or None,
        train=train,
        policy=_train_policy(data) if train else None,
        num_frames=data.num_frames,
        frame_stride=data.frame_stride,
        fps=data.fps,
        temporal_views=config.eval.temporal_views,
        spatial_crops=config.eval.spatial_crops,
        test_short_side=data.test_short_side,
        cache_short_side=data.test_short_side if data.cache else None,
        seed=config.seed,
    )


# --- person detectors ---------------------------------------------------------------------------


def build_person_detector(config: RunConfig) -> FasterRCNN:
    """The detector of a ``task: persons`` config, with weights where ``model.init`` names some."""
    validate(config)
    component = config.model.detector
    assert component is not None
    data, norm = config.data, config.model.preprocessing
    description = DetectorDescription(
        name=component.name,
        args=dict(component.args),
        preprocessing=ImagePreprocessing(
            short_side=data.test_short_side,
            mean=tuple(255 * value for value in norm.mean),
            std=tuple(255 * value for value in norm.std),
            channel_order=norm.channel_order,
        ),
    )
    model = person_weights.create(description)
    if config.model.init.source == "file":
        assert config.model.init.path is not None
        donor = person_weights.load(config.model.init.path)
        model.load_state_dict(donor.state_dict())
    return model


def build_person_pictures(
    config: RunConfig, *, train: bool
) -> pictures.TrainingPictures | pictures.MoviePictures | None:
    """Keyframes with the boxes of people: augmented for training, plain for the test.

    Ground truth is AVA's CSV beside a folder of movies, or a COCO json beside a folder of images.
    """
    data = config.data
    split = "train" if train else "val"
    path: str = getattr(data, f"{split}_groundtruth")
    if not path and not train:
        return None
    truth = pictures.read_truth(_given(f"data.{split}_groundtruth", path))
    kept = {
        keyframe: boxes
        for keyframe, boxes in truth.items()
        if data.first_second <= keyframe.second <= data.last_second
    }
    if not kept:
        raise UserError(
            f"{path}: no keyframe between data.first_second {data.first_second:g} and "
            f"data.last_second {data.last_second:g}"
        )
    folder = MovieFolder(_given("data.movies", data.movies))
    source = pictures.MoviePictures(
        kept,
        {video: folder.open(video).path for video in {keyframe.video for keyframe in kept}},
        movie_start=data.movie_start or 0.0,
        in_memory=data.cache,
    )
    if not train:
        return source
    low, high = data.train_short_side
    return pictures.TrainingPictures(
        source,
        short_sides=tuple(range(low, high + 1, max(1, (high - low) // 4))),
        flip=data.flip,
        brightness=0.3 if data.color else 0.0,
        seed=config.seed,
    )


def build_person_task(
    config: RunConfig, model: FasterRCNN, held_out: pictures.MoviePictures | None
) -> PersonDetectionTask:
    """Loss and AP of a person detector."""
    return PersonDetectionTask(model, held_out, batch_size=config.eval.batch_size)
