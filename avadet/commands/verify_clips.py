"""``avadet verify`` of classifiers: Kinetics by top-1 and top-5, Charades by mAP."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

from avadet.errors import UserError

# Clips a class in Kinetics' validation sets, as published; many have gone from the web since.
_PER_CLASS = 50
_CHARADES_VIDEOS = 1863
_VIEWS = re.compile(r"(\d+) clips? x (\d+) crops?(?: of (\d+))?")


def verify(args: argparse.Namespace, row: Any, model: Any, reasons: list[str]) -> dict[str, Any]:
    """Scores the test set by the row's protocol; ``reasons`` grows by what differs.

    Returns:
        "measured" (metric -> per cent) and what else belongs into the report.

    Raises:
        UserError: files are missing, or the classes are not the model's.
    """
    charades = "charades" in row.name
    config = _config(args, row, model, charades, reasons)
    if charades:
        return _charades(args, config, model, reasons)
    return _kinetics(args, config, model, reasons)


def _views(args: argparse.Namespace, row: Any, reasons: list[str]) -> tuple[int, int, int | None]:
    """Clips, crops and their side of the published test, or those asked for."""
    told = _VIEWS.search(row.protocol)
    published = (int(told[1]), int(told[2])) if told else None
    side = int(told[3]) if told and told[3] else None
    if args.views is None:
        if published is None:
            reasons.append(
                f"the views of the published test are not known ('{row.protocol}'): 10 clips x 3 "
                "crops are scored; --views sets others"
            )
        return (*(published or (10, 3)), side)
    asked = re.fullmatch(r"(\d+)x([13])", args.views)
    if asked is None:
        raise UserError(f"--views: '{args.views}' is not clips x crops, such as 10x3 or 5x1")
    views = int(asked[1]), int(asked[2])
    if published is not None and views != published:
        reasons.append(
            f"{views[0]} clips x {views[1]} crops; the published test has {published[0]} x "
            f"{published[1]}"
        )
    return (*views, side)


def _config(
    args: argparse.Namespace, row: Any, model: Any, charades: bool, reasons: list[str]
) -> Any:
    from avadet.commands.eval import fit_to_model
    from avadet.config import RunConfig

    clips, crops, side = _views(args, row, reasons)
    clip = model.description.preprocessing
    if side is not None and clip.test_short_side != side:
        reasons.append(f"short side {clip.test_short_side}; the published test has crops of {side}")
    if charades:
        data = {"val_groundtruth": args.groundtruth, "classes": args.classes or ""}
    else:
        data = {"val_clips": args.groundtruth, "classes": _classes(args, model, reasons)}
    config = RunConfig.model_validate(
        {
            "task": "charades" if charades else "clips",
            "out": args.out,
            "device": args.device,
            "checkpoint": args.weights or args.name,
            "model": {"backbone": {"name": model.description.backbone}},
            "data": {
                "movies": args.movies,
                "reader": args.reader,
                "missing_movies": "skip",
                "workers": args.workers,
                **data,
            },
            "train": {"loss": {"name": "bce" if charades else "cross_entropy"}},
            "eval": {"temporal_views": clips, "spatial_crops": crops},
        }
    )
    return fit_to_model(config, model)


def _classes(args: argparse.Namespace, model: Any, reasons: list[str]) -> str:
    """The file of class names: given, or written from what the weights answer for."""
    from avadet.data.label_map import read_label_map
    from avadet.files import write_text

    known = model.description.class_names
    if args.classes is None:
        if known is None:
            raise UserError(f"--classes is missing: {args.name} does not name its classes")
        path = Path(args.out) / "classes.txt"
        write_text(path, "\n".join(known) + "\n")
        return str(path)
    names = read_label_map(args.classes).names
    if known is not None and len(known) == len(names):
        differing = [i for i, pair in enumerate(zip(known, names)) if _plain(*pair)]
        if differing:
            i = differing[0]
            reasons.append(
                f"{args.classes}: {len(differing)} classes have another name than the weights' "
                f"(first: number {i}, '{names[i]}' for '{known[i]}'); is it in another order?"
            )
    return str(args.classes)


def _plain(*names: str) -> bool:
    """Whether names differ in more than case and signs."""
    return len({re.sub(r"[^a-z0-9]", "", name.lower()) for name in names}) > 1


def _kinetics(
    args: argparse.Namespace, config: Any, model: Any, reasons: list[str]
) -> dict[str, Any]:
    from avadet.commands.eval import score_clips
    from avadet.engine.clip_task import top_accuracy
    from avadet.engine.precision import default_device

    scores, dataset = score_clips(config, model, default_device(args.device), args.precision)
    if not scores.names:
        raise UserError(f"{args.groundtruth}: none of its clips can be read from {args.movies}")
    expected = _PER_CLASS * model.description.num_classes
    if len(scores.names) != expected:
        reasons.append(
            f"{len(scores.names)} clips are scored; the validation set was published with about "
            f"{expected} ({_PER_CLASS} a class)"
        )
    if dataset.unlisted:
        reasons.append(
            f"{dataset.unlisted} listed clips are missing or cannot be read "
            f"({Path(args.out) / 'unreadable_val.txt'})"
        )
    metrics = {name: 100 * value for name, value in top_accuracy(scores).items()}
    return {"measured": metrics, "clips": len(scores.names), "views": dataset.num_views}


def _charades(
    args: argparse.Namespace, config: Any, model: Any, reasons: list[str]
) -> dict[str, Any]:
    from avadet.commands.eval import score_charades
    from avadet.engine.precision import default_device

    device = default_device(args.device)
    task, scores = score_charades(config, model, device, args.precision, Path(args.out))
    results = task.results(scores)
    result = results["official"]
    if result.num_items != _CHARADES_VIDEOS:
        reasons.append(
            f"{result.num_items} videos are annotated; Charades' test set has {_CHARADES_VIDEOS}"
        )
    if result.missing:
        reasons.append(
            f"{result.missing} annotated videos have no scores: their movies are missing"
        )
    return {
        "measured": {"map": 100 * (result.mAP or 0.0)},
        "videos": result.num_items,
        "protocols": {name: each.to_json() for name, each in results.items()},
    }
