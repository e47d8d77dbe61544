"""``avadet features``: what a network knows of clips, or of every person for a feature bank."""

from __future__ import annotations

import argparse
import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avadet.errors import UserError

if TYPE_CHECKING:
    from avadet.data.box_table import BoxTable
    from avadet.data.media import Media

HELP = "features of whole movies: of clips (VIDEO... --out x.npz), or of people (--bank DIR)"

log = logging.getLogger(__name__)
_USAGE = """nothing to do. Features of the clips of movies:
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
        "--check", action="store_true", help="compare the bank's files with their checksums"
    )


def run(args: argparse.Namespace) -> int:
    """Writes what was asked for; 130 when stopped on request (it goes on where it was)."""
    if args.batch_size < 1:
        raise UserError(f"--batch-size {args.batch_size}: must be at least 1")
    if not 0 <= args.score_threshold <= 1:
        raise UserError(f"--score-threshold {args.score_threshold:g}: must lie between 0 and 1")
    if args.check:
        return _check_bank(args)
    from_config = bool(args.inputs) and args.inputs[0].endswith((".yaml", ".yml"))
    if from_config or args.movies or args.boxes or args.bank:
        return _people(args, from_config)
    if not args.inputs:
        raise UserError(_USAGE)
    return _clips(args)


def _check_bank(args: argparse.Namespace) -> int:
    from avadet.data.feature_bank import FeatureBank

    if args.bank is None:
        raise UserError("--check: of which bank? Give --bank DIR")
    bank = FeatureBank(args.bank)
    rows = bank.check()
    print(f"{args.bank}: {len(bank.videos)} movies, {rows} persons, as written")
    return 0


def _extractor(args: argparse.Namespace, weights: str | None, device: Any) -> tuple[Any, str]:
    """The network and its fingerprint."""
    from avadet import convert
    from avadet.models.description import fingerprint
    from avadet.pipeline.features import FeatureExtractor

    if weights is None:
        raise UserError("--weights: which network? Give a file, or a name of `avadet zoo list`")
    model = convert.load_model(weights, arch=args.arch)
    mark = fingerprint(model)
    return FeatureExtractor(model, device=device, precision=args.precision), mark


# ---------------------------------------------------------------------------------------- clips


def _clips(args: argparse.Namespace) -> int:
    import numpy as np
    from tqdm import tqdm

    from avadet.engine.precision import default_device
    from avadet.files import atomic_path
    from avadet.pipeline.features import clip_features
    from avadet.video.reader import open_video

    if args.out is None or args.out.suffix != ".npz":
        raise UserError("--out: where to? Give a file named .npz")
    if args.stride is not None and not args.stride > 0:
        raise UserError(f"--stride {args.stride:g}: must be above 0 seconds")
    if args.views is not None and args.views < 1:
        raise UserError(f"--views {args.views}: must be at least 1")
    for movie in args.inputs:
        if not Path(movie).exists():
            raise UserError(f"{movie}: there is no such file")
    extractor, mark = _extractor(args, args.weights, default_device(args.device))
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


# --------------------------------------------------------------------------------------- people


@dataclass(frozen=True)
class _Movies:
    """Movies with the boxes of their people.

    Attributes:
        media: where they are.
        boxes: all boxes, of any score.
        videos: the names of the movies wanted.
        start: second of the source movie at which the files begin.
    """

    media: Media
    boxes: BoxTable
    videos: list[str]
    start: float


def _people(args: argparse.Namespace, from_config: bool) -> int:
    from avadet.config import load_config
    from avadet.engine import distributed
    from avadet.engine.precision import default_device

    config = load_config(args.inputs[0], args.inputs[1:]) if from_config else None
    if config is not None and (args.movies or args.boxes):
        raise UserError("give a CONFIG, or --movies and --boxes, not both")
    if config is None and (args.inputs or not (args.movies and args.boxes)):
        raise UserError(f"--bank: whose people? {_USAGE.split('. ', 1)[1]}")
    folder = args.bank or (config and config.data.feature_bank)
    if not folder:
        raise UserError("--bank: where to? Give a folder, or data.feature_bank=DIR")
    weights = args.weights
    if config is not None and weights is None:
        weights = config.checkpoint or str(Path(config.out) / "model.safetensors")
    device = default_device(args.device, distributed.local_rank())
    with distributed.processes(device.type):
        movies = _of_config(config, args.split) if config else _of_files(args.movies, args.boxes)
        if args.movie_start is not None:
            movies = replace(movies, start=args.movie_start)
        return _fill(args, Path(folder), _extractor(args, weights, device), movies)


def _of_config(config: Any, split: str) -> _Movies:
    from avadet import build
    from avadet.data.box_table import BoxTable

    classes = build.read_classes(config)
    splits = ("train", "val") if split == "both" else (split,)
    found = [build.bank_boxes(config, classes, each) for each in splits]
    videos = sorted({video for _, listed in found for video in listed})
    media, start = build.build_media(config)
    if config.data.missing_movies == "skip" and (absent := media.missing(videos)):
        log.warning("%d of %d movies are missing; they are left out", len(absent), len(videos))
        videos = sorted(set(videos) - set(absent))
    return _Movies(media, BoxTable.concatenate([boxes for boxes, _ in found]), videos, start)


def _of_files(movies: Path, boxes: list[Path]) -> _Movies:
    from avadet.data.ava_csv import read_proposals
    from avadet.data.media import MovieFolder

    table = read_proposals([str(path) for path in boxes])
    return _Movies(MovieFolder(movies), table, list(table.videos), 0.0)


def _fill(args: argparse.Namespace, folder: Path, network: tuple[Any, str], movies: _Movies) -> int:
    """Adds the movies that are missing, this process its share of them."""
    from tqdm import tqdm

    from avadet.data.feature_bank import FeatureBank
    from avadet.engine import distributed
    from avadet.engine.interrupt import StopRequest

    if absent := movies.media.missing(movies.videos):
        named = ", ".join(absent[:5]) + (", ..." if len(absent) > 5 else "")
        raise UserError(
            f"{len(absent)} of {len(movies.videos)} movies are missing: {named} "
            f"({movies.media.where()})"
        )
    extractor = network[0]
    writer = _writer(folder, network, args.half)
    jobs = _jobs(writer, movies, args.score_threshold)
    mine = jobs[distributed.rank() :: distributed.world_size()]
    bar = tqdm(
        total=sum(len(people.keyframes) for people, _ in mine),
        desc="features",
        unit="keyframe",
        disable=None if distributed.is_main() else True,
    )
    with StopRequest() as stop, bar:

        def after_batch(keyframes: int) -> None:
            bar.update(keyframes)
            if stop.requested:
                raise KeyboardInterrupt

        try:
            for people, boxes in mine:
                bar.set_postfix_str(people.video)
                with movies.media.open(people.video) as reader:
                    parts = people.compute(
                        reader,
                        extractor,
                        movie_start=movies.start,
                        batch_size=args.batch_size,
                        after_batch=after_batch,
                    )
                    counts = [len(each) for each in people.boxes_norm]
                    writer.write(people.video, people.seconds, counts, boxes, parts)
        except KeyboardInterrupt:
            print(f"stopped; finished movies are kept in {folder}: the same command goes on")
            return 130
    distributed.barrier()
    if distributed.is_main():
        bank = FeatureBank(folder)
        rows = sum(len(bank.movie(video).features) for video in bank.videos)
        print(
            f"{folder}: {len(bank.videos)} movies, {rows} persons, {bank.facts.channels} channels "
            f"by {bank.facts.model}"
        )
    return 0


def _writer(folder: Path, network: tuple[Any, str], half: bool) -> Any:
    from avadet.data.feature_bank import BankFacts, BankWriter
    from avadet.engine import distributed

    extractor, mark = network
    facts = BankFacts(
        model=extractor.description.name,
        fingerprint=mark,
        precision=extractor.precision.name,
        channels=extractor.person_channels,
        dtype="float16" if half else "float32",
    )
    if distributed.is_main():
        BankWriter(folder, facts)
    distributed.barrier()
    return BankWriter(folder, facts)


def _jobs(writer: Any, movies: _Movies, threshold: float) -> list[tuple[Any, str]]:
    """(people of a movie, hash of their boxes) of the movies that are not there yet."""
    from avadet.data.feature_bank import boxes_hash
    from avadet.engine import distributed
    from avadet.pipeline.features import PersonFeatures

    jobs = []
    for video in movies.videos:
        people = PersonFeatures(video, movies.boxes, threshold)
        boxes = boxes_hash(people.seconds, people.boxes_norm)
        if not writer.has(video, boxes):
            jobs.append((people, boxes))
    if len(jobs) < len(movies.videos):
        log.info("%d of %d movies are there", len(movies.videos) - len(jobs), len(movies.videos))
    # All processes must have looked before the first of them writes.
    distributed.barrier()
    return jobs
