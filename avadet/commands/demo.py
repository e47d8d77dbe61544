"""``avadet demo``: who does what in a movie, drawn over it and written beside it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avadet.errors import UserError
from avadet.files import keep_inputs

if TYPE_CHECKING:
    from avadet.pipeline import ActionScorer, MovieJob, PeopleFinder

HELP = "draw people and their actions over a movie"

_NO_WEIGHTS = """no weights to score actions with. Give one of
  --run DIR       a folder with weights of both networks, such as the one `make quickstart` writes
                  (avadet demo MOVIE --out clip.mp4 --run quickstart)
  --weights FILE  an action detector (.safetensors of `avadet train` or `avadet convert`), with
                  --persons or --boxes for the people
  --people-only   boxes and tracks without actions"""
_NO_PEOPLE = """nothing that finds people. Give one of
  --persons WEIGHTS  a person detector's weights: {where}
  --boxes FILE.csv   boxes in AVA's proposal format: video,second,x1,y1,x2,y2,,score
  --run DIR          a folder with weights of both networks"""


def seconds(text: str) -> float:
    """``90``, ``1:30`` and ``0:01:30.5`` as seconds."""
    parts = text.split(":")
    try:
        values = [float(part) for part in parts]
    except ValueError:
        values = []
    if not 1 <= len(values) <= 3 or not all(0 <= value < float("inf") for value in values):
        raise argparse.ArgumentTypeError(f"'{text}' is no time; write 90, 1:30 or 0:01:30")
    total = 0.0
    for value in values:
        total = 60 * total + value
    return total


def _bounded(low: float, high: float, kind: Callable[[str], Any] = float) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"'{text}' is no number") from None
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text} must lie in {low:g}..{high:g}")
        return value

    return parse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options, grouped by what they are about."""
    share = _bounded(0, 1)
    parser.add_argument("movie", type=Path, help="a movie file, or a folder of extracted frames")
    outputs = parser.add_argument_group("what to write (one at least)")
    outputs.add_argument("--out", type=Path, help="the movie with people and actions, .mp4")
    outputs.add_argument("--csv", type=Path, help="scores in AVA's format, times of the source")
    outputs.add_argument("--json", type=Path, help="boxes, track ids and all scores")

    networks = parser.add_argument_group("networks")
    networks.add_argument("--run", type=Path, help="folder with weights of both networks")
    networks.add_argument("--weights", type=str, help="action detector: a file or a zoo name")
    networks.add_argument("--arch", help="its architecture, where the file does not say")
    networks.add_argument(
        "--persons",
        help="person detector: weights, an engine (native, detectron2) or both as ENGINE:WEIGHTS",
    )
    networks.add_argument(
        "--bank", help="folder of the feature bank that the weights ask, see `avadet features`"
    )
    networks.add_argument("--boxes", type=Path, help="known boxes instead of a person detector")
    networks.add_argument("--people-only", action="store_true", help="do not score actions")
    networks.add_argument("--device", default="auto", help="cpu, cuda, cuda:0 (default: auto)")
    networks.add_argument("--precision", default="auto", help="auto, fp32, bf16, fp16")
    networks.add_argument(
        "--batch-size",
        type=_bounded(1, 512, int),
        default=1,
        metavar="N",
        help="keyframes at a time; above 1 is faster on a GPU and equal up to rounding",
    )

    what = parser.add_argument_group("what to find and show")
    what.add_argument(
        "--rate",
        type=_bounded(0.01, 30),
        default=1.0,
        metavar="R",
        help="keyframes per second (default 1, as in AVA)",
    )
    what.add_argument("--start", type=seconds, default=0.0, help="90, 1:30 or 0:01:30")
    what.add_argument("--end", type=seconds, help="likewise; default: the end of the movie")
    what.add_argument(
        "--movie-start",
        type=seconds,
        default=0.0,
        help="second of the source movie at which the file begins (900 for AVA's 15 minute cuts); "
        "all times given and written are the source's",
    )
    what.add_argument(
        "--person-threshold",
        type=share,
        default=0.7,
        metavar="P",
        help="least score of a person (default 0.7)",
    )
    which = what.add_mutually_exclusive_group()
    which.add_argument(
        "--action-threshold",
        type=share,
        default=0.5,
        metavar="P",
        help="least probability of an action shown (default 0.5)",
    )
    which.add_argument(
        "--top-k",
        type=_bounded(1, 1000, int),
        metavar="K",
        help="show each person's K most probable actions instead",
    )

    looks = parser.add_argument_group("looks")
    looks.add_argument(
        "--min-height",
        type=_bounded(0, 8000, int),
        default=360,
        metavar="PX",
        help="enlarge lower movies to this, so that labels fit (default 360)",
    )
    looks.add_argument("--scale", type=_bounded(0.05, 20), help="enlarge or shrink by this instead")
    looks.add_argument("--font-size", type=_bounded(6, 400, int), metavar="PX")
    looks.add_argument("--font", type=Path, help="a TrueType file for the labels")
    looks.add_argument(
        "--max-labels",
        type=_bounded(1, 100, int),
        default=6,
        metavar="N",
        help="most actions written per person (default 6)",
    )
    looks.add_argument("--no-audio", action="store_true", help="leave the sound out")


def run(args: argparse.Namespace) -> int:
    """Analyses the movie and writes what was asked for."""
    _check(args)
    from avadet.pipeline import MovieJob, process
    from avadet.video.reader import open_video

    with open_video(args.movie) as reader:
        job = MovieJob(
            movie=args.movie,
            out=args.out,
            csv=args.csv,
            json=args.json,
            start=args.start,
            end=args.end,
            movie_start=args.movie_start,
            rate=args.rate,
            action_threshold=args.action_threshold,
            top_k=args.top_k,
            min_height=args.min_height,
            scale=args.scale,
            font=args.font,
            font_size=args.font_size,
            max_labels=args.max_labels,
            sound=not args.no_audio,
            batch_size=args.batch_size,
        )
        # A movie that cannot be read is said before seconds are spent on loading networks.
        job.check(reader)
        people, actions = networks(args)
        outcome = process(reader, job, people, actions)
    _tell(job, outcome)
    return 130 if outcome.interrupted else 0


def networks(args: argparse.Namespace) -> tuple[PeopleFinder, ActionScorer | None]:
    """The person finder and the action scorer that the options name.

    Raises:
        UserError: none are named, or their files cannot be used.
    """
    from avadet.engine.precision import default_device

    weights, persons = args.weights, args.persons
    if args.run is not None:
        from avadet.pipeline import weights_of_run

        found = weights_of_run(args.run)
        weights = weights or (found[0] and str(found[0]))
        persons = persons or (found[1] and str(found[1]))
    if not weights and not args.people_only:
        raise UserError(_NO_WEIGHTS)
    if not persons and not args.boxes:
        from avadet.persons.weights import WHERE_TO_GET

        raise UserError(_NO_PEOPLE.format(where=WHERE_TO_GET))
    device = default_device(args.device)
    actions = None
    if not args.people_only:
        actions = load_actions(weights, args.arch, device, args.precision, args.bank)
        if actions.bank is not None:
            actions.bank.bank.require([args.movie.stem])
    return _people(args, persons, device), actions


def load_actions(
    weights: str, arch: str | None, device: Any, precision: str, bank: str | None = None
) -> ActionScorer:
    """An action detector ready to score, with the feature bank that it asks."""
    from avadet.build import open_bank
    from avadet.convert import load_model
    from avadet.pipeline import ActionScorer

    model = load_model(weights, arch=arch)
    view = open_bank(model, bank, "--bank")
    return ActionScorer(model, device=device, precision=precision, bank=view)


def _people(args: argparse.Namespace, persons: str | None, device: Any) -> PeopleFinder:
    from avadet.pipeline import DetectedPeople, GivenPeople

    if args.boxes is not None:
        from avadet.data.ava_csv import read_proposals

        return GivenPeople(read_proposals(args.boxes), args.movie.stem, args.person_threshold)
    from avadet.engine.precision import resolve
    from avadet.persons import create_detector

    precision = resolve(args.precision, device).name
    engine, weights = "auto", persons
    head, _, tail = persons.partition(":")
    if head in ("native", "detectron2", "auto"):
        engine, weights = head, tail
        if not weights:
            from avadet.persons.weights import WHERE_TO_GET

            raise UserError(f"--persons {persons}: which weights? {WHERE_TO_GET}")
    detector = create_detector(
        engine,
        weights=weights,
        score_threshold=args.person_threshold,
        device=str(device),
        # bfloat16 where the action model has it too; boxes know no float16.
        precision="auto" if precision == "fp16" else precision,
    )
    return DetectedPeople(detector, args.person_threshold)


def _check(args: argparse.Namespace) -> None:
    if not (args.out or args.csv or args.json):
        raise UserError("nothing to write: give --out clip.mp4, --csv FILE or --json FILE")
    if args.out is not None and args.out.suffix.lower() not in (".mp4", ".m4v", ".mov"):
        raise UserError(f"--out {args.out}: the movie is written as .mp4; name it so")
    read = [
        each for each in (args.movie, args.boxes, args.weights, args.persons, args.font) if each
    ]
    written: dict[Path, str] = {}
    for option, path in (("--out", args.out), ("--csv", args.csv), ("--json", args.json)):
        if path is not None:
            keep_inputs(path, filter(None, read), option)
            first = written.setdefault(path.resolve(), option)
            if first != option:
                raise UserError(
                    f"{option} {path}: is written by {first} already; name another file"
                )
    if args.end is not None and args.end <= args.start:
        raise UserError(f"--end {args.end:g} s must lie after --start {args.start:g} s")


def _tell(job: MovieJob, outcome: Any) -> None:
    def say(text: str) -> None:
        print(text, file=sys.stderr)

    if outcome.interrupted:
        say(f"stopped at second {outcome.last_second:.1f}; what was done so far is kept")
    say(
        f"{outcome.keyframes} keyframes, {outcome.people} boxes of {outcome.tracks} tracks in "
        f"{outcome.elapsed:.1f} s; busy with: {outcome.clock}"
    )
    if outcome.keyframes and not outcome.people:
        say("nobody was found; a lower --person-threshold shows the doubtful ones")
    for path in filter(None, (job.out, job.csv, job.json)):
        print(path)
