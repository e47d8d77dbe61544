"""``avadet bench person-views``: what more looks at a crowd give a person detector."""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

HELP = "person AP on crowded movies: one look, mirror images, sizes, smoothing over time"

log = logging.getLogger(__name__)
CONFIG = "configs/persons/mini_ava_tiny.yaml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``avadet bench person-views``."""
    parser.add_argument("--out", default="runs/bench_person_views", help="folder; it is resumed")
    parser.add_argument("--movies", type=int, default=24, help="training movies")
    parser.add_argument("--val-movies", type=int, default=16, help="held-out movies")
    parser.add_argument("--clutter", type=float, default=0.7, help="above 0.3 people hide others")
    parser.add_argument("--people", type=int, nargs=2, default=[2, 4], help="fewest and most")
    parser.add_argument("--epochs", type=float, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--scales", type=int, nargs="+", default=[96, 112, 136], help="short sides, averaged"
    )
    parser.add_argument(
        "--rate", type=int, default=5, help="looks per second where neighbours help (default 5)"
    )


def run(args: argparse.Namespace) -> int:
    """Draws, trains, measures; prints Markdown."""
    from avadet.commands.tasks import train
    from avadet.config import load_config
    from avadet.persons import create_detector, pictures
    from avadet.synthetic import mini_ava

    out = Path(args.out)
    # Five frames a second are what is looked at: drawing more would only take longer.
    data = mini_ava.generate(
        out / "data",
        "small",
        args.seed,
        movies=args.movies,
        val_movies=args.val_movies,
        clutter=args.clutter,
        people=tuple(args.people),
        fps=5,
    )
    annotations = data / "annotations"
    facts = json.loads((data / "mini_ava.json").read_text(encoding="utf-8"))
    weights = out / "persons" / "model.safetensors"
    if not weights.is_file():
        config = load_config(
            CONFIG,
            [
                f"out={weights.parent}",
                f"seed={args.seed}",
                f"data.movies={data / 'movies'}",
                f"data.train_groundtruth={annotations / 'ava_train.csv'}",
                f"data.val_groundtruth={annotations / 'ava_val.csv'}",
                f"data.first_second={facts['first_second']}",
                f"data.last_second={facts['last_second']}",
                f"train.epochs={args.epochs}",
            ],
        )
        if not train(config, resume=True).finished:
            raise KeyboardInterrupt
    truth = pictures.read_truth(annotations / "ava_val.csv")
    names = (annotations / "ava_file_names_val.txt").read_text(encoding="utf-8").split()
    movies = [data / "movies" / name for name in names]

    def detector(**views: Any) -> Any:
        return create_detector("native", weights=weights, score_threshold=0.01, **views)

    print(make_table(measure(detector, movies, truth, args.scales, args.rate)))
    return 0


def measure(
    detector: Any,
    movies: Sequence[Path],
    truth: Mapping[Any, Any],
    scales: Sequence[int],
    rate: int,
) -> list[tuple[str, dict[str, float], float]]:
    """(name, AP, CPU ms a look) of each way of looking.

    Args:
        detector: makes one from ``flip`` and ``scales``.
        truth: (M,4) normalised boxes by keyframe, whole seconds.
        rate: looks per second for smoothing with near neighbours.
    """
    from avadet.persons.smoothing import smooth

    ways: dict[str, dict[str, Any]] = {
        "one look": {},
        "+ mirror image": {"flip": True},
        f"+ short sides {', '.join(map(str, scales))}": {"scales": scales},
        "+ both": {"flip": True, "scales": scales},
    }
    rows = []
    for name, views in ways.items():
        found, cost = _look(detector(**views), movies, 1)
        rows.append((name, _quality(truth, found), cost))
        log.info("%s: %s", *rows[-1][:2])
        if not views:
            rows.append(("one look, smoothed at 1 Hz", _quality(truth, smooth(found)), cost))
    found, cost = _look(detector(), movies, rate)
    rows.append((f"one look, smoothed at {rate} Hz", _quality(truth, smooth(found)), cost * rate))
    return rows


def _look(detector: Any, movies: Sequence[Path], rate: float) -> tuple[Any, float]:
    """Proposals of all movies, and CPU ms a keyframe with decoding."""
    from avadet.persons.movies import Schedule, detect_movie
    from avadet.persons.proposals import Proposals
    from avadet.structures import Keyframe

    boxes, scores, sizes = {}, {}, {}
    started = time.process_time()
    for movie in movies:
        seconds, answers, sizes[movie.stem] = detect_movie(detector, movie, Schedule(rate))
        for second, answer in zip(seconds, answers):
            keyframe = Keyframe(movie.stem, round(second, 6))
            boxes[keyframe], scores[keyframe] = answer
    spent = (time.process_time() - started) * 1000 / max(len(boxes), 1)
    return Proposals(boxes, scores, sizes), spent


def _quality(truth: Mapping[Any, Any], found: Any) -> dict[str, float]:
    from avadet.persons.base import PersonBoxes
    from avadet.persons.coco import average_precision

    # COCO's areas need no unit here, so normalised boxes do.
    answers = {
        keyframe: PersonBoxes(boxes, found.scores[keyframe])
        for keyframe, boxes in found.boxes_norm.items()
        if keyframe in truth
    }
    return average_precision(truth, answers)


def make_table(rows: Sequence[tuple[str, dict[str, float], float]]) -> str:
    """Markdown."""
    lines = ["| | AP@50 | AP@75 | AP | CPU ms a keyframe |", "|---|---:|---:|---:|---:|"]
    for name, quality, cost in rows:
        cells = " | ".join(f"{100 * quality[key]:.1f}" for key in ("AP50", "AP75", "AP"))
        lines.append(f"| {name} | {cells} | {cost:.0f} |")
    return "\n".join(lines) + "\n"
