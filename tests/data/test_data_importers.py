"""Annotations of other tools: small exports written by hand, as those tools write them."""

from __future__ import annotations

import json

import pytest

from avadet.cli import main
from avadet.data.ava_csv import read_groundtruth
from avadet.data.importers import read_annotations, write_ava
from avadet.data.importers.rows import ActionBox, actions_of, frame_of
from avadet.data.label_map import read_label_map
from avadet.errors import UserError
from avadet.video.writer import VideoWriter


class Movies:
    """Every movie is 200x100 at 10 frames a second."""

    def size(self, video):
        return 200, 100

    def fps(self, video):
        return 10.0


def read(tmp_path, content, **options):
    path = tmp_path / "annotations"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return read_annotations(path, Movies(), **options)


def cvat(*tracks, meta="<task><id>7</id><source>day one.mp4</source></task>"):
    return f"<?xml version='1.0'?><annotations><meta>{meta}</meta>{''.join(tracks)}</annotations>"


def box(frame, left, outside=0, **attributes):
    inside = "".join(f'<attribute name="{k}">{v}</attribute>' for k, v in attributes.items())
    return (
        f'<box frame="{frame}" keyframe="1" outside="{outside}" occluded="0" xtl="{left}" ytl="10" '
        f'xbr="{left + 20}" ybr="60">{inside}</box>'
    )


def track(number, *boxes, label="person", more=""):
    return f'<track id="{number}" label="{label}" {more}>{"".join(boxes)}</track>'


def test_cvat_tracks_are_seen_once_a_second_and_between_their_boxes(tmp_path):
    rows = read(
        tmp_path,
        cvat(
            track(3, box(5, 0, act="walk, talk"), box(15, 20, act="walk"), box(21, 26, outside=1)),
            track(4, box(10, 100, walk="true", talk="false"), box(11, 100, outside=1)),
            track(5, box(2, 100, act="walk")),
        ),
    )
    assert rows == [
        # Half way from 0 to 20 pixels of 200; the attributes are those of the box before.
        ActionBox("day one", 1.0, (0.05, 0.1, 0.15, 0.6), ("walk", "talk"), 3),
        # The person has left at frame 21, so it stays where frame 15 has it.
        ActionBox("day one", 2.0, (0.1, 0.1, 0.2, 0.6), ("walk",), 3),
        ActionBox("day one", 1.0, (0.5, 0.1, 0.6, 0.6), ("walk",), 4),
    ]


def test_cvat_exports_of_projects_name_the_movie_of_each_track(tmp_path):
    tasks = "".join(
        f"<task><id>{k}</id><source>m{k}.mp4</source><original_size><width>400</width>"
        "<height>100</height></original_size></task>"
        for k in (1, 2)
    )
    rows = read(
        tmp_path,
        cvat(
            track(0, box(0, 40), label="run", more='task_id="2"'),
            track(1, box(0, 80), label="sit", more='task_id="1"'),
            meta=f"<project><tasks>{tasks}</tasks></project>",
        ),
    )
    # Without attributes the label is the action.
    assert [(row.video, row.actions, row.box_norm[0]) for row in rows] == [
        ("m2", ("run",), 0.1),
        ("m1", ("sit",), 0.2),
    ]
    assert len(read(tmp_path, cvat(track(0, box(0, 0), box(20, 0))), rate=2)) == 5


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<annotations><image/></annotations>", "CVAT for video 1.1"),
        ("<annotations><track", "not XML"),
        (cvat(track(0, box(0, 0)), meta=""), "which movie"),
        (cvat(track(0, box(0, 300))), "outside the picture of 200x100"),
        (cvat(track(0, box(3, 0))), "no track has a box at a multiple of 1 s"),
        (
            cvat('<track id="0" label="x"><box frame="0" xtl="1"/></track>'),
            "track 0, frame 0: a box has no 'ytl'",
        ),
        (cvat('<track id="0" label="x"><box xtl="1"/></track>'), "track 0: a box has no 'frame'"),
        (cvat(track("x", box(0, 0))), 'track x: id: "x" is not a number'),
        (cvat(track(0, box("x", 0))), 'track 0: frame: "x" is not a number'),
        (cvat(track(0, box(0, 0), box(10**12, 0))), "track 0: frame 1000000000000 is in no movie"),
        (
            cvat(track(0, box(0, 0).replace('xtl="0"', 'xtl="a"'))),
            'frame 0: xtl: "a" is not a number',
        ),
        (
            cvat(
                track(0, box(0, 0)),
                meta="<task><source>m</source><original_size><width>0</width><height>9</height>"
                "</original_size></task>",
            ),
            "original_size of m: 0x9 pixels",
        ),
        ('<!DOCTYPE a [<!ENTITY b "c">]><annotations>&b;</annotations>', "document type"),
    ],
)
def test_wrong_cvat_files_say_what_is_wrong(tmp_path, text, words):
    with pytest.raises(UserError, match=words):
        read(tmp_path, text)


def test_more_keyframes_than_frames_are_refused(tmp_path):
    with pytest.raises(UserError, match="--rate 11: day one has only 10 frames per second"):
        read(tmp_path, cvat(track(0, box(0, 0))), rate=11)


COCO = {
    "categories": [{"id": 1, "name": "walk"}, {"id": 4, "name": "wave"}],
    "videos": [{"id": 9, "name": "beach.mp4"}],
    "images": [
        {"id": 1, "width": 100, "height": 50, "video_id": 9, "frame_id": 25},
        {"id": 2, "width": 100, "height": 50, "file_name": "park/frame_000031.jpg"},
        {"id": 3, "width": 100, "height": 50, "file_name": "x.jpg", "video": "y", "second": 4},
    ],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 10, 20, 20], "track_id": 6},
        {"id": 2, "image_id": 1, "category_id": 4, "bbox": [10, 10, 20, 20], "track_id": 6},
        {"id": 3, "image_id": 2, "category_id": 4, "bbox": [-5, 0, 105, 50]},
        {
            "id": 4,
            "image_id": 3,
            "category_id": 1,
            "bbox": [0, 0, 50, 50],
            "attributes": {"occluded": True, "rotation": 0.0},
        },
    ],
}


def test_coco_json_of_videos_and_of_frames(tmp_path):
    assert read(tmp_path, COCO, first_frame=1) == [
        ActionBox("beach", 2.5, (0.1, 0.2, 0.3, 0.6), ("walk", "wave"), 6),
        ActionBox("park", 3.0, (0.0, 0.0, 1.0, 1.0), ("wave",)),
        ActionBox("y", 4.0, (0.0, 0.0, 0.5, 1.0), ("walk",)),
    ]


@pytest.mark.parametrize(
    ("place", "change", "words"),
    [
        (0, {"image_id": 5}, "annotation 1: there is no image 5"),
        (1, {"category_id": 2}, "annotation 2: there is no category 2"),
        (2, {"bbox": [0, 0, 0, 5]}, "annotation 3: the box .* is empty or inverted"),
        (2, {"bbox": [0, float("nan"), 5, 5]}, "annotation 3: bbox: NaN is not a number"),
        (2, {"bbox": [0, "x", 5, 5]}, 'annotation 3: bbox: "x" is not a number'),
        (2, {"bbox": [0, 5, 5]}, "annotation 3: bbox has 3 numbers; it needs x, y, width, height"),
        (3, {"bbox": None}, "annotation 4: bbox: null is not a list"),
        (3, {"image_id": [1]}, r"annotation 4: image_id: \[1\] is not an id"),
        (3, {"attributes": 7}, "annotation 4: attributes: 7 is not an object"),
        (3, {"track_id": 1.5}, "annotation 4: track_id: 1.5 is not a whole number"),
    ],
)
def test_wrong_coco_json_says_where(tmp_path, place, change, words):
    content = json.loads(json.dumps(COCO))
    content["annotations"][place].update(change)
    with pytest.raises(UserError, match=words):
        read(tmp_path, content)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("annotations", 3, "annotations: 3 is not a list"),
        ("annotations", [None], "annotation number 1: null is not an object"),
        ("annotations", [{}], "annotation number 1: has no 'image_id'; complete it"),
        ("categories", [{"id": 1}], "category 1: has no 'name'"),
        ("categories", [{"id": 1, "name": None}], "category 1: name: null is not a name"),
        ("categories", 2 * [{"id": 1, "name": "a"}], "category 1: this id stands twice"),
        ("images", [{"id": 1, "width": 1, "file_name": "a/1.jpg"}], "image 1: has no 'height'"),
        (
            "images",
            [{"id": 1, "width": float("inf"), "height": 2, "file_name": "a/1.jpg"}],
            "image 1: width: Infinity is not a number",
        ),
        (
            "images",
            [{"id": 1, "width": 0, "height": 2, "file_name": "a/1.jpg"}],
            "image 1: a picture of 0x2 pixels",
        ),
        ("images", [{"id": 1, "file_name": "a/1.jpg", "frame_id": -3}], "before the movie"),
    ],
)
def test_wrong_tables_of_coco_json_say_where(tmp_path, key, value, words):
    with pytest.raises(UserError, match=words):
        read(tmp_path, {**COCO, key: value})


def test_json_of_endless_numbers_is_refused(tmp_path):
    with pytest.raises(UserError, match="numbers too long"):
        read(tmp_path, '{"images": ' + 5000 * "1" + "}")


VIA = {
    "project": {"pname": "x"},
    "config": {},
    "attribute": {
        "1": {"aname": "act", "type": 2, "options": {"0": "walk", "1": "wave"}},
        "2": {"aname": "note", "type": 1, "options": {}},
    },
    "file": {
        "1": {"fid": "1", "fname": "beach.mp4", "type": 4},
        "2": {"fid": "2", "fname": "park/00021.jpg", "type": 2},
    },
    "view": {"1": {"fid_list": ["1"]}, "2": {"fid_list": ["2"]}},
    "metadata": {
        "1_a": {"vid": "1", "z": [3.0], "xy": [2, 20, 10, 40, 50], "av": {"1": "0,1"}},
        "1_b": {"vid": "1", "z": [1.0, 2.0], "xy": [], "av": {"1": "0"}},
        "2_c": {"vid": "2", "z": [], "xy": [2, 0, 0, 200, 100], "av": {"1": "", "2": "hop"}},
    },
}


def test_via_projects_of_movies_and_of_frames(tmp_path):
    assert read(tmp_path, VIA, first_frame=1) == [
        ActionBox("beach", 3.0, (0.1, 0.1, 0.3, 0.6), ("walk", "wave")),
        ActionBox("park", 2.0, (0.0, 0.0, 1.0, 1.0), ("hop",)),
    ]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"av": {"1": "7"}}, "attribute 'act' has no option '7'"),
        ({"av": {"9": "0"}}, "metadata 1_a: has no '9'"),
        ({"av": 4}, "metadata 1_a: av: 4 is not an object"),
        ({"vid": "8"}, "metadata 1_a: view 8 is not in the file"),
        ({"z": []}, r"metadata 1_a: has no second \(z\)"),
        ({"z": ["x"]}, 'metadata 1_a: z: "x" is not a number'),
        ({"z": [-1]}, "metadata 1_a: second -1 is before the movie"),
        ({"xy": [2, 1, 1]}, "metadata 1_a: xy has 3 numbers; a rectangle needs 5"),
        ({"xy": 5}, "metadata 1_a: xy: 5 is not a list"),
        ({"xy": [2, 500, 0, 5, 5]}, "outside the picture"),
    ],
)
def test_wrong_via_projects_say_where(tmp_path, change, words):
    content = json.loads(json.dumps(VIA))
    content["metadata"]["1_a"].update(change)
    with pytest.raises(UserError, match=words):
        read(tmp_path, content)


@pytest.mark.parametrize("content", ["", "[]", "{}", "{", "[" * 100_000, '{"images": 1}'])
def test_what_is_no_annotation_file_is_refused(tmp_path, content):
    with pytest.raises(UserError, match=r"annotations(:1)?: ") as caught:
        read(tmp_path, content)
    assert "Error" not in str(caught.value)


def test_files_that_cannot_be_read_say_what_to_do(tmp_path):
    path = tmp_path / "export"
    for content, words in (
        (b"PK\x05\x06" + bytes(18), "is a zip archive; unpack it"),
        (b"{}\n\xff", ":2: cannot be read as annotations: not UTF-8 text"),
        (b" \n", "is empty; export it again"),
    ):
        path.write_bytes(content)
        with pytest.raises(UserError, match=words):
            read_annotations(path, Movies())
    with pytest.raises(UserError, match="is a folder"):
        read_annotations(tmp_path, Movies())
    with pytest.raises(UserError, match="no such file"):
        read_annotations(tmp_path / "none", Movies())


def test_labels_attributes_and_frame_names():
    assert actions_of("walk", {}) == ("walk",)
    assert actions_of("walk", {"occluded": False, "score": 3}) == ("walk",)
    assert actions_of("person", {"walk": True, "run": False}) == ("walk",)
    assert actions_of("person", {"a": "run,sit", "b": "none", "c": "run"}) == ("run", "sit")
    assert frame_of("a/b_00012.jpg", "") == ("a", 12)
    assert frame_of("b_00012.jpg", "") == ("b", 12)
    assert frame_of("a\\00012.jpg", "") == ("a", 12)
    with pytest.raises(UserError, match="does not tell movie and frame"):
        frame_of("b.jpg", "here")


def test_what_is_written_is_read_back_as_avas(tmp_path):
    rows = [
        ActionBox("b", 3.5, (0.1, 0.2, 0.3, 0.4), ("wave", "run"), 2),
        ActionBox("a", 2.0, (0.5, 0.5, 1.0, 1.0), (), 1),
        ActionBox("c", 1.0, (0.0, 0.0, 0.5, 0.5), ("run",)),
    ]
    assert write_ava(rows, tmp_path, ["c"]).names == ("run", "wave")
    classes = read_label_map(tmp_path / "classes.pbtxt")
    table = read_groundtruth(tmp_path / "train.csv", classes)
    assert [str(each) for each in table.keyframes()] == ["a@2s", "b@3.5s"]
    assert table.first_label.tolist() == [0, 0, 2]
    assert table.labels.tolist() == [0, 1]
    assert len(read_groundtruth(tmp_path / "val.csv", classes)) == 1
    with pytest.raises(UserError, match="no boxes of d; there are: a, b, c"):
        write_ava(rows, tmp_path / "other", ["d"])
    with pytest.raises(UserError, match="no actions"):
        write_ava(rows[1:2], tmp_path / "other")
    with pytest.raises(UserError, match="none is left"):
        write_ava(rows, tmp_path / "other", ["a", "b", "c"])
    with pytest.raises(UserError, match="cannot hold commas"):
        write_ava([ActionBox("a, b", 0.0, (0.0, 0.0, 1.0, 1.0), ("run",))], tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_the_command_measures_the_movies_and_says_how_to_train(tmp_path, capsys):
    import numpy as np

    (tmp_path / "movies").mkdir()
    with VideoWriter(tmp_path / "movies" / "beach.mp4", width=64, height=32, fps=10) as movie:
        for _ in range(20):
            movie.write(np.zeros((32, 64, 3), np.uint8))
    content = {**VIA, "metadata": {"1_a": {**VIA["metadata"]["1_a"], "xy": [2, 16, 8, 16, 8]}}}
    (tmp_path / "via.json").write_text(json.dumps(content))
    words = ["prepare", "annotations", str(tmp_path / "via.json")]
    words += ["--movies", str(tmp_path / "movies"), "--out", str(tmp_path / "out")]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "1 keyframes, 1 people, 2 labels of 2 classes: walk, wave" in printed
    assert f"data.label_map={tmp_path / 'out'}/classes.pbtxt" in printed
    table = read_groundtruth(tmp_path / "out" / "train.csv", None)
    assert table.boxes_norm.tolist() == [[0.25, 0.25, 0.5, 0.5]]
    (tmp_path / "movies" / "beach.mp4").unlink()
    assert main(words) == 2
    assert "beach: no movie of this name" in capsys.readouterr().err
