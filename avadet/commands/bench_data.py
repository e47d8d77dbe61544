"""``avadet bench data``: what a clip costs, from movies, proxies and extracted frames."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from avadet.commands import bench_table

HELP = "clips per CPU core from movies, proxies and extracted frames, and the loader's steps"

BASELINE = "movie, clip by clip"
# The clip of SlowFast 8x8.
_FRAMES, _STRIDE, _SIDE, _CROP = 32, 2, 256, 224
_LARGE, _SMALL = "JPEG, full size, quality 95", "JPEG, short side 256, quality 90"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the bench."""
    parser.add_argument("--movie", type=Path, help="instead of a drawn one")
    parser.add_argument("--seconds", type=int, default=40, help="of movie (default 40)")
    parser.add_argument("--width", type=int, default=854)
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--clips", type=int, default=12, help="in each round (default 12)")
    parser.add_argument("--lengths", action="store_true", help="cost against length and rate")
    parser.add_argument("--svg", type=Path, metavar="OUT", help="with --lengths: draw the curves")
    bench_table.add_arguments(parser, repeat=5)


def run(args: argparse.Namespace) -> int:
    """Draws a movie, makes proxy and frames of it, reads all of them in turn."""
    with tempfile.TemporaryDirectory(prefix="avadet-bench-") as name:
        folder = Path(name)
        movie = args.movie or draw_movie(folder, args.seconds, args.width, args.height)
        places = _copies(movie, folder)
        if args.lengths:
            return _lengths(args, places)
        readers = {key: _opener(path) for key, path in places.items()}
        seconds = _keyframes(readers["movie"](), args.clips)
        cases = {
            BASELINE: lambda: _clips(readers["movie"], seconds),
            "proxy, clip by clip": lambda: _clips(readers["proxy"], seconds),
            _LARGE: lambda: _clips(readers[_LARGE], seconds),
            _SMALL: lambda: _clips(readers[_SMALL], seconds),
            "movie, in its order": lambda: _in_order(readers["movie"], len(seconds)),
            "proxy, in its order": lambda: _in_order(readers["proxy"], len(seconds)),
            "movie, training loader": lambda: _training(places["movie"], seconds),
            "proxy, training loader": lambda: _training(places["proxy"], seconds),
        }
        items = dict.fromkeys(cases, float(len(seconds)))
        timings = bench_table.interleave(cases, rounds=args.repeat, items=items)
        found = bench_table.rows(timings, BASELINE)
        hours = readers["movie"]().duration / 3600
        for row, timing in zip(found, timings):
            row["clips/CPU s"] = 1 / row["cpu_seconds"]
            row["frames decoded"] = timing.result / len(seconds) if timing.result else None
            row["GB/h"] = _bytes(places[_place(row["name"])]) / 1e9 / hours
        steps = {key: _steps(places[key], seconds) for key in ("movie", "proxy")}
        lines = [
            f"Steps of the training loader, CPU ms a clip, {key}: {_told(each)}"
            for key, each in steps.items()
        ]
        bench_table.report(
            f"A clip of {_FRAMES} frames, stride {_STRIDE}, short side {_SIDE}; training: 256-320, "
            f"crop {_CROP}, flip, colour; movie of {args.width}x{args.height}, one thread",
            found, baseline=BASELINE, args=args, notes=lines, more={"steps": steps},
        )  # fmt: skip
    return 0


def draw_movie(folder: Path, seconds: int, width: int, height: int) -> Path:
    """A movie of 24 frames a second as films are coded: B-frames, a key frame every 250."""
    from avadet.synthetic import mini_ava

    mini_ava.generate(
        folder, "large", 0, movies=1, val_movies=0, workers=1, progress=False,
        seconds=seconds, width=width, height=height, fps=24,
    )  # fmt: skip
    return folder / "movies" / "train_0000.mp4"


def _copies(movie: Path, folder: Path) -> dict[str, Path]:
    """The movie, its proxy and its extracted frames, each in a folder of its own."""
    from PIL import Image

    from avadet.video.proxy import ProxySettings, write_proxy
    from avadet.video.reader import VideoReader

    proxy = folder / "proxies" / movie.name
    write_proxy(movie, proxy, ProxySettings())
    places = {"movie": movie, "proxy": proxy}
    with VideoReader(movie) as reader:
        times = np.arange(int(reader.duration * 30)) / 30
        for name, side, quality in ((_LARGE, None, 95), (_SMALL, _SIDE, 90)):
            places[name] = folder / f"frames_{quality}" / movie.stem
            places[name].mkdir(parents=True)
            for number, (_, frame) in enumerate(reader.stream(times, short_side=side)):
                path = places[name] / f"img_{number + 1:06d}.jpg"
                Image.fromarray(frame).save(path, quality=quality)
    return places


def _place(case: str) -> str:
    return case if case.startswith("JPEG") else case.split(",")[0]


def _bytes(path: Path) -> int:
    files = path.iterdir() if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files)


def _opener(path: Path) -> Callable[[], Any]:
    from avadet.video.reader import open_video

    return lambda: open_video(path)


def _keyframes(reader: Any, count: int) -> list[float]:
    """Times drawn once, at which whole clips lie inside the movie."""
    reach = _FRAMES * _STRIDE / 30 / 2
    with reader:
        return np.random.default_rng(0).uniform(reach, reader.duration - reach, count).tolist()


def _clips(opened: Callable[[], Any], seconds: Sequence[float]) -> int:
    """Reads clips as a shuffled loader does; returns how many frames were decoded."""
    from avadet.video.sampling import clip_seconds

    decoded = 0
    for second in seconds:
        with opened() as reader:
            reader.read(clip_seconds(second, _FRAMES, _STRIDE), short_side=_SIDE)
            decoded += getattr(reader, "frames_decoded", 0)
    return decoded


def _in_order(opened: Callable[[], Any], count: int) -> int:
    """As many clips, around keyframes one second apart, in one pass."""
    from avadet.video.ring import FrameRing, points_of_all
    from avadet.video.sampling import clip_seconds, grid_index, grid_indices

    with opened() as reader:
        clips = [grid_indices(clip_seconds(2.0 + n, _FRAMES, _STRIDE)) for n in range(count)]
        passing = reader.stream([p / 30 for p in points_of_all(clips)], short_side=_SIDE)
        ring = FrameRing((grid_index(second), frame) for second, frame in passing)
        for clip in clips:
            ring.clip(clip)
        passing.close()
        return int(getattr(reader, "frames_decoded", 0))


def _samples(path: Path, seconds: Sequence[float]) -> Any:
    """A training set of one movie, with colours changed too."""
    from avadet.data.ava import AvaDataset
    from avadet.data.box_table import BoxTable
    from avadet.data.media import MovieFolder
    from avadet.data.transforms import TrainPolicy

    count = len(seconds)
    table = BoxTable(
        videos=(path.stem,),
        video=np.zeros(count, np.int32),
        second=np.sort(np.asarray(seconds)),
        boxes_norm=np.tile(np.float32([0.3, 0.2, 0.6, 0.9]), (count, 1)),
        scores=np.ones(count, np.float32),
        first_label=np.arange(count + 1),
        labels=np.zeros(count, np.int16),
    )
    return AvaDataset(
        MovieFolder(path.parent), groundtruth=table, train=True, policy=TrainPolicy(color=True),
        num_frames=_FRAMES, frame_stride=_STRIDE, first_second=None, last_second=None,
        keyframe_rate=1e6,
    )  # fmt: skip


def _training(path: Path, seconds: Sequence[float]) -> int:
    """The whole loader in this process: decode, scale, cut, mirror, colour, stack."""
    from avadet.data.loader import build_loader

    for _ in build_loader(_samples(path, seconds), 4, train=True).epoch(0):
        pass
    return 0


def _steps(path: Path, seconds: Sequence[float]) -> dict[str, float]:
    """CPU seconds of each step of the training loader for one clip, in a run of its own."""
    from dataclasses import replace

    from avadet.data.draws import Draw, draw_generator
    from avadet.models.preprocess import Preprocessing, normalize
    from avadet.structures import Batch
    from avadet.video.reader import VideoReader
    from avadet.video.sampling import clip_seconds

    dataset = _samples(path, seconds)
    spent: dict[str, float] = {}

    def timed(step: str, work: Callable[[], Any]) -> Any:
        start = time.process_time()
        result = work()
        spent[step] = spent.get(step, 0.0) + (time.process_time() - start) / len(seconds)
        return result

    samples = []
    for index, second in enumerate(dataset.seconds()):
        transform = dataset.policy.draw(draw_generator(0, Draw(index)))
        times = clip_seconds(second, _FRAMES, _STRIDE)
        with VideoReader(path) as reader:
            # Two pixels are scaled in no time: what is left is decoding.
            timed("decode", lambda: reader.read(times, size=(2, 2)))  # noqa: B023
        with VideoReader(path) as reader:
            clip = timed(
                "scale",
                lambda: reader.read(times, short_side=transform.short_side),  # noqa: B023
            )
        plain = replace(transform, color=None)
        video = timed("cut and mirror", lambda: plain.frames(clip.frames, (16, 16)))  # noqa: B023
        frames = video.permute(1, 2, 3, 0).numpy()
        timed("colour", lambda: transform.color(frames))  # noqa: B023
        samples.append(replace(dataset[index], video=video))
    spent["scale"] -= spent["decode"]
    batch = timed("stack", lambda: Batch.collate(samples))
    timed("normalise (on the device)", lambda: normalize(batch.video, Preprocessing(32, 2)))
    return spent


def _told(steps: dict[str, float]) -> str:
    total = sum(steps.values())
    parts = [f"{step} {1e3 * s:.1f} ({s / total:.0%})" for step, s in steps.items()]
    return ", ".join(parts)


def _lengths(args: argparse.Namespace, places: dict[str, Path]) -> int:
    """Cost against movie length and keyframes per second, in movie order."""
    from avadet.commands.bench_scaling import draw
    from avadet.files import write_text

    sizes = [(args.seconds / share, 1.0) for share in (4, 2, 1)]
    sizes += [(float(args.seconds), rate) for rate in (2.0, 4.0)]
    points = {
        f"{kind}, {length:g} s, {rate:g} keyframes/s": (kind, length, rate)
        for kind in ("movie", "proxy")
        for length, rate in sizes
    }
    cases = {
        name: _whole(places[kind], length, rate) for name, (kind, length, rate) in points.items()
    }
    baseline = next(iter(cases))
    timings = bench_table.interleave(cases, rounds=args.repeat)
    for timing in timings:
        clips, decoded = timing.result
        timing.facts = {"clips": clips, "frames decoded": decoded}
    rows = bench_table.rows(timings, baseline)
    if args.svg:
        curves: dict[str, list[tuple[float, float]]] = {}
        for row in rows:
            kind, length, rate = points[row["name"]]
            if rate == 1.0:
                curves.setdefault(f"{kind}: seconds long", []).append((length, row["cpu_seconds"]))
            if length == args.seconds:
                curves.setdefault(f"{kind}: keyframes/s", []).append((rate, row["cpu_seconds"]))
        write_text(args.svg, draw(curves, "All clips of a movie in its order, CPU seconds"))
    bench_table.report(
        f"All clips of a movie in its order: {_FRAMES} frames, stride {_STRIDE}, side {_SIDE}",
        rows, baseline=baseline, args=args,
    )  # fmt: skip
    return 0


def _whole(path: Path, length: float, rate: float) -> Callable[[], tuple[int, int]]:
    def work() -> tuple[int, int]:
        from avadet.video.ring import FrameRing, points_of_all
        from avadet.video.sampling import clip_seconds, grid_index, grid_indices

        with _opener(path)() as reader:
            moments: Iterator[float] = (k / rate for k in range(int(length * rate)))
            clips = [grid_indices(clip_seconds(each, _FRAMES, _STRIDE)) for each in moments]
            passing = reader.stream([p / 30 for p in points_of_all(clips)], short_side=_SIDE)
            ring = FrameRing((grid_index(second), frame) for second, frame in passing)
            for clip in clips:
                ring.clip(clip)
            passing.close()
            return len(clips), int(reader.frames_decoded)

    return work
