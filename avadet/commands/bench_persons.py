"""``avadet bench persons``: the native detector beside the detectron2 library, same weights."""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from avadet.errors import UserError

HELP = "time per frame of the native person detector and of the detectron2 library, side by side"

MODELS = (
    "faster_rcnn_r50_fpn",
    "faster_rcnn_r101_fpn",
    "faster_rcnn_x101_32x8d_fpn",
    "faster_rcnn_r50_c4",
    "faster_rcnn_r50_dc5",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the bench."""
    parser.add_argument("--models", nargs="+", default=["faster_rcnn_r50_fpn"], choices=MODELS)
    parser.add_argument("--weights", help="Detectron2 checkpoint; drawn ones when left out")
    parser.add_argument("--movie", help="take frames from it; a drawn 640x480 picture otherwise")
    parser.add_argument("--frames", type=int, default=2, help="different frames (default 2)")
    parser.add_argument("--repeat", type=int, default=3, help="timed rounds of each engine")
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--short-side", type=int, default=800)
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--precision", nargs="+", default=["fp32"], choices=("fp32", "bf16"), help="native's"
    )
    parser.add_argument("--threads", type=int, help="CPU threads of torch")


def run(args: argparse.Namespace) -> int:
    """Prints one markdown table row per model; both engines alternate within one process."""
    import torch

    from avadet.persons.base import detectron2_is_here

    if args.threads:
        torch.set_num_threads(args.threads)
    frames = _frames(args.movie, args.frames)
    here = detectron2_is_here()
    if not here:
        print("The detectron2 library is not installed: native engine alone.")
    print(
        f"{len(frames)} frames of {frames[0].shape[1]}x{frames[0].shape[0]}, short side "
        f"{args.short_side}, batch {args.batch_size}, {args.device}, "
        f"{'CPU time' if args.device == 'cpu' else 'wall time'}, "
        f"{torch.get_num_threads()} threads, torch {torch.__version__}\n"
    )
    columns = [f"native {precision} ms/frame" for precision in args.precision]
    columns += ["detectron2 fp32 ms/frame"]
    columns += [f"native {precision} / detectron2" for precision in args.precision]
    columns += ["boxes", f"largest difference ({args.precision[0]})"]
    print("| model | " + " | ".join(columns) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for name in args.models:
        with tempfile.TemporaryDirectory() as folder:
            weights = args.weights or draw_weights(name, Path(folder) / "drawn.pth")
            print(_row(name, weights, frames, args, here), flush=True)
    return 0


def _row(name: str, weights: Any, frames: list[Any], args: argparse.Namespace, here: bool) -> str:
    from avadet.persons.native import NativeDetector

    common = {
        "score_threshold": 0.05,
        "device": args.device,
        "short_side": args.short_side,
        "batch_size": args.batch_size,
    }
    engines: list[Any] = [
        NativeDetector.from_file(weights, precision=precision, **common)
        for precision in args.precision
    ]
    if here:
        from avadet.persons.detectron2 import Detectron2Detector

        engines.append(Detectron2Detector.from_file(weights, **common))
    answers = [engine.detect(frames) for engine in engines]
    times: list[list[float]] = [[] for _ in engines]
    # CPU time of all threads is what other work on the machine does not change.
    clock = time.process_time if args.device == "cpu" else time.perf_counter
    for _ in range(args.repeat):
        for engine, spent in zip(engines, times):
            start = clock()
            engine.detect(frames)
            _wait(args.device)
            spent.append((clock() - start) * 1000 / len(frames))
    best = [statistics.median(spent) for spent in times]
    own = best[: len(args.precision)]
    cells = [f"{value:.0f}" for value in best] + ["-"] * (not here)
    cells += [f"{value / best[-1]:.2f}" if here else "-" for value in own]
    cells += [str(sum(map(len, answers[0])))]
    cells += [_difference(answers[0], answers[-1]) if here else "-"]
    return f"| {name} | " + " | ".join(cells) + " |"


def _difference(ours: list[Any], theirs: list[Any]) -> str:
    import numpy as np

    if [len(a) for a in ours] != [len(b) for b in theirs]:
        return f"counts differ: {sum(map(len, ours))} and {sum(map(len, theirs))}"
    gaps = [np.abs(a.boxes_px - b.boxes_px).max(initial=0.0) for a, b in zip(ours, theirs)]
    scores = [np.abs(a.scores - b.scores).max(initial=0.0) for a, b in zip(ours, theirs)]
    return f"{max(gaps):.1e} px, score {max(scores):.1e}"


def _wait(device: str) -> None:
    import torch

    if device.startswith("cuda"):
        torch.cuda.synchronize()


def _frames(movie: str | None, count: int) -> list[Any]:
    import numpy as np

    if movie is None:
        y, x = np.mgrid[0:480, 0:640].astype(np.float32)
        waves = [np.sin(x / (9 + 4 * c) + y / (31 - 5 * c) + c) for c in range(3)]
        picture = ((np.stack(waves, axis=-1) + 1) * 127.5).astype(np.uint8)
        return [np.roll(picture, 40 * i, axis=1).copy() for i in range(count)]
    from avadet.video.reader import open_video

    with open_video(movie) as reader:
        seconds = [reader.duration * (i + 0.5) / count for i in range(count)]
        return list(reader.read(seconds).frames)


def draw_weights(name: str, path: Path) -> Path:
    """A Detectron2 checkpoint of random weights that give some hundred confident boxes.

    Residual branches are damped, since nothing normalises the activations of drawn weights.
    """
    import torch

    from avadet.convert import detectron2 as tables
    from avadet.persons.faster_rcnn import PERSON_MODELS

    if name not in PERSON_MODELS:
        raise UserError(f"no person detector '{name}'")
    generator = torch.Generator().manual_seed(0)
    state = {}
    fresh = PERSON_MODELS.get(name)().state_dict()
    theirs = tables.original_names(fresh)
    for own, value in fresh.items():
        if value.ndim > 1:
            value = torch.randn(value.shape, generator=generator) / value[0].numel() ** 0.5
        if own.endswith("conv3.norm.weight"):
            value = value * 0.3
        if own == "backbone.stem.conv.weight":
            value = value / 64
        if own.endswith("deltas.weight"):
            value = value * 0.2
        if own == "box_head.classifier.weight":
            value = value * 4
        if own == "box_head.classifier.bias":
            # Many people, so that suppression has work to do.
            value[0] = 6.0
        state[theirs[own]] = value
    torch.save({"model": state, "__author__": "avadet bench"}, path)
    return path
