"""Proposals on disk, labels by overlap, training pictures, COCO files, averaging."""

from __future__ import annotations

import contextlib
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from persons_drawn import DrawnPictures, write_movie
from PIL import Image

from avadet.errors import UserError
from avadet.persons import coco, pictures, proposals
from avadet.persons.base import PersonBoxes
from avadet.persons.ensemble import AveragedDetector, average
from avadet.structures import Keyframe

A, B = Keyframe("movie", 902.0), Keyframe("movie", 902.5)


def _some() -> proposals.Proposals:
    boxes = np.array([[0.1, 0.2, 0.5, 0.9], [0.5, 0.1, 0.75, 1.0]], np.float32)
    return proposals.Proposals(
        {A: boxes, B: boxes[:1]},
        {A: np.array([0.99, 0.5], np.float32), B: np.array([0.7], np.float32)},
        {"movie": (100, 200)},
    )


def _same(one: proposals.Proposals, other: proposals.Proposals, atol: float = 1e-6) -> None:
    assert sorted(one.boxes_norm) == sorted(other.boxes_norm)
    for keyframe, boxes in one.boxes_norm.items():
        np.testing.assert_allclose(other.boxes_norm[keyframe], boxes, atol=atol)
        np.testing.assert_allclose(other.scores[keyframe], one.scores[keyframe], atol=1e-6)


def test_csv_is_avas_layout(tmp_path: Path) -> None:
    path = tmp_path / "boxes.csv"
    proposals.write(path, _some(), "csv")
    assert path.read_text().splitlines() == [
        "movie,0902,0.1000,0.2000,0.5000,0.9000,,0.990000",
        "movie,0902,0.5000,0.1000,0.7500,1.0000,,0.500000",
        "movie,902.5,0.1000,0.2000,0.5000,0.9000,,0.700000",
    ]
    _same(_some(), proposals.read(path))


def test_dictionary_is_mmaction2s_and_its_pickle_is_read(tmp_path: Path) -> None:
    path = tmp_path / "boxes.npz"
    proposals.write(path, _some(), "npz")
    content = dict(np.load(path))
    assert sorted(content) == ["movie,0902", "movie,902.5"]
    assert content["movie,0902"].shape == (2, 5)
    _same(_some(), proposals.read(path))
    pickled = tmp_path / "boxes.pkl"
    with pickled.open("wb") as file:
        pickle.dump({name: table.astype(np.float64) for name, table in content.items()}, file)
    _same(_some(), proposals.read(pickled))


def test_evil_pickles_are_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self):
            return print, ("run",)

    path = tmp_path / "evil.pkl"
    path.write_bytes(pickle.dumps({"movie,0902": Evil()}))
    with pytest.raises(UserError, match="refused"):
        proposals.read(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"m,0001": "abc"}, "'m,0001' is not 'video,second' with numbers"),
        ({"m,0001": {"boxes": 1}}, "'m,0001' is not 'video,second' with numbers"),
        ({"m,0001": [[1, 2], [3]]}, "'m,0001' is not 'video,second' with numbers"),
        ({"m,first": np.zeros((1, 5))}, "'m,first' is not 'video,second' with numbers"),
        ({"m,0001": np.zeros((1, 6))}, r"shape \(1, 6\) is not"),
        ({5: np.zeros((1, 5))}, "entry '5'"),
        ({"m,nan": np.zeros((1, 5))}, "must be finite"),
        ({"m,0001": np.full((1, 5), np.nan)}, "must be finite"),
        ({"m,0001": np.full((1, 5), 300.0)}, "not pixels"),
        ([np.zeros((1, 5))], "a list"),
    ],
)
def test_wrong_dictionaries_are_named(tmp_path: Path, content: object, message: str) -> None:
    path = tmp_path / "boxes.pkl"
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(UserError, match=message):
        proposals.read(path)


def test_damaged_archives_are_named(tmp_path: Path) -> None:
    path = tmp_path / "boxes.npz"
    with path.open("wb") as file:
        np.save(file, np.zeros((1, 5)))
    with pytest.raises(UserError, match="not a proposals archive"):
        proposals.read(path)
    np.savez_compressed(path, **{"m,0001": np.arange(500, dtype=np.float32).reshape(-1, 5) / 500})
    whole = path.read_bytes()
    for place in range(0, len(whole), 7):
        damaged = bytearray(whole)
        damaged[place] ^= 255
        path.write_bytes(damaged)
        # Some bytes (dates, say) do not matter; the others must be told in words.
        with contextlib.suppress(UserError):
            assert proposals.read(path).num_boxes in (0, 100)


def test_movies_of_odd_names_come_back_from_every_format(tmp_path: Path) -> None:
    box, score = np.array([[0.1, 0.2, 0.5, 0.9]], np.float32), np.array([0.9], np.float32)
    names = ("a,b", 'say "hi"', "NA", "null", "0007", "1e3", "läuft")
    keyframes = [Keyframe(name, second) for name in names for second in (1.0, 2.5)]
    odd = proposals.Proposals(dict.fromkeys(keyframes, box), dict.fromkeys(keyframes, score), {})
    for suffix in ("csv", "npz"):
        proposals.write(tmp_path / f"odd.{suffix}", odd, suffix)
        _same(odd, proposals.read(tmp_path / f"odd.{suffix}"))


def test_coco_file_is_taken_by_pycocotools(tmp_path: Path) -> None:
    from pycocotools.coco import COCO

    path = tmp_path / "boxes.json"
    proposals.write(path, _some(), "coco")
    content = json.loads(path.read_text())
    assert content["images"][0]["width"] == 200
    np.testing.assert_allclose(content["annotations"][0]["bbox"], [20, 20, 80, 70], atol=1e-4)
    loaded = COCO(str(path))
    assert len(loaded.loadRes(content["annotations"]).anns) == 3
    with pytest.raises(UserError, match="frame size of 'movie' is not known"):
        proposals.write(path, proposals.Proposals(_some().boxes_norm, _some().scores, {}), "coco")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "movie,x,0,0,1,1,,1\n", "not rows of video"),
        ("a.csv", "movie,902,0,0,1\n", "5 columns, not rows of video"),
        ("a.csv", "movie,902,0,0,1,,,1\n", "line 1: a number is missing"),
        ("a.csv", "movie,902,0,0,1,1,,1\n,902,0,0,1,1,,1\n", "line 2: the video is missing"),
        # Wider than the layout, pandas would take the first column for an index.
        ("a.csv", "movie,902,0,0,1,1,,1,7\n", "9 columns, not rows of video"),
        ("a.csv", "movie,inf,0,0,1,1,,1\n", "line 1: numbers must be finite"),
        ("a.csv", "movie,902,0,0,320,240,,1\n", "normalised to 0..1 .*, not pixels"),
        ("a.csv", "movie,902,0,0,1,1,,1\nmovie,902,0,1,1,0,,1\n", "line 2: a box is inverted"),
        ("a.npz", "no archive", "not a proposals archive"),
        ("a.npz", "", "not a proposals archive"),
        ("none.csv", None, "no such proposals file"),
    ],
)
def test_bad_proposals_are_named(tmp_path: Path, name: str, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=message):
        proposals.read(tmp_path / name)


def test_an_inverted_box_of_a_dictionary_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, **{"movie,0902": np.array([[0.5, 0, 0.4, 1, 0.9]], np.float32)})
    with pytest.raises(UserError, match="entry 'movie,0902': a box is inverted"):
        proposals.read(path)


def test_formats_by_suffix() -> None:
    assert proposals.format_of("x.npz") == "npz"
    assert proposals.format_of("x.txt", "coco") == "coco"
    with pytest.raises(UserError, match="cannot tell the format"):
        proposals.format_of("x.txt")


def test_labels_are_taken_by_overlap(tmp_path: Path) -> None:
    truth_file = tmp_path / "gt.csv"
    truth_file.write_text(
        "movie,0902,0.1,0.2,0.5,0.89,12,0\n"
        "movie,0902,0.1,0.2,0.5,0.89,80,0\n"
        "movie,0902,0.6,0.1,0.75,1.0,11,1\n"
        "other,0902,0.5,0.1,0.75,1.0,11,1\n"
    )
    truth = proposals.read_labelled_truth(truth_file)
    found = _some()
    assigned = proposals.assign_labels(found, truth)
    # The second overlaps its true box by 0.6 only; the third keyframe has no ground truth.
    assert assigned == {A: [[12, 80], [-1]], B: [[-1]]}
    assert proposals.assign_labels(found, truth, 0.55)[A] == [[12, 80], [11]]
    path = tmp_path / "labelled.csv"
    assert proposals.write_csv(path, found, assigned) == 4
    assert path.read_text().splitlines()[:2] == [
        "movie,0902,0.1000,0.2000,0.5000,0.9000,12,0.990000",
        "movie,0902,0.1000,0.2000,0.5000,0.9000,80,0.990000",
    ]
    assert len(proposals.read(path).boxes_norm[A]) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no box with an action"),
        ("m,0001,0.1,0.1,0.5,0.9,,0.9\n", "holds no box with an action"),
        ("m,0001,0.1,0.1,0.5,0.9\n", "6 columns, not rows of"),
        ("m,0001,0.1,0.1,0.5,0.9,12,0,0\n", "9 columns, not rows of"),
        ("m,0001,0.1,,0.5,0.9,12,0\n", "line 1: a number is missing"),
        ("m,,0.1,0.1,0.5,0.9,12,0\n", "line 1: a number is missing"),
        ("m,0001,0.1,0.1,0.5,0.9,walk,0\n", "not rows of"),
        ("m,0001,0.1,0.1,0.5,0.9,12.5,0\n", "line 1: the action must be a whole number"),
        ("m,0001,0,0,1,1,1,0\nm,0001,0.1,0.1,0.5,0.9,-3,0\n", "line 2: the action must be"),
        ("m,0001,0.1,0.1,0.5,0.9,1e30,0\n", "line 1: the action must be"),
        ("m,0001,10,10,50,90,12,0\n", "not pixels"),
    ],
)
def test_bad_truth_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "gt.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        proposals.read_labelled_truth(path)
    with pytest.raises(UserError, match="cannot be read"):
        proposals.read_labelled_truth(tmp_path)


def test_truth_without_persons_or_with_empty_keyframes_is_read(tmp_path: Path) -> None:
    path = tmp_path / "gt.csv"
    path.write_text("NA,0001,0.1,0.1,0.5,0.9,12\n")
    assert proposals.read_labelled_truth(path)[Keyframe("NA", 1.0)][1] == [[12]]
    path.write_text("m,0001,,,,,,\nm,0002,0.1,0.1,0.5,0.9,12,0\n")
    assert list(proposals.read_labelled_truth(path)) == [Keyframe("m", 2.0)]


def test_truth_of_other_movies_is_refused_not_minus_one_everywhere() -> None:
    truth = {Keyframe("movie", 2.0): (np.array([[0, 0, 1, 1]], np.float32), [[12]])}
    with pytest.raises(UserError, match=r"movie@902s, movie@2s.*--movie-start"):
        proposals.assign_labels(_some(), truth)
    for bad in (0.0, 1.5, float("nan")):
        with pytest.raises(UserError, match="must be above 0"):
            proposals.assign_labels(_some(), {A: truth[Keyframe("movie", 2.0)]}, bad)
    assert proposals.assign_labels(proposals.Proposals({}, {}, {}), truth) == {}


def test_ava_truth_has_each_person_once(tmp_path: Path, shared: Path) -> None:
    path = shared / "data/ava/ava_val_v2.1_head27163.csv"
    truth = pictures.read_truth(path)
    assert len(truth) == 6470
    assert sum(map(len, truth.values())) == pytest.approx(6470 * 1.81, rel=0.01)
    labelled = proposals.read_labelled_truth(path)
    assert {k: len(v) for k, v in truth.items()} == {k: len(v[0]) for k, v in labelled.items()}
    assert sum(len(ids) for _, rows in labelled.values() for ids in rows) == 27163
    with pytest.raises(UserError, match="no such annotation file"):
        pictures.read_truth(tmp_path / "none.csv")


def test_movie_pictures_in_memory_and_on_demand(tmp_path: Path) -> None:
    movie = write_movie(tmp_path / "m.mp4", 4)
    truth = {
        Keyframe("m", 901.5): np.array([[0, 0, 0.5, 1]], np.float32),
        Keyframe("m", 903.5): np.zeros((0, 4), np.float32),
    }
    for in_memory in (True, False):
        source = pictures.MoviePictures(
            truth, {"m": movie}, movie_start=900, short_side=24, in_memory=in_memory
        )
        frame, boxes = source.picture(0)
        assert frame.shape == (24, 32, 3)
        assert abs(float(frame.mean()) - 30) < 3
        assert boxes.tolist() == [[0, 0, 16, 24]]
        assert abs(float(source.picture(1)[0].mean()) - 50) < 3
    with pytest.raises(UserError, match="no movie for 1 annotated videos, first 'm'"):
        pictures.MoviePictures(truth, {})


def test_augmentation_moves_boxes_along_and_repeats() -> None:
    source = DrawnPictures(16)
    data = pictures.TrainingPictures(source, short_sides=(48, 72), max_side=200, flip=0.5)
    flipped = 0
    for index in range(16):
        sample = data[index]
        assert torch.equal(sample.boxes_px, data[index].boxes_px)
        original, boxes = source.picture(index)
        factor = sample.frame.shape[0] / original.shape[0]
        mirrored = boxes.copy()
        mirrored[:, [0, 2]] = original.shape[1] - boxes[:, [2, 0]]
        is_flipped = not np.allclose(sample.boxes_px, boxes * factor, atol=1e-3)
        flipped += is_flipped
        np.testing.assert_allclose(
            sample.boxes_px, (mirrored if is_flipped else boxes) * factor, atol=1e-3
        )
        for x1, y1, x2, y2 in sample.boxes_px.round().int().tolist():
            # The person is bright, wherever it went.
            assert sample.frame[y1 + 2 : y2 - 2, x1 + 2 : x2 - 2].min() > 120
    assert 2 < flipped < 14
    before = [data[i].frame.shape for i in range(16)]
    data.set_epoch(1)
    assert before != [data[i].frame.shape for i in range(16)]


def test_coco_annotations_become_pictures(tmp_path: Path) -> None:
    Image.new("RGB", (40, 30), (9, 9, 9)).save(tmp_path / "a.png")
    content = {
        "images": [{"id": 7, "file_name": "a.png"}, {"id": 8, "file_name": "b.png"}],
        "categories": [{"id": 1, "name": "person"}, {"id": 2, "name": "dog"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 1, "bbox": [1, 2, 10, 20]},
            {"id": 2, "image_id": 7, "category_id": 2, "bbox": [1, 2, 10, 20]},
            {"id": 3, "image_id": 7, "category_id": 1, "bbox": [0, 0, 9, 9], "iscrowd": 1},
        ],
    }
    path = tmp_path / "people.json"
    path.write_text(json.dumps(content))
    source = pictures.FilePictures(coco.read_person_boxes(path, tmp_path))
    frame, boxes = source.picture(0)
    assert frame.shape == (30, 40, 3)
    assert boxes.tolist() == [[1, 2, 11, 22]]
    with pytest.raises(UserError, match=r"b\.png: cannot read this picture"):
        source.picture(1)
    content["categories"] = content["categories"][1:]
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="no category is called 'person'"):
        coco.read_person_boxes(path, tmp_path)
    path.write_text("[]")
    with pytest.raises(UserError, match="not a COCO annotation file"):
        coco.read_person_boxes(path, tmp_path)


def test_average_precision_by_hand() -> None:
    box = np.array([[0, 0, 10, 10]], np.float32)
    truth = {A: box, B: box}
    hit = PersonBoxes(box, np.array([0.9], np.float32))
    miss = PersonBoxes(box + 20, np.array([0.95], np.float32))
    assert coco.average_precision(truth, {A: hit, B: hit})["AP"] == pytest.approx(1.0)
    # Half of the people found, nothing false: 51 of the 101 recall points.
    assert coco.average_precision(truth, {A: hit})["AP50"] == pytest.approx(51 / 101)
    # A surer mistake before it halves the precision there.
    assert coco.average_precision(truth, {A: hit, B: miss})["AP50"] == pytest.approx(51 / 202)
    assert np.isnan(coco.average_precision({A: box[:0]}, {})["AP50"])


def _answer(rows: list[list[float]], scores: list[float]) -> PersonBoxes:
    boxes = np.asarray(rows, np.float32).reshape(-1, 4)
    return PersonBoxes(boxes, np.asarray(scores, np.float32))


def test_looks_are_averaged_over_all_looks() -> None:
    one = _answer([[0, 0, 10, 10], [50, 0, 60, 10]], [0.9, 0.4])
    two = _answer([[0, 0, 10, 12]], [0.3])
    both = average([one, two])
    np.testing.assert_allclose(both.scores, [0.6, 0.2])
    np.testing.assert_allclose(both.boxes_px[0], [0, 0, 10, 10.5])
    assert len(average([one, two], score_threshold=0.5)) == 1
    assert len(average([_answer([], []), _answer([], [])])) == 0


def test_mirrored_looks_come_back() -> None:
    class LeftEdge:
        """Sees the leftmost bright column and nothing else."""

        def detect(self, frames):
            answers = []
            for frame in frames:
                x = int(np.flatnonzero(frame.mean(axis=(0, 2)) > 100)[0])
                answers.append(_answer([[x, 0, x + 10, 20]], [0.8]))
            return answers

    frame = np.zeros((20, 100, 3), np.uint8)
    frame[:, 30:40] = 255
    [found] = AveragedDetector([LeftEdge(), LeftEdge()], flip=True).detect([frame])
    np.testing.assert_allclose(found.boxes_px, [[30, 0, 40, 20]])
    np.testing.assert_allclose(found.scores, [0.8])
