"""``avadet features``: what a network knows of clips, or of every person for a feature bank."""

from __future__ import annotations

import argparse
from pathlib import Path

from avadet.commands import bank_features
from avadet.errors import UserError

HELP = "features of whole movies: of clips (VIDEO... --out x.npz), or of people (--bank DIR)"

# No movie has more frames than that, and each clip is a run of the network.
_LEAST_STRIDE = 0.001

USAGE = """nothing to do. Features of the clips of movies:
  avadet features VIDEO... --weights FILE_OR_NAME --out features.npz
or of every person, for a long-term feature bank:
  avadet features CONFIG --weights FILE_OR_NAME --bank DIR
  avadet features --movies FOLDER --boxes CSV... --weights FILE_OR_NAME --bank DIR"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``avadet features``."""
    parser.add_argument(
        "inputs",
        nargs="*",
        metavar="VIDEO | CONFIG key.sub=value",
        help="movies; or with --bank a YAML file (its movies and boxes) and overrides",
    )
    parser.add_argument("--weights", help="a file or a zoo name; with CONFIG its own by default")
    parser.add_argument("--arch", help="its architecture, where the file does not say")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:0 (default: auto)")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16", "fp16", "auto"))
    parser.add_argument(
        "--batch-size", type=int, default=8, metavar="N", help="clips per run of the network"
    )
    clips = parser.add_argument_group("clips")
    clips.add_argument("--out", type=Path, metavar="NPZ", help="features, times, movies")
    way = clips.add_mutually_exclusive_group()
    way.add_argument(
        "--stride",
        type=float,
        metavar="S",
        help="seconds from one clip to the next (default: the length of a clip)",
    )
    way.add_argument("--views", type=int, metavar="N", help="N clips spread as in a test instead")
    people = parser.add_argument_group("people")
    people.add_argument("--bank", type=Path, metavar="DIR", help="folder of the feature bank")
    people.add_argument("--movies", type=Path, help="folder of movies, instead of a CONFIG's")
    people.add_argument(
        "--boxes", type=Path, nargs="+", metavar="CSV", help="boxes, instead of a CONFIG's"
    )
    people.add_argument(
        "--split",
        choices=("train", "val", "both"),
        default="both",
        help="whose movies of a CONFIG (default: both)",
    )
    people.add_argument(
        "--score-threshold",
        type=float,
        default=0.9,
        metavar="P",
        help="least score of a box (default: 0.9, as published)",
    )
    people.add_argument(
        "--movie-start",
        type=float,
        metavar="S",
        help="second of the source movie at which the files begin (900 for AVA's cuts)",
    )
    people.add_argument("--half", action="store_true", help="keep float16, half the space")
    people.add_argument(
        "--import",
        dest="imported",
        type=Path,
        nargs="+",
        metavar="PKL",
        help="fill the bank from banks of MMAction2 instead (lfb_train.pkl lfb_val.pkl)",
    )
    people.add_argument(
        "--check", action="store_true", help="compare the bank's files with their checksums"
    )


def run(args: argparse.Namespace) -> int:
    """Writes what was asked for; 130 when stopped on request (it goes on where it was)."""
    if args.batch_size < 1:
        raise UserError(f"--batch-size {args.batch_size}: must be at least 1")
    if not 0 <= args.score_threshold <= 1:
        raise UserError(f"--score-threshold {args.score_threshold:g}: must lie between 0 and 1")
    if args.check or args.imported:
        if args.bank is None:
            raise UserError("--bank: which one? Give its folder")
        return bank_features.check(args) if args.check else bank_features.import_files(args)
    from_config = bool(args.inputs) and args.inputs[0].endswith((".yaml", ".yml"))
    if from_config or args.movies or args.boxes or args.bank:
        return bank_features.fill(args, from_config, USAGE)
    if not args.inputs:
        raise UserError(USAGE)
    return _clips(args)


def _clips(args: argparse.Namespace) -> int:
    import numpy as np
    from tqdm import tqdm

    from avadet.engine.precision import default_device
    from avadet.files import atomic_path, keep_inputs
    from avadet.pipeline.features import clip_features
    from avadet.video.reader import open_video

    if args.out is None or args.out.suffix != ".npz":
        raise UserError("--out: where to? Give a file named .npz")
    if args.stride is not None and not _LEAST_STRIDE <= args.stride < float("inf"):
        raise UserError(f"--stride {args.stride:g}: must be {_LEAST_STRIDE} seconds at least")
    if args.views is not None and args.views < 1:
        raise UserError(f"--views {args.views}: must be at least 1")
    keep_inputs(args.out, filter(None, (*args.inputs, args.weights)), "--out")
    for movie in args.inputs:
        if not Path(movie).exists():
            raise UserError(f"{movie}: there is no such file")
    extractor, mark = bank_features.load_extractor(args, args.weights, default_device(args.device))
    seconds, features = [], []
    for movie in tqdm(args.inputs, desc="features", unit="movie", disable=None, leave=False):
        with open_video(movie) as reader:
            times, found = clip_features(
                reader,
                movie,
                extractor,
                stride=args.stride,
                views=args.views,
                batch_size=args.batch_size,
            )
        seconds.append(times)
        features.append(found)
    counts = [len(times) for times in seconds]
    with atomic_path(args.out) as temporary:
        np.savez(
            temporary,
            features=np.concatenate(features),
            seconds=np.concatenate(seconds),
            movie=np.repeat(np.arange(len(counts)), counts),
            movies=np.asarray(args.inputs, np.str_),
            model=np.asarray(extractor.description.name, np.str_),
            fingerprint=np.asarray(mark, np.str_),
        )
    channels = features[0].shape[1]
    print(f"{args.out}: {sum(counts)} clips of {len(counts)} movies, {channels} channels")
    return 0
