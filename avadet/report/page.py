"""The report: one self-contained HTML page that says what an mAP is made of."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from avadet.errors import UserError
from avadet.evaluation.ava import FrameMap, evaluate_tables
from avadet.evaluation.ava_io import read_boxes, read_excluded, read_label_map
from avadet.evaluation.bootstrap import Comparison, Interval, compare, map_interval
from avadet.evaluation.breakdown import (
    Curve,
    Slice,
    by_frequency,
    by_persons,
    by_size,
    confusions,
    curves,
    worst_frames,
)
from avadet.evaluation.error_kinds import find_errors
from avadet.evaluation.protocols import PROTOCOLS
from avadet.evaluation.scored import ScoredRows
from avadet.files import write_text
from avadet.report.charts import bars, curve_chart, percent, section, signed, table
from avadet.report.pictures import FrameAt, keyframe_card
from avadet.report.style import STYLE

_EXPLAINED = {
    "wrong action": "a person is there, but does not do this",
    "background": "nobody is there",
    "wrong box": "the box overlaps a person by 0.1 to 0.5 only",
    "duplicate": "a better detection has taken this person and action",
    "missed person": "no detection overlaps the person by 0.5",
    "missed action": "the person is found, the action is not",
}


@dataclass
class _Run:
    name: str
    result: FrameMap
    rows: ScoredRows
    lines: dict[int, Curve]
    interval: Interval


def write_report(
    out: str | os.PathLike[str],
    groundtruth: Any,
    detections: Any,
    labelmap: Any = None,
    excluded: Any = None,
    protocol: str = "official",
    other: Any = None,
    frame_at: FrameAt | None = None,
    title: str = "Action detection report",
    names: Sequence[str] = ("this run", "the other run"),
    draws: int | None = None,
) -> FrameMap:
    """Scores detections and writes the page.

    Args:
        out: HTML file to write.
        groundtruth, detections, labelmap, excluded, protocol: as for
            :func:`avadet.evaluation.ava.frame_map`.
        other: detections of a second run to compare with.
        frame_at: gives the picture (H, W, 3) uint8 RGB of a video at a second, raising UserError
            when it has none; None draws the worst keyframes without pictures.
        title: heading of the page.
        names: what to call the two runs.
        draws: bootstrap draws; by default as many as take a bearable time.

    Returns:
        the result of ``detections``.

    Raises:
        UserError: bad input, with file and line.
    """
    classes = read_label_map(labelmap)
    truth = read_boxes(groundtruth, "ground truth")
    banned = None if excluded is None else read_excluded(excluded)
    tables = [read_boxes(detections, "detections")]
    if other is not None:
        tables.append(read_boxes(other, "other detections"))
    runs = []
    for name, found in zip(names, tables):
        result = evaluate_tables(truth, found, classes, banned, protocol)
        assert result.rows is not None
        interval = map_interval(result.rows, draws)
        runs.append(_Run(name, result, result.rows, curves(result.rows), interval))
    protocols = _protocol_table(truth, tables, classes, banned, runs)
    comparison = compare(runs[1].rows, runs[0].rows, draws) if other is not None else None
    write_text(out, _page(title, runs, protocols, comparison, frame_at))
    return runs[0].result


def _protocol_table(truth: Any, tables: list[Any], classes: Any, banned: Any, runs: Any) -> str:
    rows = []
    for name, protocol in PROTOCOLS.items():
        if name != protocol.name:
            continue
        cells = [f"<b>{name}</b>"]
        for found, run in zip(tables, runs):
            if name == run.result.protocol:
                cells.append(f"<b>{percent(run.result.mAP, 2)}</b>")
                continue
            try:
                value = evaluate_tables(truth, found, classes, banned, name).mAP
                cells.append(percent(value, 2))
            except UserError as error:
                cells.append(f'<span class="soft" title="{escape(str(error))}">refused</span>')
        rows.append([*cells, f'<span class="soft">{escape(protocol.origin)}</span>'])
    heads = ["protocol", *(f"mAP, {run.name}" if len(runs) > 1 else "mAP" for run in runs), "whose"]
    return table(heads, rows, numbers=range(1, 1 + len(runs)))


def _page(
    title: str,
    runs: list[_Run],
    protocols: str,
    comparison: Comparison | None,
    frame_at: FrameAt | None,
) -> str:
    parts = [
        _summary(runs, comparison),
        section(
            "protocols",
            "Under every protocol",
            '<p class="soft">The same files, scored as each code base scores them. Quote the '
            "number with the name of its protocol.</p>",
            protocols,
        ),
        _errors(runs),
        _classes(runs),
        _breakdowns(runs),
        _curves(runs),
        _confusions(runs[0]),
        _worst(runs[0], frame_at),
    ]
    anchors = ("summary", "protocols", "errors", "classes", "breakdowns", "curves", "confusions",
               "worst")  # fmt: skip
    links = "".join(f'<a href="#{anchor}">{anchor}</a>' for anchor in anchors)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><main>"
        f"<header><h1>{escape(title)}</h1><nav>{links}</nav></header>{''.join(parts)}"
        "</main></body></html>\n"
    )


def _summary(runs: list[_Run], comparison: Comparison | None) -> str:
    run, result = runs[0], runs[0].result
    tiles = [
        f'<div class="tile main"><span class="soft">frame-mAP at IoU 0.5, %</span>'
        f"<b>{percent(result.mAP, 2)}</b>"
        f'<span class="soft">95 % interval {percent(run.interval.low)} to '
        f"{percent(run.interval.high)}</span></div>"
    ]
    for name, value in result.groups.items():
        label = escape(name.replace("_", " "))
        tiles.append(
            f'<div class="tile"><span class="soft">{label}</span><b>{percent(value)}</b></div>'
        )
    facts = [
        f"protocol {result.protocol}",
        f"{result.num_frames:,} keyframes of {run.interval.movies} movies",
        f"{len(run.rows.gt_rows):,} annotated actions",
        f"{len(run.rows.det_rows):,} detections that count",
        f"interval from {run.interval.draws} draws of movies with replacement",
    ]
    if run.interval.movies < 10:
        facts.append("few movies: the interval says little")
    if result.mAP_lo != result.mAP_hi:
        facts.append(
            f"equal scores leave a range of {percent(result.mAP_lo, 2)} to "
            f"{percent(result.mAP_hi, 2)}"
        )
    facts += [f"{count:,} {reason} not counted" for reason, count in result.counts.items()]
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in result.notes)
    compared = _comparison(runs, comparison) if comparison else ""
    return section(
        "summary",
        "Summary",
        notes,
        f'<div class="tiles">{"".join(tiles)}</div>',
        f'<p class="soft" style="margin-top:10px">{escape("; ".join(facts))}.</p>',
        compared,
    )


def _comparison(runs: list[_Run], comparison: Comparison) -> str:
    first, second = runs
    gap = comparison.difference
    sure = "clear" if gap.low > 0 or gap.high < 0 else "not clear"
    rows = []
    for key, own in first.result.per_class.items():
        theirs = second.result.per_class[key]
        if own.AP is not None and theirs.AP is not None:
            rows.append((own.AP - theirs.AP, own, theirs))
    rows.sort(key=lambda row: -abs(row[0]))
    body = [
        [escape(own.name), percent(own.AP), percent(theirs.AP), signed(delta), str(own.num_gt)]
        for delta, own, theirs in rows[:12]
    ]
    return (
        f'<h3 style="margin-top:14px">{_keys(runs)}</h3>'
        f"<p><b>{escape(first.name)}</b> {percent(first.result.mAP, 2)} against "
        f"<b>{escape(second.name)}</b> {percent(second.result.mAP, 2)}: difference "
        f"{signed(gap.value, 2)} points, 95 % interval {100 * gap.low:+.2f} to "
        f"{100 * gap.high:+.2f} on the same draws of movies ({sure}); {escape(first.name)} is "
        f"better in {percent(comparison.share_better, 0)} % of them.</p>"
        + table(["class", first.name, second.name, "difference", "gt"], body)
    )


def _keys(runs: list[_Run]) -> str:
    if len(runs) == 1:
        return ""
    return "".join(
        f'<span class="key" style="background:var(--{letter})"></span>{escape(run.name)}'
        for letter, run in zip("ab", runs)
    )


def _errors(runs: list[_Run]) -> str:
    found = [find_errors(run.rows) for run in runs]
    kinds = sorted(_EXPLAINED, key=lambda kind: -found[0].cost[kind])
    top = max([*(value for errors in found for value in errors.cost.values()), 1e-9])
    rows = [
        (kind, found[0].cost[kind], found[1].cost[kind] if len(found) > 1 else None,
         f"{found[0].counts[kind]:,} ×")
        for kind in kinds
    ]  # fmt: skip
    meaning = "".join(f"<li><b>{kind}</b>: {_EXPLAINED[kind]}</li>" for kind in kinds)
    return section(
        "errors",
        "What the errors cost",
        '<p class="soft">Points of mAP gained if this kind of error alone were mended (in the '
        f"manner of TIDE), and how many there are.{_keys(runs)}</p>",
        bars(rows, top),
        f"<details><summary>What the kinds mean</summary><ul>{meaning}</ul></details>",
    )


def _classes(runs: list[_Run]) -> str:
    per_class = runs[0].result.per_class
    keys = [key for key, row in per_class.items() if row.num_gt]
    keys.sort(key=lambda key: -per_class[key].num_gt)
    rows = [
        (per_class[key].name, per_class[key].AP,
         runs[1].result.per_class[key].AP if len(runs) > 1 else None,
         f"{per_class[key].num_gt:,} gt")
        for key in keys
    ]  # fmt: skip
    missing = [row.name for row in per_class.values() if not row.num_gt]
    without = (
        f"<details><summary>{len(missing)} classes without ground truth</summary>"
        f'<p class="soft">{escape(", ".join(missing))}</p></details>'
        if missing
        else ""
    )
    return section(
        "classes",
        "AP per class, most frequent first",
        f'<p class="soft">AP in %, and annotated actions.{_keys(runs)}</p>',
        bars(rows),
        without,
    )


def _breakdowns(runs: list[_Run]) -> str:
    groups = []
    for title, make in (
        ("By class frequency", lambda run: by_frequency(run.rows, _averages(run))),
        ("By height of the person", lambda run: by_size(run.rows)),
        ("By persons in the keyframe", lambda run: by_persons(run.rows)),
    ):
        parts: list[list[Slice]] = [make(run) for run in runs]
        rows = [
            (one.name, one.mAP, parts[1][i].mAP if len(parts) > 1 else None, f"{one.num_gt:,} gt")
            for i, one in enumerate(parts[0])
        ]
        groups.append(f"<div><h3>{title}</h3>{bars(rows)}</div>")
    return section(
        "breakdowns",
        "Where it is good and where not",
        '<p class="soft">mAP of each part, over the classes that occur in it; parts with other '
        f"classes do not compare exactly.{_keys(runs)}</p>",
        f'<div class="columns">{"".join(groups)}</div>',
    )


def _averages(run: _Run) -> dict[int, float | None]:
    return {key: row.AP for key, row in run.result.per_class.items()}


def _curves(runs: list[_Run]) -> str:
    per_class = runs[0].result.per_class
    keys = sorted(runs[0].lines, key=lambda key: -per_class[key].num_gt)
    charts = [
        curve_chart(
            per_class[key].name,
            f"AP {percent(per_class[key].AP)}, best F1 {percent(runs[0].lines[key].best_f1)} "
            f"at {runs[0].lines[key].threshold:.3g}",
            runs[0].lines[key],
            runs[1].lines.get(key) if len(runs) > 1 else None,
        )
        for key in keys
    ]
    return section(
        "curves",
        "Precision over recall",
        f'<p class="soft">Most frequent classes first.{_keys(runs)}</p>',
        f'<div class="charts">{"".join(charts[:12])}</div>',
        f"<details><summary>{len(charts) - 12} more classes</summary>"
        f'<div class="charts">{"".join(charts[12:])}</div></details>'
        if len(charts) > 12
        else "",
    )


def _confusions(run: _Run) -> str:
    pairs = confusions(run.rows, find_errors(run.rows), run.lines)
    names = run.result.class_names
    body = [
        [escape(names[p.actual]), escape(names[p.said]), f"{p.count:,}", percent(p.share)]
        for p in pairs
    ]
    return section(
        "confusions",
        "Which actions are taken for which",
        '<p class="soft">People who do the first and are said to do the second, which they do '
        "not, at the threshold of its best F1; share of all who do the first. People do several "
        "things at once, so a pair need not exclude each other.</p>",
        table(["does", "is said to", "times", "% of gt"], body, numbers=(2, 3))
        if body
        else "<p>None.</p>",
    )


def _worst(run: _Run, frame_at: FrameAt | None) -> str:
    names = run.result.class_names
    frames = worst_frames(run.rows, run.lines)
    cards = "".join(keyframe_card(frame, run.rows, names, frame_at) for frame in frames)
    legend = "".join(
        f'<span class="key" style="background:{colour}"></span>{text}'
        for colour, text in (
            ("#36d07f", "found"),
            ("#ffb000", "ground truth missed"),
            ("#ff5d55", "wrong (dashed)"),
        )
    )
    return section(
        "worst",
        "Worst keyframes",
        f'<p class="soft">Most misses and false alarms at each class\'s best-F1 threshold.{legend}'
        "</p>",
        f'<div class="frames">{cards}</div>' if cards else "<p>None.</p>",
    )
