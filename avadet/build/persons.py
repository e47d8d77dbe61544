"""Person detectors of a config: model, pictures and task."""

from __future__ import annotations

from typing import TYPE_CHECKING

from avadet.build.components import given, validate
from avadet.config import RunConfig
from avadet.data.media import MovieFolder
from avadet.errors import UserError
from avadet.persons import pictures
from avadet.persons import weights as person_weights
from avadet.persons.base import choose_engine
from avadet.persons.coco import read_person_boxes
from avadet.persons.faster_rcnn import DetectorDescription, FasterRCNN
from avadet.persons.images import ImagePreprocessing
from avadet.persons.task import PersonDetectionTask

if TYPE_CHECKING:
    from avadet.persons.detectron2_task import Detectron2Task


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
        person_weights.initialise(model, config.model.init.path)
    return model


def build_person_pictures(
    config: RunConfig, *, train: bool
) -> pictures.TrainingPictures | pictures.PictureSource | None:
    """Keyframes with the boxes of people: augmented for training, plain for the test.

    Ground truth is AVA's CSV beside a folder of movies, or a COCO json beside a folder of images.
    """
    data = config.data
    split = "train" if train else "val"
    path: str = getattr(data, f"{split}_groundtruth")
    if not path and not train:
        return None
    given(f"data.{split}_groundtruth", path)
    movies = given("data.movies", data.movies)
    source: pictures.PictureSource
    if path.endswith(".json"):
        source = pictures.FilePictures(read_person_boxes(path, movies))
    else:
        source = _movie_pictures(config, path)
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
    config: RunConfig, model: FasterRCNN, held_out: pictures.PictureSource | None
) -> PersonDetectionTask | Detectron2Task:
    """Loss and AP of a person detector, by the engine that ``persons.engine`` names.

    Raises:
        UserError: the detectron2 engine is asked for and not installed, or has no such network.
    """
    if choose_engine(config.persons.engine, "") == "detectron2":
        from avadet.persons.detectron2_task import Detectron2Task

        return Detectron2Task(model, held_out, batch_size=config.eval.batch_size)
    return PersonDetectionTask(model, held_out, batch_size=config.eval.batch_size)


def _movie_pictures(config: RunConfig, path: str) -> pictures.MoviePictures:
    data = config.data
    kept = {
        keyframe: boxes
        for keyframe, boxes in pictures.read_truth(path).items()
        if data.first_second <= keyframe.second <= data.last_second
    }
    if not kept:
        raise UserError(
            f"{path}: no keyframe between data.first_second {data.first_second:g} and "
            f"data.last_second {data.last_second:g}"
        )
    folder = MovieFolder(data.movies)
    return pictures.MoviePictures(
        kept,
        {video: folder.open(video).path for video in {keyframe.video for keyframe in kept}},
        movie_start=data.movie_start or 0.0,
        in_memory=data.cache,
    )
