"""Bad input: an error or a counted warning that names file and line, never a silent zero."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from avadet.errors import UserError
from avadet.evaluation.ava import frame_map
from avadet.evaluation.ava_io import read_boxes, read_label_map

ROW = "v,0902,0.25,0.25,0.75,0.75,12"


@pytest.fixture
def files(tmp_path: Path):
    def write(groundtruth: str = ROW + "\n", detections: str = ROW + ",0.5\n"):
        gt, det = tmp_path / "gt.csv", tmp_path / "det.csv"
        gt.write_bytes(groundtruth.encode())
        det.write_bytes(detections.encode())
        return gt, det

    return write


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("video,timestamp,x1,y1,x2,y2,action_id,score\n" + ROW + ",0.5\n", 1, "header"),
        (ROW + ",0.5\nv,0902,0.25,0.25,0.75,0.75\n", 2, "6 columns"),
        (ROW + ",0.5\n" + ROW + ",0.5,1\n", 2, "9 columns"),
        (ROW + ",0.5\n\n" + ROW + ",0.5\n", 2, "empty"),
        (ROW + ",0.5\nv,0902,0.25,zero,0.75,0.75,12,0.5\n", 2, "y1 'zero' is no number"),
        (ROW + ",0.5\nv,0902,0.25,0.25,0.75,0.75,12.0,0.5\n", 2, "action_id '12.0'"),
        (ROW + ",0.5\n" + ROW + ",high\n", 2, "column 8 (score) 'high'"),
        (ROW + ",0.5\n" + ROW + ",nan\n", 2, "nan"),
        (ROW + ",0.5\n" + ROW + ",\n", 2, "column 8"),
        (ROW + ",0.5\nv,15:02,0.25,0.25,0.75,0.75,12,0.5\n", 2, "'15:02' is no number"),
        (ROW + ",0.5\nv,nan,0.25,0.25,0.75,0.75,12,0.5\n", 2, "'nan' is no number"),
        (ROW.replace(",", ";") + ";0.5\n", 1, "semicolons"),
        (ROW.replace(",", "\t") + "\t0.5\n", 1, "tabs"),
        ("PAR1\x00\x00,\n", 1, ""),
    ],
)
def test_malformed_rows_are_named(files, text: str, line: int, words: str) -> None:
    gt, det = files(detections=text)
    with pytest.raises(UserError) as caught:
        frame_map(gt, det)
    assert f"{det}:{line}: " in str(caught.value)
    assert words in str(caught.value)


def test_groundtruth_errors_name_the_groundtruth(files) -> None:
    gt, det = files(groundtruth=ROW + ",3_\n")
    with pytest.raises(UserError, match=r"gt\.csv:1: column 8 \(person id\) '3_' is no number"):
        frame_map(gt, det)
    # PySlowFast does not read that column.
    assert frame_map(gt, det, protocol="pyslowfast").mAP == 1.0


def test_binary_and_missing_files(tmp_path: Path, files) -> None:
    gt, det = files()
    with pytest.raises(UserError, match="no such file"):
        frame_map(gt, tmp_path / "nothing.csv")
    det.write_bytes(b"\xff\xfe\x00v,\xff\n")
    with pytest.raises(UserError, match=r"det\.csv:1"):
        frame_map(gt, det)
    broken = tmp_path / "det.csv.gz"
    broken.write_bytes(gzip.compress((ROW + ",0.5\n").encode() * 5000)[:-30])
    with pytest.raises(UserError, match="damaged"):
        frame_map(gt, broken)
    with pytest.raises(UserError, match="protocol 'best' is unknown"):
        frame_map(gt, det, protocol="best")


@pytest.mark.parametrize(
    "spelled", ["902", "0902", "902.0", "902.0000001", " 902", "9.02e2", '"902"']
)
def test_every_spelling_of_a_timestamp_is_one_frame(files, spelled: str) -> None:
    gt, det = files(detections=ROW.replace("0902", spelled) + ",0.5\n")
    assert frame_map(gt, det).mAP == 1.0


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff" + ROW + ",0.5\n",
        ROW + ",0.5",
        ROW + ",0.5\r\n" + ROW.replace("0902", "0903") + ",0.1\r\n",
        '"v","0902","0.25","0.25","0.75","0.75","12","0.5"\n',
        "v,0902, 0.25, +0.25,7.5e-1,.75, 12, 5E-1\n",
        ROW + "\nv,0903\n" + ROW + ",0.25\n",
    ],
)
def test_odd_but_valid_csv(files, text: str) -> None:
    gt, det = files(detections=text)
    assert frame_map(gt, det).per_class[12].num_tp == 1


def test_the_two_readers_agree(tmp_path: Path) -> None:
    """The same rows by columns and, forced by one odd row, row by row."""
    draw = np.random.default_rng(0)
    lines = [
        f"v{i % 3},{902 + i % 7:04d},{','.join(repr(float(v)) for v in draw.random(4))},"
        f"{i % 80 + 1},{float(draw.random())!r}"
        for i in range(500)
    ]
    plain, odd = tmp_path / "plain.csv", tmp_path / "odd.csv"
    plain.write_text("\n".join(lines) + "\n")
    odd.write_text("\n".join([*lines, "v0,0902"]) + "\n")
    fast, slow = read_boxes(plain), read_boxes(odd)
    assert fast.lines is None
    assert slow.lines is not None
    for name in ("x1", "y1", "x2", "y2", "score", "label"):
        np.testing.assert_array_equal(getattr(fast, name), getattr(slow, name))
    assert [fast.videos[i] for i in fast.video] == [slow.videos[i] for i in slow.video]
    assert [fast.times[i] for i in fast.time] == [slow.times[i] for i in slow.time]


def test_parquet_frames_and_columns_give_the_same(tmp_path: Path, files) -> None:
    gt, det = files(detections=ROW + ",0.5\nv,0903.5,0.1,0.1,0.2,0.2,12,0.25\n")
    expected = frame_map(gt, det).per_class
    frame = pd.DataFrame(
        {
            "video_id": ["v", "v"], "timestamp": [902.0, 903.5], "x1": [0.25, 0.1],
            "y1": [0.25, 0.1], "x2": [0.75, 0.2], "y2": [0.75, 0.2], "action_id": [12, 12],
            "score": [0.5, 0.25],
        }
    )  # fmt: skip
    assert frame_map(gt, frame).per_class == expected
    assert frame_map(gt, {name: frame[name].to_numpy() for name in frame}).per_class == expected
    frame.to_parquet(tmp_path / "det.parquet")
    assert frame_map(gt, tmp_path / "det.parquet").per_class == expected
    (tmp_path / "det2.csv.gz").write_bytes(gzip.compress(det.read_bytes()))
    assert frame_map(gt, tmp_path / "det2.csv.gz").per_class == expected
    with pytest.raises(UserError, match="no column 'label'"):
        frame_map(gt, frame.drop(columns="action_id"))
    frame.drop(columns="x2").to_parquet(tmp_path / "bad.parquet")
    with pytest.raises(UserError, match="no column 'x2'"):
        frame_map(gt, tmp_path / "bad.parquet")


def test_empty_files_say_so(files, caplog) -> None:
    gt, det = files(detections="")
    result = frame_map(gt, det)
    assert result.mAP == 0.0
    assert "no detections" in result.notes[0]
    gt, det = files(groundtruth="")
    result = frame_map(gt, det)
    assert result.mAP is None
    assert "ground truth is empty" in result.notes[0]
    assert "ground truth is empty" in caplog.text


def many(change=lambda row: row, count: int = 40) -> str:
    rows = []
    for i in range(count):
        x = i / 100
        row = ["v", 902 + i, x, 0.1, x + 0.3, 0.7, (3, 11, 12)[i % 3], 0.5 + i / 1000]
        rows.append(",".join(map(str, change(row))))
    return "\n".join(rows) + "\n"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda r: ["w", *r[1:]], "no video id in common"),
        (lambda r: ["clips/v.mkv", *r[1:]], "file endings"),
        (lambda r: [*r[:6], r[6] - 1, r[7]], "one too low"),
        (lambda r: [*r[:6], r[6] + 1, r[7]], "one too high"),
        (lambda r: [r[0], r[1] - 900, *r[2:]], "900 too low"),
        (lambda r: [r[0], r[1] + 900, *r[2:]], "900 too high"),
        (lambda r: [r[0], (r[1] - 900) * 30, *r[2:]], "frame numbers"),
        (lambda r: [*r[:2], r[2] * 640, r[3] * 360, r[4] * 640, r[5] * 360, *r[6:]], "pixels"),
        (lambda r: [*r[:2], r[3] + 0.2, r[2], r[5] + 0.2, r[4], *r[6:]], ""),
        (lambda r: [r[0], r[1] + 5000, *r[2:]], "no keyframe of the detections"),
        (lambda r: [*r[:2], r[2], 0.8, r[4], 0.95, *r[6:]], "reaches IoU 0.5"),
    ],
)
def test_a_zero_comes_with_its_reason(files, change, words: str) -> None:
    truth = many(lambda row: row[:7])
    gt, det = files(groundtruth=truth, detections=many(change))
    result = frame_map(gt, det, [3, 11, 12])
    assert result.mAP < 0.05
    assert any(words in note for note in result.notes), result.notes


def test_invalid_boxes_are_counted_and_named(files) -> None:
    gt, det = files(detections=ROW + ",0.5\nv,0902,0.75,0.25,0.25,0.75,12,0.9\n")
    result = frame_map(gt, det)
    assert result.mAP == 1.0
    assert result.counts["detections with invalid boxes"] == 1
    assert "det.csv:2" in result.notes[0]


def test_groundtruth_without_area_is_counted_and_named(files) -> None:
    text = ROW + "\nv,0903,0.5,0.2,0.5,0.8,12\nv,0904,nan,0.2,0.5,0.8,12\nv,0905,1,0,0,1,12\n"
    gt, det = files(groundtruth=text)
    result = frame_map(gt, det)
    assert result.per_class[12].num_gt == 4
    assert "gt.csv:2" in result.notes[0]
    assert "3 such rows" in result.notes[0]


def test_unknown_ids_are_counted_and_named(files) -> None:
    gt, det = files(detections=ROW + ",0.5\nv,0902,0.1,0.1,0.2,0.2,0,0.9\n")
    result = frame_map(gt, det)
    assert any("det.csv:2: class id 0 lies outside 1..80" in note for note in result.notes)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('item { name: "stand" id: 12 }\n', "no class found"),
        ('item {\n    name: "stand"\n    id: 12\n}\n', "no class found"),
        ('item {\n  name: "stand"\n  id: 0\n}\n', "below 1"),
        ("item {\n  name: stand\n  id: 12\n}\n", ":2: the name must stand in double quotes"),
        ('item {\n  name: "stand"\n  id: twelve\n}\n', ":3: "),
        ('item {\n  name: "stand"\n  id: 1000000000\n}\n', "above"),
        ("", "no class found"),
    ],
)
def test_label_maps_that_the_official_reader_refuses(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "map.pbtxt"
    path.write_text(text)
    with pytest.raises(UserError, match=r"map\.pbtxt") as caught:
        read_label_map(path)
    assert words in str(caught.value)


def test_exclusion_list_errors(tmp_path: Path, files) -> None:
    gt, det = files()
    path = tmp_path / "excluded.csv"
    path.write_text("v,0904\nv,0905,1\n")
    with pytest.raises(UserError, match=r"excluded\.csv:2"):
        frame_map(gt, det, excluded=path)
    path.write_text("v,0904\nv,soon\n")
    with pytest.raises(UserError, match=r"excluded\.csv:2"):
        frame_map(gt, det, excluded=path)
    path.write_text("v,0902\n")
    assert frame_map(gt, det, excluded=path).mAP is None
    result = frame_map(gt, det, excluded=path, protocol="head")
    assert result.mAP == 1.0
    assert "takes no exclusion list" in result.notes[-1]
