"""``avadet eval``: score a checkpoint on the test set of a config."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Any

HELP = "score a checkpoint: frame-mAP; top-1/5 of clips; mAP of Charades; AP of persons"

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``avadet eval``."""
    parser.add_argument("config", help="a YAML file, such as configs/ava/slowfast_r50_8x8.yaml")
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="key.sub=value",
        help="checkpoint=FILE (default: model.safetensors of the config's `out`), data.... ",
    )
    parser.add_argument("--out", metavar="FOLDER", help="for detections.csv and result.json")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16", "fp16", "auto"))
    parser.add_argument("--report", metavar="HTML", help="also explain the result on one page")


def run(args: argparse.Namespace) -> int:
    """Scores; prints the result on the main process."""
    from avadet import build
    from avadet.config import load_config
    from avadet.engine import distributed
    from avadet.engine.precision import default_device

    config = load_config(args.config, args.overrides)
    build.validate(config)
    device = default_device(config.device, distributed.local_rank())
    with distributed.processes(device.type):
        kinds = {"ava": _ava, "clips": _clips, "charades": _charades, "persons": _persons}
        kinds[config.task](config, args, device)
    return 0


def load_checkpoint(config: Any) -> Any:
    """The action model to score, with its description, from any known kind of file."""
    from avadet import convert

    path = config.checkpoint or str(Path(config.out) / "model.safetensors")
    return convert.load_model(path)


def fit_to_model(config: Any, model: Any) -> Any:
    """The config with clips as the weights expect them; says what differs from what it was."""
    from avadet.errors import UserError

    wanted = model.description.preprocessing
    if wanted.modality != config.data.modality:
        raise UserError(
            f"data.modality: {config.data.modality}, but the weights look at {wanted.modality}; "
            "for flow, data.movies is what `avadet prepare flow` wrote"
        )
    values = {
        "num_frames": wanted.num_frames,
        "frame_stride": wanted.frame_stride,
        "fps": wanted.fps,
        "test_short_side": wanted.test_short_side,
    }
    differing = {key: v for key, v in values.items() if getattr(config.data, key) != v}
    for key, value in differing.items():
        log.info("data.%s: %s as the weights expect, not %s", key, value, getattr(config.data, key))
    return config.model_copy(update={"data": config.data.model_copy(update=differing)})


def detect(config: Any, model: Any, device: Any, precision: str) -> tuple[list[Any], Any]:
    """Scores of the config's test boxes on every process, and the classes they are for."""
    from avadet import build
    from avadet.commands.tasks import build_test_loader
    from avadet.data.label_map import LabelMap
    from avadet.engine.infer import run_detector
    from avadet.engine.inference import prepare_for_scoring
    from avadet.errors import UserError

    description = model.description
    if description.task != "detection":
        raise UserError(
            f"{config.checkpoint or config.out}: holds a clip classifier; action detection needs "
            "a detector (train one with model.init.source=file)"
        )
    classes = build.read_classes(config)
    if len(classes) != description.num_classes:
        raise UserError(
            f"data.label_map: {len(classes)} classes, but the weights answer for "
            f"{description.num_classes}"
        )
    if description.class_ids is not None:
        names = description.class_names or tuple(map(str, description.class_ids))
        classes = LabelMap(description.class_ids, names)
    bank = build.open_bank(model, config.data.feature_bank)
    dataset = build.build_ava(config, classes, train=False, bank=bank)
    log.info("test: %s", dataset.summary())
    prepared = prepare_for_scoring(model, device, precision)
    detections = run_detector(
        prepared.model,
        build_test_loader(config, dataset),
        preprocessing=description.preprocessing,
        activation=description.activation,
        device=device,
        precision=prepared.precision,
    )
    return detections, classes


def _ava(config: Any, args: argparse.Namespace, device: Any) -> None:
    from avadet.engine import distributed
    from avadet.engine.scoring import score_detections
    from avadet.evaluation.show import print_frame_map
    from avadet.files import write_json

    model = load_checkpoint(config)
    config = fit_to_model(config, model)
    detections, classes = detect(config, model, device, args.precision)
    if not distributed.is_main():
        return
    folder = Path(args.out or config.out)
    result = score_detections(
        folder / "detections.csv",
        detections,
        groundtruth=config.data.val_groundtruth,
        class_ids=classes.ids,
        label_map=config.eval.label_map or config.data.label_map or None,
        excluded=config.data.val_excluded,
        protocol=config.eval.protocol,
    )
    boxes = "detected boxes" if config.data.val_proposals else "ground-truth boxes"
    write_json(folder / "result.json", {"boxes": boxes, **result.to_json()})
    print(f"{folder / 'detections.csv'}, {len(detections)} keyframes, {boxes}")
    print_frame_map(result)
    if args.report:
        from avadet.commands.report import write_report

        write_report(config, folder / "detections.csv", args.report)
        print(f"report: {args.report}")


def score_clips(config: Any, model: Any, device: Any, precision: str) -> tuple[Any, Any]:
    """Scores of the config's test clips, views averaged, and the data set they are of."""
    from avadet import build
    from avadet.commands.clip_data import open_clips
    from avadet.commands.tasks import build_test_loader
    from avadet.engine.clip_task import ClipTask
    from avadet.engine.inference import prepare_for_scoring

    classes = build.read_classes(config)
    _check_classifier(config, model, classes)
    scale = model.description.preprocessing.test_scale(config.eval.spatial_crops)
    dataset = open_clips(config, classes, train=False, test_scale=scale)
    prepared = prepare_for_scoring(model, device, precision)
    task = ClipTask(
        prepared.model,
        loss=build.build_loss(config),
        preprocessing=model.description.preprocessing,
        activation=model.description.activation,
        eval_batches=build_test_loader(config, dataset),
    )
    with prepared.precision.autocast():
        return task.score(prepared.model), dataset


def _clips(config: Any, args: argparse.Namespace, device: Any) -> None:
    from avadet.engine import distributed
    from avadet.engine.clip_task import top_accuracy
    from avadet.evaluation.clip_scores import ClipTable
    from avadet.files import write_json

    model = load_checkpoint(config)
    config = fit_to_model(config, model)
    scores, dataset = score_clips(config, model, device, args.precision)
    metrics = top_accuracy(scores)
    if distributed.is_main():
        folder = Path(args.out or config.out)
        ClipTable(scores.names, scores.labels, scores.scores).write(folder / "scores.npz")
        counts = {"clips": len(scores.names), "unreadable": dataset.unlisted}
        write_json(folder / "result.json", {**metrics, **counts, "views": dataset.num_views})
        unread = f"; {dataset.unlisted} more cannot be read" if dataset.unlisted else ""
        print(
            f"{folder / 'scores.npz'}: {len(scores.names)} clips, {dataset.num_views} views each"
            f"{unread}"
        )
        for name, value in metrics.items():
            print(f"{name}: {100 * value:.2f}")


def _check_classifier(config: Any, model: Any, classes: Any) -> None:
    """Raises UserError where the weights are not a classifier for these classes."""
    from avadet.errors import UserError

    description, name = model.description, config.checkpoint or config.out
    if description.task != "classification":
        raise UserError(f"{name}: holds an action detector; score it with a config of task ava")
    if len(classes) != description.num_classes:
        raise UserError(
            f"data.classes: {len(classes)} classes ({config.data.classes or 'by default'}), but "
            f"the weights in {name} answer for {description.num_classes}"
        )


def score_charades(
    config: Any, model: Any, device: Any, precision: str, folder: Path
) -> tuple[Any, Any]:
    """Charades' task with its test set, and the scores of its videos."""
    from avadet import build
    from avadet.commands.tasks import charades_task
    from avadet.engine.inference import prepare_for_scoring

    classes = build.read_classes(config)
    _check_classifier(config, model, classes)
    prepared = prepare_for_scoring(model, device, precision)
    task = charades_task(config, model, classes, localize=config.eval.localize, folder=folder)
    with prepared.precision.autocast():
        return task, task.score(prepared.model)


def _charades(config: Any, args: argparse.Namespace, device: Any) -> None:
    from avadet.engine import distributed
    from avadet.evaluation.show import percent
    from avadet.files import write_json

    model = load_checkpoint(config)
    config = fit_to_model(config, model)
    folder = Path(args.out or config.out)
    task, scores = score_charades(config, model, device, args.precision, folder)
    if not distributed.is_main():
        return
    results = task.results(scores)
    write_json(folder / "result.json", {name: each.to_json() for name, each in results.items()})
    items = "points" if config.eval.localize else "videos"
    for name, each in results.items():
        print(
            f"charades, {name}: mAP {percent(each.mAP)}, WAP {percent(each.WAP)} "
            f"({each.num_items} {items}, {each.missing} without scores)"
        )
        if each.mAP is None:
            empty = sum(not count for count in each.num_positives.values())
            print(f"  no mean: {empty} classes have no positive; the official rule leaves none out")
    print(f"scores: {task.scores_path}")


def _persons(config: Any, args: argparse.Namespace, device: Any) -> None:
    from avadet import build
    from avadet.engine import distributed
    from avadet.files import write_json
    from avadet.persons import weights

    model = weights.load(config.checkpoint or str(Path(config.out) / "model.safetensors"))
    held_out = build.build_person_pictures(config, train=False)
    metrics = build.build_person_task(config, model.to(device), held_out).evaluate(model)
    if distributed.is_main():
        write_json(Path(args.out or config.out) / "result.json", metrics)
        for name, value in metrics.items():
            print(f"{name}: {100 * value:.2f}")
