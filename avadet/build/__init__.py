"""Where configuration meets constructors, and the door to models by name."""

from avadet.build.components import build_loss, check_component, validate
from avadet.build.data import (
    build_ava,
    build_charades,
    build_clips,
    build_media,
    build_multigrid,
    charades_paths,
    check_multigrid,
    list_clips,
)
from avadet.build.feature_bank import bank_boxes, note_bank, open_bank
from avadet.build.models import (
    build_model,
    create_model,
    describe,
    initialise,
    list_models,
    read_classes,
)
from avadet.build.persons import build_person_detector, build_person_pictures, build_person_task

__all__ = [
    "bank_boxes",
    "build_ava",
    "build_charades",
    "build_clips",
    "build_loss",
    "build_media",
    "build_model",
    "build_multigrid",
    "build_person_detector",
    "build_person_pictures",
    "build_person_task",
    "charades_paths",
    "check_component",
    "check_multigrid",
    "create_model",
    "describe",
    "initialise",
    "list_clips",
    "list_models",
    "note_bank",
    "open_bank",
    "read_classes",
    "validate",
]
