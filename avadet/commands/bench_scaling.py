"""``avadet bench scaling``: how cost grows with clips, boxes per clip and classes."""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HELP = "cost of scoring against clips per batch, boxes per clip and classes"

_GRID = {"clips": (1, 2, 4, 8), "boxes": (1, 3, 10, 30, 100), "classes": (10, 80, 800, 8000)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the bench."""
    from avadet.commands import bench_table

    parser.add_argument("--network", default="slowfast_r50_8x8_ava22", help="see `avadet models`")
    for axis, values in _GRID.items():
        shown = " ".join(map(str, values))
        parser.add_argument(
            f"--{axis}",
            nargs="+",
            type=bench_table.positive,
            default=list(values),
            metavar="N",
            help=f"default {shown}",
        )
    parser.add_argument("--side", type=bench_table.positive, default=224, help="pixels")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:0 (default: auto)")
    parser.add_argument("--precision", default="auto", choices=("auto", "fp32", "bf16", "fp16"))
    parser.add_argument("--svg", type=Path, metavar="OUT", help="draw the curves here")
    bench_table.add_arguments(parser, repeat=3)


def run(args: argparse.Namespace) -> int:
    """One table per axis, the others at 1 clip, 5 boxes and 80 classes."""
    from avadet.commands import bench_networks, bench_table
    from avadet.files import write_json, write_text

    device = bench_networks.prepare(args)
    found: dict[str, list[dict[str, Any]]] = {}
    for axis in _GRID:
        values = sorted(set(getattr(args, axis)))
        found[axis] = _along(args, axis, values, device)
    facts = bench_table.machine()
    # Written before anything is printed: a closed pipe must not cost the measurements.
    if args.json:
        options = {k: str(v) if isinstance(v, Path) else v for k, v in vars(args).items()}
        write_json(args.json, {"options": options, "machine": facts, "axes": found})
    if args.svg:
        curves = {
            axis: [(row["value"], row["seconds"]) for row in rows] for axis, rows in found.items()
        }
        write_text(args.svg, draw(curves, f"{args.network}, seconds a batch ({facts['cpu']})"))
    print(f"{args.network}, {args.side} pixels\n{bench_table.machine_line(facts)}")
    for axis, rows in found.items():
        print(f"\n| {axis} | ms | ms per item | slope |\n|---:|---:|---:|---:|")
        for row in rows:
            slope = "-" if row["slope"] is None else f"{row['slope']:.2f}"
            print(
                f"| {row['value']} | {row['seconds'] * 1e3:.1f} | "
                f"{row['seconds'] * 1e3 / row['value']:.2f} | {slope} |"
            )
    print("\nSlope: of log time over log size from the row before; 1 is linear, 0 costs nothing.")
    return 0


def _along(
    args: argparse.Namespace, axis: str, values: Sequence[int], device: Any
) -> list[dict[str, Any]]:
    import torch

    from avadet.build import create_model
    from avadet.commands import bench_networks, bench_table
    from avadet.engine.inference import prepare_for_inference
    from avadet.errors import UserError

    cases, names = {}, {}
    for value in values:
        size = {"clips": 1, "boxes": 5, "classes": 80, axis: value}
        torch.manual_seed(0)
        model = bench_networks.enliven(create_model(args.network, num_classes=size["classes"]))
        shape = model.description.preprocessing
        if model.description.task != "detection":
            raise UserError(f"--network {args.network}: is no action detector; boxes need one")
        prepared = prepare_for_inference(model, device, args.precision)
        video = torch.randn(size["clips"], 3, shape.num_frames, args.side, args.side).to(device)
        boxes = [
            bench_networks.draw_boxes(size["boxes"], args.side).to(device)
            for _ in range(size["clips"])
        ]

        def work(prepared: Any = prepared, video: Any = video, boxes: Any = boxes) -> None:
            with torch.inference_mode(), prepared.precision.autocast():
                prepared.model(video, boxes)

        names[str(value)] = value
        cases[str(value)] = work
    timings = bench_table.interleave(
        cases, rounds=args.repeat, wait=bench_networks.wait_for(device)
    )
    clock = "cpu_seconds" if device.type == "cpu" else "seconds"
    rows = bench_table.rows(timings, str(values[0]))
    points = [(names[row["name"]], row[clock]) for row in rows]
    return [
        {"value": value, "seconds": seconds, "clock": clock, "slope": slope}
        for (value, seconds), slope in zip(points, slopes(points), strict=True)
    ]


def slopes(points: Sequence[tuple[float, float]]) -> list[float | None]:
    """Growth of log time over log size, from each point to the next; None for the first."""
    found: list[float | None] = [None]
    for (a, start), (b, end) in itertools.pairwise(points):
        found.append(math.log(end / start) / math.log(b / a))
    return found


def draw(curves: dict[str, Sequence[tuple[float, float]]], title: str) -> str:
    """An SVG with one panel per curve, both axes logarithmic, and a line of slope 1 for the eye."""
    from html import escape

    wide, high, gap = 220, 180, 50
    parts = []
    for number, (name, points) in enumerate(curves.items()):
        xs = [math.log10(max(x, 1e-12)) for x, _ in points]
        ys = [math.log10(max(y, 1e-12)) for _, y in points]
        low_x, low_y = min(xs), min(ys)
        # Decades are equally long on both axes of all panels, so that slopes can be compared.
        scale = min(wide / max(max(xs) - low_x, 1.0), high / max(max(ys) - low_y, 1.0))
        left, bottom = gap + number * (wide + gap), 30 + high

        def at(x: float, y: float) -> str:
            return f"{left + (x - low_x) * scale:.1f},{bottom - (y - low_y) * scale:.1f}"  # noqa: B023

        line = " ".join(at(x, y) for x, y in zip(xs, ys, strict=True))
        far = min(wide, high) / scale
        parts.append(
            f'<path d="M{left} 30V{bottom}H{left + wide}" stroke="#999" fill="none"/>'
            f'<path d="M{at(low_x, low_y)}L{at(low_x + far, low_y + far)}" stroke="#ccc" '
            f'stroke-dasharray="4 3" fill="none"/>'
            f'<polyline points="{line}" fill="none" stroke="#1f6feb" stroke-width="2"/>'
            f'<text x="{left + wide / 2}" y="{bottom + 34}" text-anchor="middle">'
            f"{escape(name)}</text>"
        )
        for (value, seconds), x, y in zip(points, xs, ys, strict=True):
            cx, cy = at(x, y).split(",")
            parts.append(
                f'<circle cx="{cx}" cy="{cy}" r="3" fill="#1f6feb"/>'
                f'<text x="{cx}" y="{bottom + 16}" text-anchor="middle">{value:g}</text>'
                f'<text x="{cx}" y="{float(cy) - 8:.1f}" text-anchor="middle" fill="#1f6feb">'
                f"{seconds:.2g}</text>"
            )
    width, height = gap + len(curves) * (wide + gap), high + 80
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'font-family="sans-serif" font-size="11"><rect width="{width}" height="{height}" '
        f'fill="#fff"/><text x="{gap}" y="16" font-size="13">{escape(title)}</text>'
        f"{''.join(parts)}</svg>\n"
    )
