"""Classes of the data sets that public weights were trained on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from avadet.evaluation import charades_io

_FOLDER = Path(__file__).parent / "classes"


@dataclass(frozen=True)
class Dataset:
    """A data set as a classifier sees it.

    Attributes:
        key: short name, used in architecture names.
        title: for people.
        num_classes: K.
        activation: "sigmoid" (several labels at once) or "softmax".
        task: "classification" or "detection".
        names: file of class names, in the order of the outputs, or None where no list is shipped.
        fps: frames per second that its networks saw.
    """

    key: str
    title: str
    num_classes: int
    activation: str
    task: str
    names: str | None
    fps: float = 30.0


DATASETS = {
    each.key: each
    for each in (
        Dataset("k400", "Kinetics-400", 400, "softmax", "classification", "kinetics400"),
        Dataset("k600", "Kinetics-600", 600, "softmax", "classification", "kinetics600"),
        Dataset("k700", "Kinetics-700", 700, "softmax", "classification", "kinetics700"),
        Dataset("k710", "Kinetics-710", 710, "softmax", "classification", None),
        Dataset("charades", "Charades", 157, "sigmoid", "classification", None, 24.0),
        Dataset("sports1m", "Sports-1M", 487, "softmax", "classification", None),
        Dataset("ig65m", "IG-65M hashtags", 359, "softmax", "classification", None),
        Dataset("ssv2", "Something-Something V2", 174, "softmax", "classification", None),
        Dataset("ucf101", "UCF-101", 101, "softmax", "classification", None),
        Dataset("in1k", "ImageNet-1k", 1000, "softmax", "classification", None),
        Dataset("ava21", "AVA v2.1", 80, "sigmoid", "detection", "ava"),
        Dataset("ava22", "AVA v2.2", 80, "sigmoid", "detection", "ava"),
        Dataset("avak", "AVA-Kinetics", 80, "sigmoid", "detection", "ava"),
    )
}


@cache
def class_names(dataset: str) -> tuple[str, ...] | None:
    """Names of the classes in the order of the outputs; None where none are shipped.

    AVA's list holds all 80 (ids 1..80 on disk). Kinetics' lists are alphabetical, as the labels of
    PySlowFast, PyTorchVideo and MMAction2 are. Charades' licence forbids to hand on its list: its
    classes are called c000 .. c156 until ``load_model(..., class_names=...)`` names them.
    """
    if dataset == "charades":
        return charades_io.class_ids()
    names = DATASETS[dataset].names
    if names is None:
        return None
    return tuple(json.loads((_FOLDER / f"{names}.json").read_text(encoding="utf-8")))


def class_ids(dataset: str) -> tuple[int, ...] | None:
    """The ids that files use: AVA's 1..80, Charades' 0..156; None elsewhere."""
    if dataset == "charades":
        return tuple(range(DATASETS[dataset].num_classes))
    if DATASETS[dataset].names != "ava":
        return None
    return tuple(range(1, DATASETS[dataset].num_classes + 1))
