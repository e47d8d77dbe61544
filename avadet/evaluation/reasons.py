"""Why a number is what it is: warnings, and the likely reason of an mAP of 0.

When nothing or next to nothing matches, the detections are tried again with the usual mistakes
undone (ids off by one, timestamps off by 900, corners in another order, ...); a mistake that
explains the matches is named.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import PurePath

import numpy as np

from avadet.errors import UserError
from avadet.evaluation.protocols import Protocol
from avadet.evaluation.scored import ScoredRows, score_rows
from avadet.evaluation.tables import BoxTable, Ints

_SAMPLE = 100_000
_SUSPICIOUS = 0.05


def explain(
    groundtruth: BoxTable,
    detections: BoxTable,
    rows: ScoredRows,
    protocol: Protocol,
    value: float | None,
) -> tuple[str, ...]:
    """Collects what the reader of the number should know.

    Args:
        groundtruth, detections: as read.
        rows: what the protocol made of them.
        protocol: whose number it is.
        value: the mAP.
    """
    notes = [*groundtruth.notes, *detections.notes, *_invalid_boxes(detections, rows, protocol)]
    boxes = rows.gt_boxes
    empty = ~((boxes[:, 0] < boxes[:, 2]) & (boxes[:, 1] < boxes[:, 3]))
    if empty.any():
        first = int(rows.gt_rows[empty].min())
        notes.append(
            f"{groundtruth.where(first)}: the ground-truth box has no area, is inverted or holds "
            f"nan; {int(empty.sum())} such rows can never be found and count as missed"
        )
    for table, what in ((groundtruth, "ground-truth"), (detections, "detection")):
        wrong = np.flatnonzero((table.label < 1) | (table.label > int(rows.class_ids[-1])))
        if len(wrong):
            first = int(wrong[0])
            notes.append(
                f"{table.where(first)}: class id {int(table.label[first])} lies outside "
                f"1..{int(rows.class_ids[-1])}; {len(wrong)} such {what} rows are not scored"
            )
    if not len(rows.gt_rows):
        what = "is empty" if not len(groundtruth) else "has no box of a scored class"
        notes.append(f"{groundtruth.source}: the ground truth {what}: there is nothing to score")
    elif not len(detections):
        notes.append(f"{detections.source}: there are no detections; every AP is 0")
    elif value is None or value < _SUSPICIOUS:
        start = "mAP is 0" if not value else f"mAP is only {100 * value:.2f} %"
        likely = list(_likely_reasons(groundtruth, detections, rows))
        notes += [f"{start}: {reason}" for reason in likely]
        if not likely and not rows.hit.any():
            notes.append(
                f"{start}: videos and timestamps agree, but no detection of a scored class reaches "
                "IoU 0.5 with a ground-truth box of its class"
            )
    return tuple(notes)


def _invalid_boxes(detections: BoxTable, rows: ScoredRows, protocol: Protocol) -> Iterator[str]:
    count = rows.counts.get("detections with invalid boxes", 0)
    if not count:
        return
    valid = (detections.x1 < detections.x2) & (detections.y1 < detections.y2)
    first = int(np.flatnonzero(~valid)[0])
    yield (
        f"{detections.where(first)}: the box has no area, is inverted or holds nan; "
        f"{count} such detections are dropped (protocol {protocol.name} does so too)"
    )


def _sample(table: BoxTable) -> BoxTable:
    if len(table) <= _SAMPLE:
        return dataclasses.replace(table, bare_video=table.bare_video[:0])
    rows = np.linspace(0, len(table) - 1, _SAMPLE).astype(np.int64)
    parts = {name: getattr(table, name)[rows] for name in _COLUMNS}
    return dataclasses.replace(
        table, **parts, unscored=None, lines=rows + 1, bare_video=table.bare_video[:0]
    )


_COLUMNS = ("video", "time", "x1", "y1", "x2", "y2", "label", "score")


def _likely_reasons(groundtruth: BoxTable, detections: BoxTable, rows: ScoredRows) -> Iterator[str]:
    there, here = _videos(groundtruth), _videos(detections)
    sample = _sample(detections)
    if not there & here:
        yield (
            "the files have no video id in common "
            f"(ground truth: {_some(there)}; detections: {_some(here)})"
        )
        stems = {_stem(name) for name in here}
        if stems & {_stem(name) for name in there}:
            yield "the ids agree once folders and file endings are taken off"
            sample = _renamed(sample, there)
    if (pixels := _pixels(groundtruth, detections)) is not None:
        yield pixels
        return
    base = _matches(groundtruth, sample, rows.class_ids)
    for change, reason in _MISTAKES:
        try:
            matches = _matches(groundtruth, change(sample), rows.class_ids)
        except (UserError, ValueError):
            continue
        if matches > 2 * base and matches >= max(min(3, len(rows.gt_rows)), len(sample) // 200):
            yield f"{reason} ({matches} boxes of the sample would match instead of {base})"
            return
    if there & here and not rows.overlaps.iou.any():
        frames = len(np.intersect1d(rows.gt_frame, rows.det_frame))
        if not frames:
            yield (
                "no keyframe of the detections is one of the ground truth "
                f"(ground truth: {_seconds(groundtruth)}; detections: {_seconds(detections)})"
            )


def _videos(table: BoxTable) -> set[str]:
    return set(table.videos)


def _some(names: set[str]) -> str:
    shown = sorted(names)[:2]
    return ", ".join(map(repr, shown)) + (", ..." if len(names) > 2 else "")


def _stem(name: str) -> str:
    return PurePath(name.strip()).stem.lower()


def _renamed(table: BoxTable, wanted: set[str]) -> BoxTable:
    by_stem = {_stem(name): name for name in wanted}
    return dataclasses.replace(
        table, videos=tuple(by_stem.get(_stem(name), name) for name in table.videos)
    )


def _seconds(table: BoxTable) -> str:
    values = [float(text) for text in table.times]
    return f"seconds {min(values):g}..{max(values):g}"


def _pixels(groundtruth: BoxTable, detections: BoxTable) -> str | None:
    def extent(table: BoxTable) -> float:
        values = np.abs(np.concatenate([table.x2[:_SAMPLE], table.y2[:_SAMPLE]]))
        values = values[np.isfinite(values)]
        return float(np.median(values)) if len(values) else 0.0

    there, here = extent(groundtruth), extent(detections)
    if here > 3.0 and there <= 2.0:
        return (
            f"the detections' corners look like pixels (median {here:.0f}), those of the ground "
            "truth are normalised to 0..1; divide x by the width and y by the height of the frame"
        )
    if there > 3.0 and here <= 2.0:
        return "the ground truth's corners look like pixels, those of the detections like 0..1"
    return None


def _matches(groundtruth: BoxTable, detections: BoxTable, class_ids: Ints) -> int:
    protocol = Protocol("sample", "", frames="listed", whole_seconds=False, read_person_id=False)
    return int(score_rows(groundtruth, detections, class_ids, None, protocol).hit.sum())


def _shifted(by: float) -> Callable[[BoxTable], BoxTable]:
    def change(table: BoxTable) -> BoxTable:
        times = tuple(f"{float(text) + by:.6f}" for text in table.times)
        return dataclasses.replace(table, times=times)

    return change


def _relabelled(by: int) -> Callable[[BoxTable], BoxTable]:
    return lambda table: dataclasses.replace(table, label=table.label.astype(np.int64) + by)


def _swapped(table: BoxTable) -> BoxTable:
    return dataclasses.replace(table, x1=table.y1, y1=table.x1, x2=table.y2, y2=table.x2)


def _from_sizes(table: BoxTable) -> BoxTable:
    return dataclasses.replace(table, x2=table.x1 + table.x2, y2=table.y1 + table.y2)


def _from_frames(table: BoxTable) -> BoxTable:
    times = tuple(f"{round(900 + float(text) / 30):d}" for text in table.times)
    return dataclasses.replace(table, times=times)


_MISTAKES: tuple[tuple[Callable[[BoxTable], BoxTable], str], ...] = (
    (lambda table: table, "the video ids are spelled differently"),
    (_relabelled(1), "the detections' class ids are one too low: AVA counts from 1"),
    (_relabelled(-1), "the detections' class ids are one too high: AVA counts from 1"),
    (
        _shifted(900),
        "the detections' timestamps are 900 too low: AVA counts from the start",
    ),
    (_shifted(-900), "the detections' timestamps are 900 too high"),
    (_from_frames, "the detections' timestamps look like frame numbers (30 per second from 900)"),
    (_swapped, "x and y of the detections' corners are swapped: AVA has x1,y1,x2,y2"),
    (_from_sizes, "the detections' boxes look like x,y,width,height: AVA has x1,y1,x2,y2"),
)
