"""The annotation formats, made by hand and as published."""

from __future__ import annotations

import time

import numpy as np
import pytest

from avadet.data.ava_csv import (
    format_second,
    read_excluded,
    read_file_names,
    read_groundtruth,
    read_proposals,
    write_detections_csv,
    write_proposals_csv,
)
from avadet.data.box_table import BoxTable
from avadet.data.label_map import LabelMap, read_label_map
from avadet.data.labelling import label_by_overlap, training_boxes
from avadet.errors import UserError
from avadet.structures import Detections, Keyframe


def write(path, text):
    path.write_text(text)
    return path


def labels_of(table: BoxTable, row: int) -> list[int]:
    return table.labels[table.first_label[row] : table.first_label[row + 1]].tolist()


TRUTH = """\
b,0903,0.1,0.2,0.3,0.4,1,0
a,902,0.5,0.5,0.6,0.6,80,3_
a,0902.0,0.1,0.1,0.2,0.2,12,1

b,0903,0.100,0.2,0.3,0.4,74,0
a,0902,0.5,0.5,0.6,0.6,3,3
a,0904,0,0,1,1,,0
a,0905
b,0903,0.1,0.2,0.3,0.4,1,0
"""


def test_rows_of_one_box_are_one_box(tmp_path):
    table = read_groundtruth(write(tmp_path / "truth.csv", TRUTH))
    assert list(table.keyframes()) == [Keyframe("a", 902), Keyframe("a", 904), Keyframe("b", 903)]
    assert np.allclose(table.boxes_norm[0], [0.5, 0.5, 0.6, 0.6])
    assert [labels_of(table, row) for row in range(4)] == [[2, 79], [11], [], [0, 73]]
    assert table.scores.tolist() == [1] * 4
    assert table.find(Keyframe("a", 902)) == slice(0, 2)
    assert table.find(Keyframe("b", 903.0000001)) == slice(3, 4)
    assert table.find(Keyframe("c", 903)) == slice(0, 0)
    hot = table.multi_hot(slice(0, 3), 80)
    assert hot.shape == (3, 80)
    assert np.argwhere(hot).tolist() == [[0, 2], [0, 79], [1, 11]]


def test_classes_are_chosen_by_the_label_map(tmp_path):
    path = write(tmp_path / "truth.csv", TRUTH)
    table = read_groundtruth(path, LabelMap((12, 74), ("stand", "listen")))
    assert [labels_of(table, row) for row in range(4)] == [[], [0], [], [1]]
    with pytest.raises(UserError, match="none of its action ids"):
        read_groundtruth(path, LabelMap((5,), ("fall",)))


def test_proposals(tmp_path):
    text = (
        "v,0902,0.1,0.1,0.2,0.2,,0.9\nv,0902,0.3,0.1,0.4,0.2,-1,0.5\nv,902,0.5,0.1,0.6,0.2,,0.8\n"
    )
    path = write(tmp_path / "found.csv", text)
    assert read_proposals(path).scores.tolist() == pytest.approx([0.9, 0.5, 0.8])
    table = read_proposals(path, 0.8)
    assert table.scores.tolist() == pytest.approx([0.9, 0.8])
    assert not table.labelled
    text = (
        "v,0902,0.1,0.1,0.2,0.2,7,0.9\nv,0902,0.1,0.1,0.2,0.2,9,0.9\nv,902,0.5,0.1,0.6,0.2,-1,0.8\n"
    )
    table = read_proposals(write(path, text), 0.8)
    assert table.labelled
    assert [labels_of(table, 0), labels_of(table, 1)] == [[6, 8], []]
    empty = read_proposals(write(path, ""))
    assert len(empty) == empty.num_keyframes == 0


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("v,0902,0.1,0.2,x,0.4,1,0", "'x' is not a number"),
        ("v,0902,0.1,0.2,,0.4,1,0", "coordinate is missing"),
        ("v,0902,0.1,0.2,nan,0.4,1,0", "'nan' is not a number"),
        ("v,0902,10,20,300,400,1,0", "shares of the frame"),
        ("v,0902,0.5,0.2,0.3,0.4,1,0", "inverted"),
        ("v,0902,0.1,0.2,0.3,0.4,0,0", "action id"),
        ("v,0902,0.1,0.2,0.3,0.4,1.5,0", "action id"),
        ("v,,0.1,0.2,0.3,0.4,1,0", "second is missing"),
        (",0902,0.1,0.2,0.3,0.4,1,0", "name of the movie"),
        ("v,0902,0.1,0.2,0.3,0.4,1,0,5,6", "line 3"),
    ],
)
def test_wrong_rows_are_named(tmp_path, row, reason):
    good = "v,0902,0.1,0.2,0.3,0.4,1,0\n"
    path = write(tmp_path / "rows.csv", f"{good}\n{row}\n{good}")
    with pytest.raises(UserError, match=reason) as caught:
        read_groundtruth(path)
    assert str(caught.value).startswith(f"{path}:3:" if "line 3" not in reason else f"{path}:")


def test_a_header_line_is_named(tmp_path):
    path = write(tmp_path / "rows.csv", "video,second,x1,y1,x2,y2,label,id\nv,1,0,0,1,1,1,0\n")
    with pytest.raises(UserError, match=r"rows\.csv:1: .*remove the header"):
        read_groundtruth(path)


def test_missing_files(tmp_path):
    for reader in (
        read_groundtruth,
        read_proposals,
        read_excluded,
        read_file_names,
        read_label_map,
    ):
        with pytest.raises(UserError, match=r"none\.csv: cannot be read"):
            reader(tmp_path / "none.csv")


def test_names_that_look_like_missing_values(tmp_path):
    path = write(
        tmp_path / "rows.csv", "NA,0902,0,0,1,1,1,0\nnull,0902,0,0,1,1,1,0\n007,1,0,0,1,1,1,0\n"
    )
    assert read_groundtruth(path).videos == ("007", "NA", "null")


def test_excluded_and_file_lists(tmp_path):
    path = write(tmp_path / "excluded.csv", "v,0904\nw,1751\n")
    assert read_excluded(path) == {Keyframe("v", 904.0), Keyframe("w", 1751.0)}
    with pytest.raises(UserError, match=r"excluded\.csv:2"):
        read_excluded(write(path, "v,0904\nw\n"))
    path = write(tmp_path / "names.txt", "-5KQ66BBWC4.mkv\na.b.mp4\nplain\n\n")
    assert read_file_names(path) == ["-5KQ66BBWC4", "a.b", "plain"]


def test_label_map_forms(tmp_path):
    expected = LabelMap((1, 12), ("bend/bow (at the waist)", "stand"))
    forms = [
        'item {\n  name: "bend/bow (at the waist)"\n  id: 1\n}\n'
        'item {\n  name: "stand"\n  id: 12\n}',
        'label { name: "stand" label_id: 12 label_type: PERSON_MOVEMENT }\n'
        'label { name: "bend/bow (at the waist)" label_id: 1 }',
        "label_id,label_name,label_type\n1,bend/bow (at the waist),PERSON_MOVEMENT\n12,stand,X\n",
    ]
    for form in forms:
        assert read_label_map(write(tmp_path / "map.txt", form)) == expected
    assert read_label_map(write(tmp_path / "map.txt", "walk\nrun\n")) == LabelMap(
        (1, 2), ("walk", "run")
    )
    assert expected.index_table().tolist() == [-1, 0, *[-1] * 10, 1]
    with pytest.raises(UserError, match="distinct"):
        read_label_map(
            write(tmp_path / "map.txt", 'item { name: "a" id: 1 }\nitem { name: "b" id: 1 }')
        )
    with pytest.raises(UserError, match=r"map\.txt:2: a class needs"):
        read_label_map(write(tmp_path / "map.txt", 'item { name: "a" id: 1 }\nitem { name: "b" }'))
    with pytest.raises(UserError, match="no classes"):
        read_label_map(write(tmp_path / "map.txt", ""))


def detections(second: float, scores: np.ndarray) -> Detections:
    rng = np.random.default_rng(int(second))
    boxes = np.sort(rng.random((len(scores), 2, 2)), axis=1).reshape(-1, 4).astype(np.float32)
    people = rng.random(len(scores)).astype(np.float32)
    return Detections(Keyframe("v", second), boxes, people, scores)


def test_written_detections_read_back_exactly(tmp_path):
    rng = np.random.default_rng(0)
    found = [
        detections(902, rng.random((3, 4), dtype=np.float32) * 1e-4),
        detections(903.5, np.zeros((0, 4))),
    ]
    path = tmp_path / "out.csv"
    assert write_detections_csv(path, found, class_ids=[3, 5, 7, 80]) == 12
    rows = [line.split(",") for line in path.read_text().splitlines()]
    assert {row[1] for row in rows} == {"0902"}
    assert [int(row[6]) for row in rows] == [3, 5, 7, 80] * 3
    scores = np.asarray([row[7] for row in rows], dtype=np.float32).reshape(3, 4)
    assert np.array_equal(scores, found[0].scores)
    boxes = np.asarray([row[2:6] for row in rows[::4]], dtype=np.float32)
    assert np.array_equal(boxes, found[0].boxes_norm)
    with pytest.raises(ValueError, match="class ids"):
        write_detections_csv(path, found, class_ids=[1])
    found[0].scores[0, 0] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        write_detections_csv(path, found)
    assert len(path.read_text().splitlines()) == 12


def test_written_proposals_read_back_exactly(tmp_path):
    found = detections(902.25, np.zeros((5, 0), np.float32))
    path = tmp_path / "people.csv"
    assert write_proposals_csv(path, [found]) == 5
    table = read_proposals(path)
    assert not table.labelled
    assert list(table.keyframes()) == [Keyframe("v", 902.25)]
    assert np.array_equal(table.boxes_norm, found.boxes_norm)
    assert np.array_equal(table.scores, found.person_scores)


def test_seconds_as_ava_writes_them():
    assert [format_second(s) for s in (2, 902.0, 1798.0000001, 902.5, 12345)] == [
        "0002",
        "0902",
        "1798",
        "902.5",
        "12345",
    ]


def test_proposals_are_labelled_by_overlap(tmp_path):
    truth = read_groundtruth(
        write(
            tmp_path / "t.csv",
            "v,2,0.1,0.1,0.5,0.5,3,0\nv,2,0.1,0.1,0.5,0.5,8,0\nv,2,0.5,0.5,1,1,4,1\n",
        )
    )
    rows = [
        "v,2,0.1,0.1,0.5,0.49,,0.9",  # 0.975 of the first box
        "v,2,0.1,0.1,0.5,0.4,,0.9",  # 0.75: neither
        "v,2,0.1,0.1,0.2,0.2,,0.9",  # 0.06: nobody
        "v,2,0.5,0.5,1,1,,0.9",  # the second box itself
        "v,3,0.5,0.5,1,1,,0.9",  # nobody annotated second 3
        "w,2,0.5,0.5,1,1,,0.9",
    ]
    found = read_proposals(write(tmp_path / "p.csv", "\n".join(rows)))
    labelled = label_by_overlap(found, truth)
    assert [labels_of(labelled, row) for row in range(len(labelled))] == [[2, 7], [], [3]]
    both = training_boxes(truth, labelled)
    assert len(both) == 4
    assert [labels_of(both, row) for row in range(4)] == [[2, 7], [3], [2, 7], []]
    with pytest.raises(ValueError, match="negative_iou"):
        label_by_overlap(found, truth, iou=0.3)


def test_tables_are_joined_and_cut(tmp_path):
    first = read_groundtruth(write(tmp_path / "1.csv", "b,2,0,0,1,1,5,0\na,3,0,0,1,1,6,0\n"))
    second = read_groundtruth(write(tmp_path / "2.csv", "a,2,0,0,1,1,7,0\nb,2,0,0,0.5,1,8,0\n"))
    both = BoxTable.concatenate([first, second])
    assert [str(keyframe) for keyframe in both.keyframes()] == ["a@2s", "a@3s", "b@2s"]
    assert [labels_of(both, row) for row in range(4)] == [[6], [5], [4], [7]]
    assert both.keyframe_sizes().tolist() == [1, 1, 2]
    only = both.in_videos(["b"])
    assert [labels_of(only, row) for row in range(2)] == [[4], [7]]


def test_real_annotation_files(shared):
    folder = shared / "data" / "ava"
    table = read_groundtruth(folder / "ava_val_v2.1_head27163.csv")
    assert (table.num_keyframes, len(table.labels), len(table.videos)) == (6470, 27163, 8)
    assert len(table) / table.num_keyframes == pytest.approx(1.81, abs=0.005)
    # Unpadded seconds, trimmed zeros, seven columns.
    table = read_groundtruth(folder / "derenlei_ava_val_v2.1_pose14.csv")
    assert (table.num_keyframes, len(table.labels), len(table.videos)) == (50029, 93400, 64)
    sizes = {
        "ava_action_list_v1.0.pbtxt": 80,
        "ava_action_list_v2.0.csv": 80,
        "ava_action_list_v2.1_for_activitynet_2018.pbtxt.txt": 60,
        "ava_action_list_v2.2_for_activitynet_2019.pbtxt": 60,
    }
    for name, count in sizes.items():
        found = read_label_map(folder / name)
        assert (len(found), found.ids[-1], found.names[-1]) == (count, 80, "watch (a person)")
    assert len(read_excluded(folder / "ava_train_excluded_timestamps_v2.1.csv")) == 161
    assert len(read_file_names(folder / "ava_file_names_trainval_v2.1.txt")) == 299


@pytest.mark.slow
def test_full_size_lists_are_read_in_seconds(tmp_path):
    rng = np.random.default_rng(0)
    corners = np.sort(rng.integers(0, 1000, (900, 2, 2)), axis=1).reshape(-1, 4) / 1000
    boxes = [",".join(f"{value:.3f}" for value in row) for row in corners]
    lines = [
        f"movie{video:03d},{second:04d},{boxes[(video * 7 + second + box) % 900]},{label},{box}"
        for video in range(299)
        for second in range(902, 1799)
        for box in range(2)
        for label in (12, 17 + box, 79)
    ]
    path = write(tmp_path / "full.csv", "\n".join(lines))
    start = time.process_time()
    table = read_groundtruth(path)
    assert time.process_time() - start < 10
    assert len(table.labels) == len(lines) > 1_600_000
    assert table.num_keyframes == 299 * 897
