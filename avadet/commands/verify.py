"""``avadet verify``: does a public checkpoint reach its published number on this machine's data?"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Any

HELP = "check weights, movies, annotations and protocol against a published number"

log = logging.getLogger(__name__)

# AVA's keyframes: seconds of the source movie, one each second.
KEYFRAMES: tuple[float | None, float | None] = (902, 1798)
# Seconds of the source movie that the last keyframe's clip needs, and the 15-minute cut's length.
_LAST_SECOND = 1799.0
_CUT_LENGTH = 899.0
# Score cuts of the published tests.
_SCORE_CUTS = {"mmaction2": 0.9, "pyslowfast": 0.8, "pytorchvideo": 0.8}
_PROTOCOLS = {"mmaction2": "mmaction2", "pyslowfast": "pyslowfast", "pytorchvideo": "pyslowfast"}
_SLOW_CUT, _BANK_CUT = 0.9, 0.85
_AVA_VAL_MOVIES = 64
_NO_REASON = "no reason found: weights, movies, annotations and protocol are as published"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``avadet verify``."""
    parser.add_argument("name", help="an AVA, Kinetics or Charades row of `avadet zoo list`")
    parser.add_argument("--movies", required=True, metavar="DIR", help="movies, or see --reader")
    parser.add_argument(
        "--groundtruth",
        required=True,
        metavar="CSV",
        help="ava_val_v2.*.csv; Kinetics' list of clips; Charades_v1_test.csv",
    )
    parser.add_argument("--classes", metavar="FILE", help="of clips, one name a line, in order")
    parser.add_argument("--views", metavar="TxS", help="of clips: 10x3 (default: as published)")
    parser.add_argument("--proposals", metavar="CSV", help="the published person boxes")
    parser.add_argument("--excluded", metavar="CSV", help="ava_val_excluded_timestamps_v2.*.csv")
    parser.add_argument("--label-map", metavar="PBTXT", help="scored classes (default: AVA's 60)")
    parser.add_argument("--weights", metavar="FILE", help="instead of the zoo's file")
    parser.add_argument("--bank", metavar="DIR", help="the feature bank that the weights ask")
    parser.add_argument("--reader", choices=("movies", "frames"), default="movies")
    parser.add_argument("--protocol", help="default: the one of the published number")
    parser.add_argument("--score-threshold", type=float, metavar="S", help="cut of the proposals")
    parser.add_argument("--tolerance", type=float, default=0.3, help="points (default 0.3)")
    parser.add_argument("--out", default="verify", metavar="DIR", help="for detections.csv")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16", "fp16", "auto"))
    parser.add_argument("--workers", type=int, default=2, help="decoding processes")


def run(args: argparse.Namespace) -> int:
    """Checks, scores and compares; 0 within the tolerance, 1 outside."""
    from avadet.build import open_bank
    from avadet.convert import load_model, zoo
    from avadet.errors import UserError
    from avadet.registry import suggest

    row = zoo.rows().get(args.name)
    if row is None:
        near = suggest(args.name, list(zoo.rows()))
        raise UserError(f"unknown zoo name '{args.name}'.{near} `avadet zoo list` shows all")
    if not row.published or "in1k" in args.name.split("_"):
        raise UserError(f"{args.name}: no number of AVA, Kinetics or Charades is published for it")
    if not any(word in args.name for word in ("ava2", "avak")):
        return _verify_clips(args, row)
    reasons = [*_check_files(args), *_check_weights(args, row)]
    model = load_model(args.weights or args.name, arch=(row.arch or None) if args.weights else None)
    cut, protocol = args.score_threshold, args.protocol or _PROTOCOLS[row.source]
    published_cut = _SLOW_CUT if "slow_r50" in args.name else _SCORE_CUTS[row.source]
    if "_lfb_" in args.name:
        published_cut = _BANK_CUT
    if cut is None:
        cut = published_cut
    elif cut != published_cut:
        reasons.append(f"proposals of score >= {cut:g}; the published test cuts at {published_cut}")
    if protocol != _PROTOCOLS[row.source]:
        reasons.append(f"protocol {protocol}; the published number is by {_PROTOCOLS[row.source]}")
    dataset = _dataset(args, model.description, cut, open_bank(model, args.bank, "--bank"))
    reasons += _check_movies(args, dataset)
    result = _score(args, model, dataset, protocol)
    return _compare(args, row, result, reasons)


def _verify_clips(args: argparse.Namespace, row: Any) -> int:
    from avadet.commands.verify_clips import verify
    from avadet.convert import load_model
    from avadet.errors import UserError

    for option in ("groundtruth", "classes"):
        path = getattr(args, option)
        if path is not None and not Path(path).exists():
            raise UserError(f"--{option}: {path}: there is no such file")
    reasons = _check_weights(args, row)
    model = load_model(args.weights or args.name, arch=(row.arch or None) if args.weights else None)
    found = verify(args, row, model, reasons)
    if args.precision != "fp32":
        reasons.append(f"precision {args.precision}; the published number is of fp32")
    shared = [name for name in row.published if name in found["measured"]]
    differences = {name: found["measured"][name] - row.published[name] for name in shared}
    # The first number decides: top-1, or mAP.
    within = abs(differences[shared[0]]) <= args.tolerance
    for name in shared:
        print(
            f"{row.name}: {name} {found['measured'][name]:.2f}, published "
            f"{row.published[name]:g} ({row.protocol}), difference {differences[name]:+.2f}"
        )
    print(f"{'within' if within else 'outside'} the tolerance of {args.tolerance:g}")
    for reason in reasons or ([] if within else [_NO_REASON]):
        print(f"- {reason}")
    _write_report(args, row, within, reasons, found)
    return 0 if within else 1


def _write_report(
    args: argparse.Namespace, row: Any, within: bool, reasons: list[str], found: dict[str, Any]
) -> None:
    """``verify.json`` beside the scores."""
    from avadet.files import write_json

    values = {"name": row.name, "published": row.published, "within": within}
    values |= {"tolerance": args.tolerance, "reasons": reasons, **found}
    write_json(Path(args.out) / "verify.json", values)


def _check_files(args: argparse.Namespace) -> list[str]:
    """Annotations that are there, and of the version that the name says."""
    from avadet.errors import UserError

    reasons = []
    for option in ("groundtruth", "proposals", "excluded", "label_map"):
        path = getattr(args, option)
        if path is not None and not Path(path).is_file():
            raise UserError(f"--{option.replace('_', '-')}: {path}: there is no such file")
    version = "2.1" if "ava21" in args.name else "2.2"
    other = "2.2" if version == "2.1" else "2.1"
    if f"v{other}" in Path(args.groundtruth).name:
        reasons.append(f"annotations of AVA v{other}; the published number is on v{version}")
    if args.proposals is None:
        reasons.append("ground-truth boxes are scored; the published test takes detected boxes")
    if args.excluded is None:
        reasons.append("no list of excluded timestamps: their false positives count")
    return reasons


def _check_weights(args: argparse.Namespace, row: Any) -> list[str]:
    """The file must be the published one where its checksum is known."""
    from avadet.convert.download import sha256_of

    path = Path(args.weights) if args.weights else row.path
    if not path.is_file() or not row.sha256_prefix:
        return []
    checksum = sha256_of(path)
    if checksum.startswith(row.sha256_prefix):
        return []
    return [f"{path}: SHA-256 {checksum[:8]}..., not the published {row.sha256_prefix}..."]


def _dataset(args: argparse.Namespace, description: Any, cut: float, bank: Any) -> Any:
    from avadet.data.ava import AvaDataset
    from avadet.data.transforms import TestPolicy

    clip = description.preprocessing
    return AvaDataset(
        args.movies,
        groundtruth=None if args.proposals else args.groundtruth,
        proposals=args.proposals,
        policy=TestPolicy(clip.test_short_side),
        num_frames=clip.num_frames,
        frame_stride=clip.frame_stride,
        fps=clip.fps,
        first_second=KEYFRAMES[0],
        last_second=KEYFRAMES[1],
        score_threshold=cut,
        reader=args.reader,
        missing="skip",
        bank=bank,
    )


def _check_movies(args: argparse.Namespace, dataset: Any) -> list[str]:
    """Movies that are missing, cut or too short."""
    from avadet.data.ava_csv import read_groundtruth

    reasons = []
    annotated = set(read_groundtruth(args.groundtruth, dataset.label_map).videos)
    here = set(dataset.videos)
    absent = sorted(annotated - here)
    if absent:
        shown = ", ".join(absent[:5]) + (", ..." if len(absent) > 5 else "")
        reasons.append(
            f"{len(absent)} of {len(annotated)} annotated movies are missing or have no boxes: "
            f"{shown}"
        )
    if len(annotated) != _AVA_VAL_MOVIES:
        reasons.append(f"{len(annotated)} movies are annotated; AVA's val set has 64")
    short, cut = [], []
    for video in sorted(here):
        with dataset.media.open(video) as reader:
            length = reader.duration + dataset.movie_start
        if length < _LAST_SECOND:
            (cut if abs(reader.duration - _CUT_LENGTH) < 10 else short).append(video)
    if short:
        reasons.append(f"{len(short)} movies end before second 1799: {', '.join(short[:5])}")
    if cut:
        reasons.append(
            f"{len(cut)} movies look like 15-minute cuts ({', '.join(cut[:3])}); whole movies are "
            "expected, whose second 902 is the first keyframe"
        )
    return reasons


def _score(args: argparse.Namespace, model: Any, dataset: Any, protocol: str) -> Any:
    from avadet.data.ava_csv import write_detections_csv
    from avadet.data.movie_order import MovieOrderLoader
    from avadet.engine.infer import run_detector
    from avadet.engine.precision import default_device, place, resolve
    from avadet.evaluation.ava import frame_map

    log.info("scoring %s", dataset.summary())
    description = model.description
    device = default_device(args.device)
    precision = resolve(args.precision, device)
    place(model, device, precision)
    detections = run_detector(
        model,
        MovieOrderLoader(dataset, 1, num_workers=args.workers),
        preprocessing=description.preprocessing,
        activation=description.activation,
        device=device,
        precision=precision,
    )
    path = Path(args.out) / "detections.csv"
    ids = description.class_ids or tuple(range(1, description.num_classes + 1))
    write_detections_csv(path, detections, ids)
    return frame_map(args.groundtruth, path, args.label_map, args.excluded, protocol)


def _compare(args: argparse.Namespace, row: Any, result: Any, reasons: list[str]) -> int:
    from avadet.files import write_json

    published = row.published["map"]
    measured = 100 * (result.mAP or 0.0)
    if args.precision != "fp32":
        reasons.append(f"precision {args.precision}; the published number is of fp32")
    within = abs(measured - published) <= args.tolerance
    print(f"{row.name}: frame-mAP {measured:.2f}, published {published:g} ({row.protocol})")
    print(
        f"difference {measured - published:+.2f}: "
        + ("within" if within else "outside")
        + f" the tolerance of {args.tolerance:g}"
    )
    for reason in [*reasons, *result.notes]:
        print(f"- {reason}")
    if not within and not reasons:
        print(f"- {_NO_REASON}")
    write_json(
        Path(args.out) / "verify.json",
        {
            "name": row.name,
            "published": published,
            "measured": measured,
            "within": within,
            "tolerance": args.tolerance,
            "reasons": reasons,
            "result": result.to_json(),
        },
    )
    return 0 if within else 1
