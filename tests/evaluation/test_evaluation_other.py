"""Persons, Charades, top-k and tubes: numbers by hand, and second implementations."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from avadet.errors import UserError
from avadet.evaluation import charades
from avadet.evaluation.average_precision import interpolated
from avadet.evaluation.persons import person_ap, person_ap_files
from avadet.evaluation.topk import ViewScores, topk, topk_file
from avadet.evaluation.tubes import Tube, read_tubes, tube_iou, video_map

BOX = [0.25, 0.25, 0.75, 0.75]


# Persons -----------------------------------------------------------------------------------------


def test_persons_by_hand() -> None:
    # One exact box ranked first, one of IoU 0.9 (25 of 25 wide, 22.5 high): matched up to 0.90.
    found = [[[0, 0, 1, 1]], [[0, 0, 1, 0.9]]]
    result = person_ap([[[0, 0, 1, 1]], [[0, 0, 1, 1]]], found, [[0.7], [0.5]])
    assert pytest.approx(1.0) == result.AP50
    # At 0.95 only the first counts: recall 0.5 at precision 1 is 51 of 101 points.
    assert pytest.approx((9 + 51 / 101) / 10) == result.AP
    assert (result.num_gt, result.num_det, result.num_frames) == (2, 2, 2)


def test_persons_without_anybody() -> None:
    assert person_ap([[]], [[BOX]], [[0.5]]).AP is None
    assert person_ap([[BOX]], [[]], [[]]).AP50 == 0.0
    # A box without area is a false positive like another.
    assert person_ap([[BOX]], [[BOX, [0.5, 0.5, 0.1, 0.6]]], [[0.5, 0.9]]).AP50 == 0.5
    with pytest.raises(UserError, match="nan"):
        person_ap([[BOX]], [[BOX]], [[np.nan]])
    with pytest.raises(UserError, match="1 boxes but 2 scores"):
        person_ap([[BOX]], [[BOX]], [[0.5, 0.5]])


def test_ap50_of_persons_agrees_with_a_loop() -> None:
    """AP at 0.5 by loops, 101 recall points, on random boxes."""
    draw = np.random.default_rng(0)
    truth, found, marks = [], [], []
    for _ in range(30):
        corner = draw.random((3, 2)) * 0.5
        boxes = np.concatenate([corner, corner + 0.3 + 0.2 * draw.random((3, 2))], axis=1)
        truth.append(boxes)
        found.append(np.concatenate([boxes + draw.normal(0, 0.05, (3, 4)), boxes[:1] + 0.3]))
        marks.append(draw.random(4))
    flags = []
    for gt, boxes, scores in zip(truth, found, marks):
        free = set(range(len(gt)))
        for i in np.argsort(-scores):
            overlaps = {j: _iou(boxes[i], gt[j]) for j in free}
            best = max(overlaps, key=overlaps.get, default=None)
            hit = best is not None and overlaps[best] >= 0.5
            free -= {best} if hit else set()
            flags.append((scores[i], hit))
    flags.sort(reverse=True)
    hits = np.cumsum([hit for _, hit in flags])
    precision = hits / np.arange(1, len(hits) + 1)
    recall = hits / 90
    points = [max(precision[recall >= r], default=0) for r in np.linspace(0, 1, 101)]
    assert pytest.approx(np.mean(points), abs=1e-9) == person_ap(truth, found, marks).AP50


def _iou(a, b) -> float:
    w = min(a[2], b[2]) - max(a[0], b[0])
    h = min(a[3], b[3]) - max(a[1], b[1])
    inter = max(0, w) * max(0, h)
    return inter / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter)


def test_person_files(tmp_path: Path) -> None:
    gt, det, excluded = (tmp_path / name for name in ("gt.csv", "det.csv", "ex.csv"))
    # One person with two actions, one empty keyframe, one excluded keyframe.
    gt.write_text(
        "v,0902,0.1,0.1,0.5,0.9,12,1\nv,0902,0.1,0.1,0.5,0.9,80,1\nv,0903\n"
        "v,0904,0.1,0.1,0.5,0.9,12,1\n"
    )
    det.write_text("v,902,0.1,0.1,0.5,0.9,,0.9\nv,903,0.1,0.1,0.5,0.9,-1,0.95\nw,1,0,0,1,1,,1\n")
    excluded.write_text("v,0904\n")
    result = person_ap_files(gt, det, excluded)
    assert (result.num_gt, result.num_det, result.num_frames) == (1, 2, 2)
    assert pytest.approx(0.5) == result.AP50
    det.write_text("v,902,0.1,0.1,0.5,0.9,,high\n")
    with pytest.raises(UserError, match=r"det\.csv:1"):
        person_ap_files(gt, det)


# Charades ----------------------------------------------------------------------------------------


def videos() -> list[charades.CharadesVideo]:
    return [
        charades.CharadesVideo("A", 10.0, ((0, 0.0, 4.0), (1, 2.0, 2.4))),
        charades.CharadesVideo("B", 20.0, ((1, 0.0, 20.0),)),
        charades.CharadesVideo("C", 10.0, ()),
        charades.CharadesVideo("D", 10.0, ((0, 9.9, 9.95),)),
    ]


def test_charades_by_hand() -> None:
    scores = {"A": [0.5, 0.9], "B": [0.9, 0.1], "C": [1.0, 0.5], "D": [0.5, 0.2]}
    arrays = {name: np.array(row) for name, row in scores.items()}
    result = charades.classification_map(videos(), arrays, num_classes=2)
    # Class 0: B (0.9), A and D (0.5 each, in file order), C last for it has no action: positives at
    # ranks 2 and 3. Class 1: A, D, B: positives at ranks 1 and 3.
    assert result.per_class[0] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert result.per_class[1] == pytest.approx((1 + 2 / 3) / 2)
    assert result.mAP == pytest.approx(np.mean([7 / 12, 5 / 6]))
    assert result.mAP == result.WAP
    copy = charades.classification_map(videos(), arrays, "pyslowfast", num_classes=2)
    # Here C ranks first in class 0, and A and D share a threshold: precision 2/4 at recall 1.
    assert copy.per_class[0] == pytest.approx(1 / 2)
    assert copy.per_class[1] == pytest.approx((1 + 2 / 4) / 2)


def test_charades_missing_videos_and_classes() -> None:
    arrays = {"A": np.array([0.5, 0.9, 0.1])}
    result = charades.classification_map(videos(), arrays, num_classes=3)
    assert result.missing == 3
    # A class without positives is a NaN that the official mean passes on; the copy leaves it out.
    assert result.mAP is None
    assert result.per_class[2] is None
    copy = charades.classification_map(videos(), arrays, "pyslowfast", num_classes=3)
    assert copy.mAP is not None


def test_grouped_average_precision_agrees_with_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    draw = np.random.default_rng(1)
    for _ in range(20):
        labels = draw.random((60, 4)) < 0.3
        labels[0] = True
        scores = draw.random((60, 4)).round(1)
        result = charades.score_matrix(labels, scores, "pyslowfast")
        for index in range(4):
            expected = metrics.average_precision_score(labels[:, index], scores[:, index])
            assert result.per_class[index] == pytest.approx(expected, abs=1e-12)


def test_charades_localisation_by_hand() -> None:
    one = [charades.CharadesVideo("A", 25.0, ((0, 2.0, 4.0), (1, 24.5, 25.0)))]
    # Points at 0, 1, .. 24 s: class 0 is positive at 2, 3 and 4, class 1 nowhere.
    scores = {("A", p): np.array([1.0 if p in (3, 4) else 0.0, 0.0]) for p in range(1, 26)}
    result = charades.localization_map(one, scores, num_classes=2)
    assert result.num_positives == {0: 3, 1: 0}
    # Points 1 and 2 keep their place among the zeros: the third positive is the fifth.
    assert result.per_class[0] == pytest.approx((1 + 1 + 3 / 5) / 3)


def test_charades_files(tmp_path: Path) -> None:
    gt, sub = tmp_path / "gt.csv", tmp_path / "sub.txt"
    gt.write_text("id,subject,actions,length\nA,s,c001 11.90 21.20;c000 0.00 12.60,30\nB,s,,9\n")
    truth = charades.read_groundtruth(gt)
    assert truth[0].actions == ((1, 11.9, 21.2), (0, 0.0, 12.6))
    assert truth[1].actions == ()
    sub.write_text("A 0.5 0.25\nB\t0 1\n")
    np.testing.assert_array_equal(charades.read_scores(sub, 2)["B"], [0, 1])
    sub.write_text("A 0 0.5 0.25\n")
    assert list(charades.read_scores(sub, 2, localize=True)) == [("A", 1)]
    sub.write_text("A 0.5\n")
    with pytest.raises(UserError, match=r"sub\.txt:1: 1 scores instead of 2"):
        charades.read_scores(sub, 2)
    gt.write_text("id,actions\nA,drinks 1 2\n")
    with pytest.raises(UserError, match=r"gt\.csv:2"):
        charades.read_groundtruth(gt)


# Top-k -------------------------------------------------------------------------------------------


def test_topk_by_hand() -> None:
    scores = [[0.1, 0.7, 0.2], [0.5, 0.1, 0.4], [0.4, 0.4, 0.2], [0.4, 0.4, 0.2]]
    result = topk(scores, [1, 2, 0, 1], ks=(1, 2, 3))
    # The tie of the last two goes to the lower class.
    assert result.accuracy == {1: 0.5, 2: 1.0, 3: 1.0}
    assert result.mean_class_accuracy == pytest.approx((1 + 0.5 + 0) / 3)


def test_views_are_summed_or_maximised() -> None:
    views = {0: [[0.6, 0.4], [0.1, 0.9]], 1: [[0.9, 0.1], [0.4, 0.6]]}
    for method, expected in (("sum", 1.0), ("max", 1.0)):
        meter = ViewScores(2, 2, method)
        for video, rows in views.items():
            for row in rows:
                meter.add(video, 1 - video, row)
        assert meter.result(ks=(1,)).accuracy == {1: expected}
        assert meter.result(ks=(1,)).num_views == 2
    with pytest.raises(UserError, match="label 0 in one view"):
        meter.add(0, 0, [0.5, 0.5])


def test_topk_agrees_with_a_loop_and_reads_files(tmp_path: Path) -> None:
    draw = random.Random(0)
    lines, totals, labels = [], {}, {}
    for video in range(20):
        labels[video] = draw.randrange(6)
        for _ in range(3):
            row = [draw.random() for _ in range(6)]
            totals[video] = [a + b for a, b in zip(totals.get(video, [0] * 6), row)]
            lines.append(f"vid{video},{labels[video]}," + ",".join(map(repr, row)))
    draw.shuffle(lines)
    path = tmp_path / "views.csv"
    path.write_text("\n".join(lines) + "\n")
    result = topk_file(path, ks=(1, 5))
    for k in (1, 5):
        right = sum(
            labels[v] in sorted(range(6), key=lambda c: -t[c])[:k] for v, t in totals.items()
        )
        assert result.accuracy[k] == pytest.approx(right / 20)
    path.write_text("v,0,0.5\nv,zero,0.5\n")
    with pytest.raises(UserError, match=r"views\.csv:2"):
        topk_file(path)


# Tubes -------------------------------------------------------------------------------------------


def tube(video: str, first: int, last: int, box, score: float = 1.0, label: int = 1) -> Tube:
    frames = np.arange(first, last + 1)
    return Tube(video, label, frames, np.tile(np.array(box, dtype=float), (len(frames), 1)), score)


def test_tube_iou_by_hand() -> None:
    a, b = tube("v", 1, 10, [0, 0, 9, 9]), tube("v", 6, 15, [0, 0, 9, 4])
    # 5 of 15 frames in common; boxes of 10 x 10 and 10 x 5 pixels.
    assert tube_iou(a, b) == pytest.approx(5 / 15 * 0.5)
    assert tube_iou(a, b, pixel=0.0) == pytest.approx(5 / 15 * 36 / 81)
    assert tube_iou(a, tube("v", 11, 15, [0, 0, 9, 9])) == 0.0


def test_video_map_by_hand_in_both_conventions() -> None:
    box = [0, 0, 9, 9]
    truth = [tube("v", 1, 10, box), tube("w", 1, 10, box)]
    found = [
        tube("v", 1, 10, box, 0.9),
        tube("v", 1, 10, box, 0.8),  # a duplicate
        tube("w", 1, 5, box, 0.7),  # half the time: IoU 0.5
        tube("x", 1, 10, box, 0.6),
    ]
    voc = video_map(truth, found, (0.2, 0.5, 0.75), "voc")
    # hit, miss, hit, miss: half the recall at precision 1, half at 2/3.
    assert voc.mAP[0.5] == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert voc.mAP[0.75] == pytest.approx(0.5)
    assert voc.mAP_coco == pytest.approx((voc.mAP[0.5] + 9 * 0.5) / 10)
    act = video_map(truth, found, (0.5,), "trapezoid")
    # Trapezoids: (1 + 1)/2 * 0.5, then (1/2 + 2/3)/2 * 0.5.
    assert act.mAP[0.5] == pytest.approx(0.5 + 0.5 * (1 / 2 + 2 / 3) / 2)
    with pytest.raises(UserError, match="convention"):
        video_map(truth, found, convention="other")


def test_only_the_trapezoid_family_falls_back_on_a_free_tube() -> None:
    truth = [tube("v", 1, 10, [0, 0, 9, 9]), tube("v", 1, 10, [2, 0, 11, 9])]
    found = [tube("v", 1, 10, [0, 0, 9, 9], 0.9), tube("v", 1, 10, [0.5, 0, 9.5, 9], 0.8)]
    assert video_map(truth, found, (0.5,), "voc").mAP[0.5] == pytest.approx(0.5)
    assert video_map(truth, found, (0.5,), "trapezoid").mAP[0.5] == pytest.approx(1.0)


def test_video_map_agrees_with_the_interpolated_area() -> None:
    draw = random.Random(3)
    truth = [tube(f"v{i}", 1, 10, [0, 0, 9, 9]) for i in range(8)]
    found, hits = [], []
    for i in range(30):
        video = draw.randrange(12)
        found.append(tube(f"v{video}", 1, 10, [0, 0, 9, 9], 1 - i / 100))
        hits.append(video < 8 and video not in {int(t.video[1:]) for t in found[:-1]})
    expected = interpolated(np.array(hits), 8)
    assert video_map(truth, found, (0.5,), "voc").mAP[0.5] == pytest.approx(expected)


def test_tube_files(tmp_path: Path) -> None:
    path = tmp_path / "tubes.csv"
    path.write_text("v,1,a,2,0,0,9,9,0.5\nv,1,a,1,0,0,9,9,0.5\nv,1,b,1,0,0,4,4,0.25\n")
    tubes = read_tubes(path)
    assert [len(t.frames) for t in tubes] == [2, 1]
    assert tubes[1].score == 0.25
    path.write_text("v,1,a,2,0,0,9\n")
    with pytest.raises(UserError, match=r"tubes\.csv:1"):
        read_tubes(path)
    with pytest.raises(UserError, match="ascend"):
        Tube("v", 1, np.array([2, 1]), np.zeros((2, 4)))
