"""``avadet prepare``: draw the Mini-AVA and Mini-Kinetics data sets; make proxies of movies."""

from __future__ import annotations

import argparse
from pathlib import Path

from avadet.commands import prepare_annotations, prepare_flow, prepare_proxy
from avadet.errors import UserError

HELP = (
    "make data sets: mini-ava (drawn movies in AVA's formats), mini-kinetics (drawn clips), "
    "proxy (small copies of movies that decode fast), annotations (from COCO, CVAT, VIA), "
    "flow (optical flow for the second stream)"
)

OTHERS = {"proxy": prepare_proxy, "annotations": prepare_annotations, "flow": prepare_flow}

_PRESETS = ("tiny", "small", "bench", "large")
_AVA_PRESETS = ("tiny", "small", "bench", "long_context", "large")


def _size(text: str) -> tuple[int, int]:
    """WxH."""
    width, _, height = text.lower().partition("x")
    try:
        return int(width), int(height)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: write WIDTHxHEIGHT, such as 160x120") from None


def _whole(text: str) -> tuple[int, int]:
    """A-B or one number."""
    low, dash, high = text.partition("-")
    try:
        return int(low), int(high) if dash else int(low)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: write 2 or 1-3") from None


def _heights(text: str) -> tuple[float, float]:
    """A-B or one number, parts of the frame's height."""
    low, dash, high = text.partition("-")
    try:
        return float(low), float(high) if dash else float(low)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: write 0.7 or 0.6-0.8") from None


def _classes(text: str) -> tuple[int, ...]:
    """Ids with commas between."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r}: write AVA ids with commas, such as 12,14,10"
        ) from None


def _add_common(parser: argparse.ArgumentParser, unit: str, presets: tuple[str, ...]) -> None:
    add = parser.add_argument
    add("--out", type=Path, required=True, help="folder to write; what is finished there is kept")
    add("--preset", choices=presets, default="small", help="starting point (default: small)")
    add("--seed", type=int, default=0, help="same seed, same movies and annotations (default: 0)")
    add("--movies", type=int, help=f"training {unit}")
    add("--val-movies", type=int, help=f"validation {unit}")
    add("--seconds", type=int, help="length of each movie")
    add("--size", type=_size, metavar="WxH", help="pixels")
    add("--fps", type=int, help="frames per second")
    add(
        "--person-height",
        type=_heights,
        metavar="A-B",
        help="standing height as part of the frame's",
    )
    add("--clutter", type=float, help="0 plain .. 1 crowded")
    add("--classes", type=_classes, metavar="IDS", help="AVA ids, such as 12,14,10,69")
    add(
        "--decoys",
        choices=("still", "slow", "both"),
        help="unlabelled twins of waving and clapping hands",
    )
    add("--tempo", type=float, help="factor on the speed of the limbs")
    add("--crf", type=int, help="x264 quality, 0 best .. 51")
    add("--workers", type=int, help="processes (default: one per core)")
    add(
        "--contact-sheet",
        type=Path,
        metavar="PNG",
        help="also draw all actions of these settings side by side",
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``avadet prepare``."""
    kinds = parser.add_subparsers(dest="dataset", required=True, metavar="DATASET")
    ava = kinds.add_parser("mini-ava", help="drawn movies with annotations in AVA's formats")
    _add_common(ava, "movies", _AVA_PRESETS)
    ava.add_argument("--people", type=_whole, metavar="A-B", help="people in a shot")
    ava.add_argument(
        "--pairs", type=float, help="share of the shots in which two people act on each other"
    )
    ava.add_argument(
        "--act-seconds",
        type=_whole,
        metavar="A-B",
        help="how long people keep to one action, at least 4",
    )
    ava.add_argument("--shot-acts", type=int, help="most actions in a row between two cuts")
    kinetics = kinds.add_parser("mini-kinetics", help="drawn clips of one person and one action")
    _add_common(kinetics, "clips per class", _PRESETS)
    for name, module in OTHERS.items():
        module.add_arguments(kinds.add_parser(name, help=module.HELP))


def run(args: argparse.Namespace) -> int:
    """Makes the data set and says what came out."""
    if args.dataset in OTHERS:
        return OTHERS[args.dataset].run(args)
    if args.seed < 0:
        raise UserError(f"--seed {args.seed}: must be 0 or more")
    from avadet.synthetic import mini_ava, mini_kinetics
    from avadet.synthetic.contact_sheet import save_contact_sheet
    from avadet.synthetic.settings import MINI_AVA_PRESETS, MINI_KINETICS_PRESETS, choose

    names = ("movies", "val_movies", "seconds", "fps", "person_height", "clutter", "classes")
    names += ("decoys", "tempo", "crf", "people", "pairs", "shot_acts", "act_seconds")
    overrides = {name: getattr(args, name, None) for name in names}
    if args.size is not None:
        overrides["width"], overrides["height"] = args.size
    ava = args.dataset == "mini-ava"
    settings = choose(MINI_AVA_PRESETS if ava else MINI_KINETICS_PRESETS, args.preset, overrides)
    generate = mini_ava.generate if ava else mini_kinetics.generate
    out = generate(args.out, args.preset, args.seed, workers=args.workers, **overrides)
    if args.contact_sheet is not None:
        save_contact_sheet(args.contact_sheet, settings, args.seed)
        print(f"{args.contact_sheet}: every action over time")
    for split in ("train", "val"):
        name = f"ava_{split}.csv" if ava else f"{split}.csv"
        rows = (out / "annotations" / name).read_text(encoding="utf-8").splitlines()
        if ava:
            fields = [row.split(",") for row in rows]
            frames = len({(row[0], row[1]) for row in fields})
            boxes = len({(row[0], row[1], row[7]) for row in fields})
            print(f"{split}: {frames} key frames, {boxes} people, {len(rows)} labels")
        else:
            print(f"{split}: {len(rows)} clips")
    print(f"written to {out}")
    return 0
