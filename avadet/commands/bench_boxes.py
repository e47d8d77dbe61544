"""``avadet bench boxes``: what the person boxes do to the action frame-mAP."""

from __future__ import annotations

import argparse
import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avadet.errors import UserError

HELP = "action frame-mAP with true boxes and with detected ones at several person-score cuts"

log = logging.getLogger(__name__)
CUTS = (0.05, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)


@dataclass(frozen=True)
class Row:
    """One set of boxes, scored.

    Attributes:
        boxes: how many were given to the action model, on annotated keyframes.
        recall: share of the true people that a box overlaps by 0.5.
        precision: share of the boxes that overlap a true person by 0.5, each person once.
        mAP: action frame-mAP in [0,1].
    """

    boxes: int
    recall: float
    precision: float
    mAP: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``avadet bench boxes``."""
    parser.add_argument(
        "--run", nargs="+", default=["quickstart"], help="folders of `avadet quickstart`"
    )
    parser.add_argument(
        "--cuts", nargs="+", type=float, default=list(CUTS), help="least person scores"
    )


def run(args: argparse.Namespace) -> int:
    """Prints one row for true boxes and one for each cut, columns for each run."""
    cuts = sorted(args.cuts)
    runs = [Path(folder) for folder in args.run]
    print(make_table([measure(folder, cuts) for folder in runs], cuts))
    return 0


def measure(folder: Path, cuts: Sequence[float]) -> list[Row]:
    """True boxes first, then each cut.

    The action model looks at all detected boxes once; a cut then leaves rows out. That gives what
    a run with ``data.proposal_score_threshold`` at the cut gives, since its head sees each box by
    itself.

    Raises:
        UserError: the folder is not a finished quickstart.
    """
    from avadet.persons.pictures import read_truth

    annotations = folder / "data" / "annotations"
    needed = [
        folder / "action" / "config.yaml",
        folder / "action" / "model.safetensors",
        folder / "proposals" / "val.csv",
        annotations / "ava_val.csv",
    ]
    for path in needed:
        if not path.is_file():
            raise UserError(f"{path}: is not there; `avadet quickstart --out {folder}` makes it")
    truth = read_truth(annotations / "ava_val.csv")
    rows = [_scored(folder, truth, proposals=None, cuts=[0.0])[0]]
    return rows + _scored(folder, truth, proposals=folder / "proposals" / "val.csv", cuts=cuts)


def _scored(
    folder: Path, truth: Mapping[Any, Any], *, proposals: Path | None, cuts: Sequence[float]
) -> list[Row]:
    from avadet.commands import eval as scoring
    from avadet.config import load_config
    from avadet.engine.precision import default_device
    from avadet.engine.scoring import score_detections

    # The folder may have been moved since, so that the paths in its config are not those.
    annotations = folder / "data" / "annotations"
    label_map = annotations / "ava_action_list.pbtxt"
    config = load_config(
        folder / "action" / "config.yaml",
        [
            f"checkpoint={folder / 'action' / 'model.safetensors'}",
            f"data.movies={folder / 'data' / 'movies'}",
            f"data.label_map={label_map}",
            f"data.val_groundtruth={annotations / 'ava_val.csv'}",
            f"data.val_excluded={annotations / 'ava_val_excluded_timestamps.csv'}",
            f"data.val_proposals={'null' if proposals is None else proposals}",
            "data.proposal_score_threshold=0",
        ],
    )
    model = scoring.load_checkpoint(config)
    config = scoring.fit_to_model(config, model)
    found, classes = scoring.detect(config, model, default_device(config.device), "fp32")
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for cut in cuts:
            kept = [_at_least(each, cut) for each in found]
            result = score_detections(
                Path(scratch) / "detections.csv",
                kept,
                groundtruth=config.data.val_groundtruth,
                class_ids=classes.ids,
                label_map=label_map,
                excluded=config.data.val_excluded,
            )
            boxes = {each.keyframe: (each.boxes_norm, each.person_scores) for each in kept}
            count, recall, precision = person_quality(truth, boxes)
            rows.append(Row(count, recall, precision, result.mAP or 0.0))
            log.info("%s, cut %g: frame-mAP %.4f", folder, cut, result.mAP or 0.0)
    return rows


def _at_least(found: Any, cut: float) -> Any:
    from dataclasses import replace

    keep = found.person_scores >= cut
    return replace(
        found,
        boxes_norm=found.boxes_norm[keep],
        person_scores=found.person_scores[keep],
        scores=found.scores[keep],
    )


def person_quality(
    truth: Mapping[Any, Any], found: Mapping[Any, tuple[Any, Any]], min_iou: float = 0.5
) -> tuple[int, float, float]:
    """Boxes on the annotated keyframes, and their recall and precision.

    Args:
        truth: (M,4) true boxes by keyframe.
        found: (N,4) boxes and (N,) scores by keyframe, in the same unit. The best box picks the
            person it overlaps most first, as in COCO's evaluation.
        min_iou: overlap that counts.
    """
    from avadet import boxes as box_math

    people = total = hits = 0
    for keyframe, true_boxes in truth.items():
        people += len(true_boxes)
        if keyframe not in found:
            continue
        boxes, scores = found[keyframe]
        total += len(boxes)
        if not len(boxes) or not len(true_boxes):
            continue
        overlaps = box_math.iou(boxes, true_boxes)
        for row in (-scores).argsort(kind="stable"):
            best = overlaps[row].argmax()
            if overlaps[row, best] >= min_iou:
                hits += 1
                overlaps[:, best] = 0.0
    return total, hits / max(people, 1), hits / max(total, 1)


def make_table(runs: Sequence[Sequence[Row]], cuts: Sequence[float]) -> str:
    """Markdown; boxes, recall and precision are means over the runs."""
    several = len(runs) > 1
    head = ["boxes", "kept", "recall", "precision", "frame-mAP"]
    head += [f"run {number}" for number in range(len(runs))] if several else []
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    names = ["ground truth", *(f"detected, score >= {cut:g}" for cut in cuts)]
    for name, *rows in zip(names, *runs, strict=True):
        count = len(rows)
        cells = [f"{sum(row.boxes for row in rows) / count:.0f}"]
        for field in ("recall", "precision", "mAP"):
            cells.append(f"{100 * sum(getattr(row, field) for row in rows) / count:.1f}")
        cells += [f"{100 * row.mAP:.1f}" for row in rows] if several else []
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
