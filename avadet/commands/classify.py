"""``avadet classify``: what a video shows as a whole."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from avadet.errors import UserError

HELP = "name what videos show as a whole, with any classifier"


def _views(text: str) -> tuple[int, int]:
    """TxC, or T stretches of one central crop."""
    stretches, cross, crops = text.lower().partition("x")
    try:
        found = int(stretches), int(crops) if cross else 1
    except ValueError:
        found = (0, 0)
    if found[0] < 1 or found[1] not in (1, 3):
        raise argparse.ArgumentTypeError(
            f"{text!r}: write stretches x crops, such as 10x3 or 5x1; crops are 1 or 3"
        )
    return found


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``avadet classify``."""
    add = parser.add_argument
    add("videos", nargs="+", metavar="VIDEO", help="movie files, or folders of frames")
    add("--weights", required=True, help="a file, or a name from `avadet zoo list`")
    add("--arch", help="its architecture, where the file does not say")
    add(
        "--views",
        type=_views,
        default=(5, 1),
        metavar="TxC",
        help="stretches over the video x crops; 10x3 as published tests (default: 5x1)",
    )
    add("--reach-end", action="store_true", help="the last stretch ends with the video")
    add("--top", type=int, default=5, metavar="N", help="classes told (default: 5)")
    add("--json", type=Path, metavar="OUT", help="write names and scores here")
    add("--device", default="auto", help="cpu, cuda, cuda:0 (default: auto)")
    add("--precision", default="auto", choices=("fp32", "bf16", "fp16", "auto"))
    add("--batch-size", type=int, default=1, metavar="N", help="views per run of the network")


def run(args: argparse.Namespace) -> int:
    """Classifies every video; 2 where one could not be read."""
    from tqdm import tqdm

    from avadet import convert
    from avadet.engine.inference import prepare_for_inference
    from avadet.engine.precision import default_device
    from avadet.files import keep_inputs, write_json
    from avadet.pipeline.classify import VideoClassifier

    for name in ("top", "batch_size"):
        if getattr(args, name) < 1:
            raise UserError(f"--{name.replace('_', '-')} {getattr(args, name)}: must be at least 1")
    if args.json is not None:
        keep_inputs(args.json, (args.weights, *args.videos), "--json")
    model = convert.load_model(args.weights, arch=args.arch)
    prepared = prepare_for_inference(model, default_device(args.device), args.precision)
    classifier = VideoClassifier(prepared.model, prepared.precision)
    stretches, crops = args.views
    results: list[dict[str, Any]] = []
    total = len(args.videos) * stretches * crops
    with tqdm(total=total, unit="view", desc="classifying", disable=None, leave=False) as bar:
        for number, video in enumerate(args.videos, 1):
            results.append(_one(args, classifier, video, bar.update))
            tqdm.write(_told(results[-1]))
            bar.n = number * stretches * crops
            bar.refresh()
    if args.json is not None:
        write_json(
            args.json,
            {
                "model": classifier.description.name,
                "views": f"{stretches}x{crops}",
                "videos": results,
            },
        )
    failed = [each for each in results if "error" in each]
    if failed:
        print(
            f"avadet classify: {len(failed)} of {len(results)} videos could not be read",
            file=sys.stderr,
        )
    return 2 if failed else 0


def _one(args: argparse.Namespace, classifier: Any, video: str, after_batch: Any) -> dict[str, Any]:
    from avadet.pipeline.classify import ranking
    from avadet.video.reader import open_video

    stretches, crops = args.views
    try:
        with open_video(video) as reader:
            scores = classifier.scores(
                reader,
                video,
                temporal_views=stretches,
                crops=crops,
                reach_end=args.reach_end,
                batch_size=args.batch_size,
                after_batch=after_batch,
            )
    except UserError as error:
        return {"video": video, "error": str(error)}
    top = [
        {"class": place, "name": classifier.class_names[place], "score": float(scores[place])}
        for place in ranking(scores, args.top)
    ]
    return {"video": video, "top": top}


def _told(result: dict[str, Any]) -> str:
    if "error" in result:
        return f"not read: {result['error']}"
    lines = [f"{100 * each['score']:6.2f}  {each['name']}" for each in result["top"]]
    return "\n".join([result["video"], *lines])
