"""Lists of labelled clips in the forms that data sets are published in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from avadet.data.clip_lists import folder_classes, read_clips
from avadet.data.clip_scan import scan_clips
from avadet.data.draws import Draw
from avadet.data.kinetics import ClipDataset
from avadet.data.label_map import read_label_map
from avadet.data.transforms import TrainPolicy
from avadet.errors import UserError


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_plain_lists(tmp_path):
    path = tmp_path / "list.csv"
    write(path, "some clip.mp4,0\n\nb.mp4,1\n")
    assert read_clips(path).clips == [("some clip.mp4", 0), ("b.mp4", 1)]
    assert read_clips(path).root == tmp_path
    write(path, "folder/a.mp4 3\n")
    assert read_clips(path, root="/clips").clips == [("folder/a.mp4", 3)]
    write(path, '\ufeff"a, b.mp4",walk\r\n')
    assert read_clips(path, ["run", "walk"]).clips == [("a, b.mp4", 1)]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a.mp4,jump\n", "list.csv:1: label 'jump' is neither"),
        ("a.mp4,2\n", "list.csv:1: label '2' is neither"),
        ("a.mp4,walk\na.mp4\n", "list.csv:2: expected 'path,label'"),
        (",walk\n", "list.csv:1: expected 'path,label'"),
        ("", "lists no clips"),
    ],
)
def test_wrong_rows_are_named(tmp_path, text, reason):
    with pytest.raises(UserError) as caught:
        read_clips(write(tmp_path / "list.csv", text), ["run", "walk"])
    assert reason in str(caught.value)


def test_labels_without_a_class_list_are_indices(tmp_path):
    with pytest.raises(UserError, match="give the class list"):
        read_clips(write(tmp_path / "list.csv", "a.mp4,walk\n"))


KINETICS = """\
label,youtube_id,time_start,time_end,split
"riding a bike",aaaaaaaaaaa,5,15,train
abseiling,-bbbbbbbbbb,100,110,train
abseiling,ccccccccccc,0,10,train
"""


def test_kinetics_lists_find_files_by_their_official_names(tmp_path):
    write(tmp_path / "clips/riding a bike/aaaaaaaaaaa_000005_000015.mp4", "")
    write(tmp_path / "clips/-bbbbbbbbbb.mkv", "")
    path = write(tmp_path / "train.csv", KINETICS)
    names = ["abseiling", "riding a bike"]
    assert read_clips(path, names, root=tmp_path / "clips").clips == [
        ("riding a bike/aaaaaaaaaaa_000005_000015.mp4", 1),
        ("-bbbbbbbbbb.mkv", 0),
        ("ccccccccccc_000000_000010.mp4", 0),
    ]
    write(path, KINETICS.replace("100,110", "100,"))
    with pytest.raises(UserError, match=r"train\.csv:3: time_start or time_end"):
        read_clips(path, names)
    write(path, KINETICS.replace("abseiling,ccc", "absailing,ccc"))
    with pytest.raises(UserError, match=r"train\.csv:4: label 'absailing'"):
        read_clips(path, names)


def test_ucf101_counts_from_one_and_its_test_lists_have_no_labels(tmp_path):
    classes = read_label_map(write(tmp_path / "classInd.txt", "1 ApplyLipstick\n2 Archery\n"))
    assert classes.names == ("ApplyLipstick", "Archery")
    train = "Archery/v_Archery_g01_c01.avi 2\nApplyLipstick/v_g01.avi 1\n"
    path = write(tmp_path / "trainlist01.txt", train)
    want = [("Archery/v_Archery_g01_c01.avi", 1), ("ApplyLipstick/v_g01.avi", 0)]
    assert read_clips(path, classes.names).clips == want
    path = write(tmp_path / "testlist01.txt", "Archery/v.avi\n")
    assert read_clips(path, classes.names).clips == [("Archery/v.avi", 1)]
    path = write(tmp_path / "other.txt", "ApplyLipstick/v.avi 9\n")
    with pytest.raises(UserError, match="label 9 is not class 0 of the folder 'ApplyLipstick'"):
        read_clips(path, classes.names)


def test_hmdb51_splits(tmp_path):
    write(tmp_path / "splits/run_test_split1.txt", "a b.avi 1 \nc.avi 2 \nd.avi 0 \n")
    write(tmp_path / "splits/sit_down_test_split1.txt", "e.avi 1\n")
    pattern = str(tmp_path / "splits/*_test_split1.txt")
    train = read_clips(pattern, ["run", "sit down"], root=tmp_path, train=True)
    assert train.clips == [("run/a b.avi", 0), ("sit_down/e.avi", 1)]
    assert read_clips(pattern, ["run", "sit down"]).clips == [("run/c.avi", 0)]
    write(tmp_path / "splits/run_test_split1.txt", "a.avi 3\n")
    with pytest.raises(UserError, match=r"run_test_split1\.txt:1: expected 'file 0'"):
        read_clips(pattern)
    with pytest.raises(UserError, match="no file fits"):
        read_clips(str(tmp_path / "none*"))


def test_something_something(tmp_path):
    labels = {"Holding something": "0", "Putting something into something": "1"}
    classes = read_label_map(write(tmp_path / "labels.json", json.dumps(labels)))
    rows = [{"id": "7", "template": "Putting [something] into [something]"}]
    path = write(tmp_path / "train.json", json.dumps(rows))
    assert read_clips(path, classes.names).clips == [("7.webm", 1)]
    with pytest.raises(UserError, match="id 7: label"):
        read_clips(path, classes.names[:1])
    for text in ("[1]", "{}x", '[{"template": "a"}]'):
        with pytest.raises(UserError, match="expected a list of objects"):
            read_clips(write(path, text), classes.names)


def test_folders_of_classes(tmp_path):
    for name in ("walk/b.mp4", "walk/a.avi", "walk/notes.txt", "run fast/c.mp4"):
        write(tmp_path / "clips" / name, "")
    found = read_clips(tmp_path / "clips")
    assert folder_classes(tmp_path / "clips") == ("run fast", "walk")
    assert found.clips == [("run fast/c.mp4", 0), ("walk/a.avi", 1), ("walk/b.mp4", 1)]
    assert read_clips(tmp_path / "clips", ["walk", "run_fast"]).clips[0] == ("run fast/c.mp4", 1)
    with pytest.raises(UserError, match="walk: the folder is none of the classes"):
        read_clips(tmp_path / "clips", ["run fast"])
    with pytest.raises(UserError, match="holds no folders"):
        read_clips(tmp_path / "clips" / "walk")


def test_a_scan_lists_what_cannot_be_read_and_remembers(tmp_path, small_ava, monkeypatch):
    folder = tmp_path / "clips"
    folder.mkdir()
    (folder / "good.mp4").write_bytes((small_ava.folder / "a.mp4").read_bytes())
    write(folder / "text.mp4", "hello")
    write(folder / "empty.mp4", "")
    record = tmp_path / "run" / "scan.0.jsonl"
    names = ["good.mp4", "text.mp4", "empty.mp4", "gone.mp4"]
    paths = {name: folder / name for name in names}
    found = scan_clips(paths, record)
    assert sorted(found) == ["empty.mp4", "gone.mp4", "text.mp4"]
    assert found["gone.mp4"] == "missing"
    assert "text.mp4" in found["text.mp4"]
    # A killed process may leave half a line.
    with record.open("a") as notes:
        notes.write('["x.mp4", [')
    looked_at: list[str] = []
    real = __import__("avadet.data.clip_scan", fromlist=["_reason"])._reason
    monkeypatch.setattr(
        "avadet.data.clip_scan._reason", lambda path: looked_at.append(path.name) or real(path)
    )
    assert scan_clips(paths, record) == found
    assert looked_at == []
    # Another process of the same run believes these notes; a file that changed is seen again.
    (folder / "text.mp4").write_bytes((small_ava.folder / "b.mp4").read_bytes())
    assert sorted(scan_clips(paths, tmp_path / "run" / "scan.1.jsonl")) == [
        "empty.mp4",
        "gone.mp4",
    ]
    assert looked_at == ["text.mp4"]


def test_unreadable_clips_are_replaced_by_the_same_others(tmp_path, small_ava, caplog):
    for name in ("a", "b"):
        (tmp_path / f"{name}.mp4").write_bytes((small_ava.folder / f"{name}.mp4").read_bytes())
    write(tmp_path / "bad.mp4", "hello")
    path = write(tmp_path / "list.csv", "bad.mp4,0\na.mp4,1\nb.mp4,2\n")
    values = {"train": True, "num_frames": 4, "policy": TrainPolicy((40, 40), crop=32)}
    dataset = ClipDataset(path, **values, replace_unreadable=True)
    first = dataset[Draw(0, 3)]
    assert first.name in ("a.mp4", "b.mp4")
    again = ClipDataset(path, **values, replace_unreadable=True)[Draw(0, 3)]
    assert (again.name, again.label) == (first.name, first.label)
    assert again.video.equal(first.video)
    dataset[Draw(0, 4)]
    assert sum("bad.mp4" in record.message for record in caplog.records) == 2
    with pytest.raises(UserError, match=r"bad\.mp4"):
        ClipDataset(path, **values)[0]
    kept = ClipDataset(path, **values, left_out={"bad.mp4"})
    assert [name for name, _ in kept.clips] == ["a.mp4", "b.mp4"]
    assert "2 clips (1 more cannot be read)" in kept.summary()
    with pytest.raises(UserError, match="none of the 3 clips"):
        ClipDataset(path, left_out={"a.mp4", "b.mp4", "bad.mp4"})
    write(path, "bad.mp4,0\n")
    with pytest.raises(UserError, match="10 clips in a row cannot be read"):
        ClipDataset(path, **values, replace_unreadable=True)[0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a.mp4," + 200_000 * "x", ":1: no line of CSV"),
        ("\na.mp4," + 5000 * "1", ":2: label '1+' is not an index"),
        ("a.mp4,\u00b2", ":1: label '\u00b2' is not an index"),
        ("label,youtube_id,time_start,time_end,split\nrun,x,inf,2,train", ":2: time_start or"),
        ("label,youtube_id,time_start,time_end,split\n\nrun,x,1", ":3: time_start or"),
        ("label,youtube_id\nrun," + 200_000 * "x", ":2: no line of CSV"),
    ],
)
def test_hostile_lists_are_told_by_line(tmp_path, text, words):
    with pytest.raises(UserError, match=words):
        read_clips(write(tmp_path / "list.csv", text), None if "run" not in text else ["run"])


def test_lists_that_are_no_text(tmp_path):
    path = tmp_path / "list.csv"
    path.write_bytes(b"a.mp4,0\nb\xff.mp4,1\n")
    with pytest.raises(UserError, match=r"list\.csv:2: cannot be read as a list.*: not UTF-8"):
        read_clips(path)
    with pytest.raises(UserError, match=r"none\.csv: cannot be read.*: No such file or directory$"):
        read_clips(tmp_path / "none.csv")


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path):
    (tmp_path / "names.txt").write_text("run\nwalk\n", encoding="utf-8-sig")
    assert read_label_map(tmp_path / "names.txt").names == ("run", "walk")
    write(tmp_path / "list.csv", "a.mp4,run\n")
    dataset = ClipDataset(tmp_path / "list.csv", classes=tmp_path / "names.txt")
    assert dataset.clips == [("a.mp4", 0)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"run": Infinity}', "expected a JSON object of names"),
        ('{"run": 1.5}', "expected a JSON object of names"),
        ('item {\n name: "a"\n id: 2000000000\n}', ":1: a class id above 1000000"),
        ('item { name: "a" id: ' + 5000 * "9" + " }", ":1: a class id above"),
        ("1,run\n" + 5000 * "9" + ",walk", ":2: a class id above"),
        ("1,run\n2," + 200_000 * "x", ":2: no line of CSV"),
        ("1,run\n\u00b2,walk", ":2: expected 'id,name'"),
    ],
)
def test_hostile_class_lists_are_told(tmp_path, text, words):
    with pytest.raises(UserError, match=words):
        read_label_map(write(tmp_path / "classes", text))
