"""What ``avadet features --bank`` does: features of all people of movies, in one folder."""

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

log = logging.getLogger(__name__)


def load_extractor(args: argparse.Namespace, weights: str | None, device: Any) -> tuple[Any, str]:
    """A network ready to give features, and its fingerprint."""
    from avadet import convert
    from avadet.models.description import fingerprint
    from avadet.pipeline.features import FeatureExtractor

    if weights is None:
        raise UserError("--weights: which network? Give a file, or a name of `avadet zoo list`")
    model = convert.load_model(weights, arch=args.arch)
    mark = fingerprint(model)
    return FeatureExtractor(model, device=device, precision=args.precision), mark


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


def fill(args: argparse.Namespace, from_config: bool, usage: str) -> int:
    """Adds the people of a CONFIG's movies, or of ``--movies`` and ``--boxes``, to ``--bank``."""
    from avadet.config import load_config
    from avadet.engine import distributed
    from avadet.engine.precision import default_device

    config = load_config(args.inputs[0], args.inputs[1:]) if from_config else None
    if config is not None and (args.movies or args.boxes):
        raise UserError("give a CONFIG, or --movies and --boxes, not both")
    if config is None and (args.inputs or not (args.movies and args.boxes)):
        raise UserError(f"--bank: whose people? {usage.split('. ', 1)[1]}")
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
        return _fill(args, Path(folder), load_extractor(args, weights, device), movies)


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


def check(args: argparse.Namespace) -> int:
    """Compares the files of ``--bank`` with their checksums."""
    from avadet.data.feature_bank import FeatureBank

    bank = FeatureBank(args.bank)
    rows = bank.check()
    print(f"{args.bank}: {len(bank.videos)} movies, {rows} persons, as written")
    return 0


def import_files(args: argparse.Namespace) -> int:
    """Fills ``--bank`` from files of MMAction2; which network made them, nobody knows."""
    from tqdm import tqdm

    from avadet.convert.bank_files import read_mmaction2_bank
    from avadet.data.feature_bank import BankFacts, BankWriter, FeatureBank

    writer: BankWriter | None = None
    empty: list[tuple[str, str]] = []
    for path in args.imported:
        movies = read_mmaction2_bank(path)
        for video, (seconds, parts) in tqdm(movies, desc=path.name, unit="movie", disable=None):
            if not parts:
                empty.append((video, path.name))
                continue
            dtype = "float16" if args.half else "float32"
            facts = BankFacts("MMAction2's bank", "unknown", "unknown", parts[0].shape[1], dtype)
            if writer is None or writer.facts != facts:
                writer = BankWriter(args.bank, facts)
            if not writer.has(video, path.name):
                counts = [len(each) for each in parts]
                writer.write(video, seconds, counts, path.name, parts)
    if writer is None:
        raise UserError(f"{args.imported[0]}: holds nobody")
    for video, name in empty:
        if not writer.has(video, name):
            writer.write(video, [], [], name, [])
    bank = FeatureBank(args.bank)
    rows = sum(len(bank.movie(video).features) for video in bank.videos)
    print(f"{args.bank}: {len(bank.videos)} movies, {rows} persons, {bank.facts.channels} channels")
    return 0
