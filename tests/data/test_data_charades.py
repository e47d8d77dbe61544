"""Charades: annotation files, what a clip shows, views and points; by hand on drawn movies."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from avadet.data.charades import CharadesDataset, during
from avadet.data.draws import Draw
from avadet.data.frame_labels import read_frame_labels
from avadet.data.loader import build_loader
from avadet.data.transforms import TrainPolicy
from avadet.errors import UserError
from avadet.evaluation.charades_io import CharadesVideo, read_classes, read_groundtruth
from avadet.video.reader import VideoReader
from avadet.video.sampling import clip_seconds, random_strided_seconds, strided_view_seconds

HEADER = "id,subject,scene,quality,relevance,verified,script,objects,descriptions,actions,length"


def row(name: str, actions: str, length: str = "8.00") -> str:
    return f'{name},S,Kitchen,6,7,Yes,"One walks, then sits.",chair,"A, b;c",{actions},{length}'


@pytest.fixture
def annotations(tmp_path: Path) -> Path:
    path = tmp_path / "Charades_v1_train.csv"
    path.write_text("\n".join([HEADER, row("a", "c002 1.00 3.00;c000 6.50 8.00"), row("b", "")]))
    return path


def make(small_ava, annotations, **arguments) -> CharadesDataset:
    values = {"num_classes": 3, "num_frames": 4, "frame_stride": 4, "test_short_side": 36}
    return CharadesDataset(small_ava.folder, annotations, **{**values, **arguments})


# Annotation files --------------------------------------------------------------------------------


def test_rows_of_the_official_file(annotations: Path) -> None:
    first, second = read_groundtruth(annotations, 3)
    assert first == CharadesVideo("a", 8.0, ((2, 1.0, 3.0), (0, 6.5, 8.0)))
    assert second.actions == ()
    text = annotations.read_text()
    annotations.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert read_groundtruth(annotations, 3) == [first, second]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"csv:1: no column 'id'"),
        (HEADER, r"csv: no video in the file"),
        ("id,length\na,3", r"csv:1: no column 'actions'"),
        (f"{HEADER}\n{row('a', 'c003 1 2')}", r"csv:2: c003 lies outside c000..c002"),
        (f"{HEADER}\n{row('a', 'c001 1')}", r"csv:2: actions must look like .* not 'c001 1'"),
        (f"{HEADER}\n{row('a', 'c001 x 2')}", r"csv:2: actions must look like"),
        (f"{HEADER}\n{row('a', 'c001 nan 2')}", r"csv:2: .* times are seconds from 0 on"),
        (f"{HEADER}\n{row('a', 'c001 -1 2')}", r"csv:2: .* times are seconds from 0 on"),
        (f"{HEADER}\n{row('a', '12 1 2')}", r"csv:2: actions must look like"),
        (f"{HEADER}\n{row('a', '')}\n{row('a', '')}", r"csv:3: video a stood in line 2 already"),
        (f"{HEADER}\n{row('a', '', 'long')}", r"csv:2: length 'long'"),
        (f"{HEADER}\n{row('a', '', '-3')}", r"csv:2: length '-3'"),
        (f"{HEADER}\na,b,c", r"csv:2: 3 fields, but the header names 11"),
        (f"{HEADER}\n{row('', '')}", r"csv:2: '' is no video id"),
        (f"{HEADER}\n{row('a', '')},more", r"csv:2: 12 fields"),
    ],
)
def test_hostile_rows_give_one_message(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "c.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        read_groundtruth(path, 3)
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_bytes(b"id,actions\n\xff\xfe\x00")
    with pytest.raises(UserError, match=r"c\.csv:\d: not UTF-8 text; is this a CSV file of Char"):
        read_groundtruth(path)
    with pytest.raises(UserError, match="cannot read: No such file"):
        read_groundtruth(tmp_path / "none.csv")


def test_class_names(tmp_path: Path) -> None:
    path = tmp_path / "classes.txt"
    path.write_text("c000 Sitting still\nc001  Jumping\r\n")
    assert read_classes(path) == ("c000 Sitting still", "c001 Jumping")
    path.write_text("c000 Sitting still\nc002 Jumping\n")
    with pytest.raises(UserError, match=r"classes\.txt:2: expected class c001"):
        read_classes(path)
    path.write_text("\n")
    with pytest.raises(UserError, match="holds no classes"):
        read_classes(path)


@pytest.mark.skipif(
    "CHARADES_ANNOTATIONS" not in os.environ,
    reason="CHARADES_ANNOTATIONS names no folder with the official files",
)
def test_the_official_files_parse_completely() -> None:
    folder = Path(os.environ["CHARADES_ANNOTATIONS"])
    training = read_groundtruth(folder / "Charades_v1_train.csv")
    test = read_groundtruth(folder / "Charades_v1_test.csv")
    assert (len(training), len(test)) == (7985, 1863)
    assert sum(not video.actions for video in test) == 49
    for videos in (training, test):
        assert {label for video in videos for label, _, _ in video.actions} == set(range(157))
        assert all(video.length > 0 for video in videos)
    assert len(read_classes(folder / "Charades_v1_classes.txt")) == 157


# Clips -------------------------------------------------------------------------------------------


def test_an_action_counts_from_its_first_moment_to_its_last() -> None:
    video = CharadesVideo("v", 9.0, ((0, 1.0, 2.0), (1, 4.0, 5.0), (2, 3.0, 2.5)))
    assert [a for a, _, _ in during(video, 2.0, 3.9).actions] == [0]
    assert [a for a, _, _ in during(video, 2.1, 4.0).actions] == [1]
    # The third ends before it starts: it covers nothing.
    assert [a for a, _, _ in during(video, 0.0, 9.0).actions] == [0, 1]
    assert during(video, 5.1, 9.0).actions == ()


def naive_frames(length, frames, rate, view=None, views=None, start=None):
    """PySlowFast's ``get_seq_frames``, in words: indices, clamped to the video."""
    span = (frames - 1) * rate + 1
    if start is None:
        start = round(max(length - span, 0) / (views - 1) * view)
    return [max(min(start + i * rate, length - 1), 0) for i in range(frames)]


@pytest.mark.parametrize("count", [1, 30, 61, 127, 128, 720, 733])
def test_views_are_those_of_pyslowfast(count: int) -> None:
    for view in range(10):
        times = strided_view_seconds(count / 24, 64, 2, view, 10, 24)
        assert np.rint(times * 24).astype(int).tolist() == naive_frames(count, 64, 2, view, 10)
    # All starts are reached, the first and the last too.
    slack = count - 127
    first = range(min(slack, 0), max(slack, 0) + 1)
    seen = set()
    for place in range(len(first)):
        times = random_strided_seconds(count / 24, 64, 2, (place + 0.5) / len(first), 24)
        expected = naive_frames(count, 64, 2, start=first[place])
        assert np.rint(times * 24).astype(int).tolist() == expected
        seen.add(tuple(expected))
    last = random_strided_seconds(count / 24, 64, 2, 1 - 1e-12, 24)
    assert np.rint(last * 24).astype(int).tolist() == naive_frames(count, 64, 2, start=first[-1])
    assert strided_view_seconds(count / 24, 64, 2, 0, 1, 24)[0] == max(slack, 0) // 2 / 24


def test_training_labels_are_those_of_the_clip(small_ava, annotations: Path) -> None:
    dataset = make(small_ava, annotations, train=True, policy=TrainPolicy((40, 48), crop=32))
    assert len(dataset) == 2
    kinds = set()
    for epoch in range(40):
        sample = dataset[Draw(0, epoch)]
        assert sample.video.shape == (3, 4, 32, 32)
        # The clip spans 13 points of 1/24 s; its first draw is the start.
        position = np.random.default_rng((0, epoch, 0, 0)).random()
        start = int(position * (192 - 13 + 1)) / 24
        end = start + 12 / 24
        expected = [float(end >= 6.5), 0.0, float(start <= 3.0 and end >= 1.0)]
        assert sample.labels.tolist() == expected
        kinds.add(tuple(expected))
    assert len(kinds) == 3
    assert dataset[Draw(1, 0)].labels.tolist() == [0, 0, 0]
    assert torch.equal(dataset[Draw(0, 3)].video, dataset[Draw(0, 3)].video)
    batch = next(build_loader(dataset, 2, train=True).epoch(0))
    assert batch.labels.shape == (2, 3)
    assert batch.labels.dtype == torch.float32
    pairs = dataset.label_pairs()
    assert [each.tolist() for each in pairs] == [[0, 0], [0, 2]]


def test_views_of_the_test(small_ava, annotations: Path) -> None:
    dataset = make(small_ava, annotations, temporal_views=2, spatial_crops=3)
    assert len(dataset) == 12
    assert dataset[11].labels.tolist() == [0, 0, 0]
    with VideoReader(small_ava.folder / "a.mp4") as reader:
        for view in range(6):
            sample = dataset[view]
            assert (sample.name, sample.view) == ("a", view)
            # Labels of the video, whatever the clip shows.
            assert sample.labels.tolist() == [1, 0, 1]
            times = strided_view_seconds(8.0, 4, 4, view // 3, 2, 24)
            frames = reader.read(times, short_side=36, fps=24).frames
            left = (0, 14, 28)[view % 3]
            expected = torch.from_numpy(frames[:, :, left : left + 36].copy())
            assert torch.equal(sample.video.permute(1, 2, 3, 0), expected)


def test_points_of_localisation(small_ava, annotations: Path) -> None:
    dataset = make(small_ava, annotations, localize=True, spatial_crops=1)
    assert len(dataset) == 50
    with VideoReader(small_ava.folder / "a.mp4") as reader:
        for point in (0, 7, 24):
            times = clip_seconds(point / 25 * 8.0, 4, 4, 24)
            frames = reader.read(times, short_side=36, fps=24).frames[:, :, 14:50]
            expected = torch.from_numpy(frames.copy())
            assert torch.equal(dataset[point].video.permute(1, 2, 3, 0), expected)
    annotations.write_text("id,actions\na,c001 1 2\n")
    with pytest.raises(UserError, match="video a has no length, which localisation needs"):
        make(small_ava, annotations, localize=True)


def test_missing_videos(small_ava, annotations: Path, caplog) -> None:
    with annotations.open("a") as stream:
        stream.write(f"\n{row('gone', 'c001 1.00 2.00')}\n")
    with pytest.raises(UserError, match=r"1 of 3 videos are missing: gone .*missing_movies"):
        make(small_ava, annotations)
    dataset = make(small_ava, annotations, missing="skip")
    assert [video.name for video in dataset.videos] == ["a", "b"]
    assert len(dataset.annotated) == 3
    assert "1 of 3 videos are missing" in caplog.text
    annotations.write_text(f"{HEADER}\n{row('gone', '')}\n")
    with pytest.raises(UserError, match="1 of 1 videos are missing"):
        make(small_ava, annotations, missing="skip")


def test_unreadable_videos_are_left_out_or_replaced(small_ava, annotations, tmp_path, caplog):
    folder = tmp_path / "movies"
    folder.mkdir()
    (folder / "a.mp4").write_bytes((small_ava.folder / "a.mp4").read_bytes())
    (folder / "b.mp4").write_text("not a movie")
    values = {"num_classes": 3, "num_frames": 4, "test_short_side": 36}
    training = CharadesDataset(folder, annotations, train=True, missing="skip", **values)
    assert [training[Draw(1, epoch)].name for epoch in range(3)] == ["a", "a", "a"]
    assert sum("b.mp4" in record.message for record in caplog.records) == 1
    with pytest.raises(UserError, match=r"b\.mp4"):
        CharadesDataset(folder, annotations, train=True, **values)[1]
    # A test never scores one video for another.
    with pytest.raises(UserError, match=r"b\.mp4"):
        CharadesDataset(folder, annotations, missing="skip", **values)[59]
    kept = CharadesDataset(folder, annotations, left_out={"b"}, **values)
    assert [video.name for video in kept.videos] == ["a"]
    assert len(kept.annotated) == 2
    assert "1 more cannot be read" in kept.summary()
    with pytest.raises(UserError, match="none of the 2 videos can be read"):
        CharadesDataset(folder, annotations, left_out={"a", "b"}, **values)


# Extracted frames --------------------------------------------------------------------------------


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    folder = tmp_path / "Charades_v1_rgb"
    for name, count in (("a", 192), ("b", 48)):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            shade = np.full((36, 64, 3), number, np.uint8)
            Image.fromarray(shade).save(folder / name / f"{name}-{number + 1:06d}.png")
    return folder


def test_frame_folders_at_24_per_second(frames: Path, annotations: Path) -> None:
    dataset = CharadesDataset(
        frames, annotations, num_classes=3, reader="frames", num_frames=4, frame_stride=4,
        temporal_views=2, spatial_crops=1, test_short_side=36,
    )  # fmt: skip
    assert dataset[0].video[0, :, 0, 0].tolist() == [0, 4, 8, 12]
    assert dataset[1].video[0, :, 0, 0].tolist() == [179, 183, 187, 191]


def test_frame_lists_carry_their_labels(frames: Path, tmp_path: Path) -> None:
    lines = ["original_vido_id video_id frame_id path labels"]
    for number in range(192):
        labels = "1,2" if 24 <= number < 72 else "1" if number == 72 or number >= 180 else ""
        lines.append(f'a 0 {number} a/a-{number + 1:06d}.png "{labels}"')
    path = tmp_path / "train.csv"
    path.write_text("\n".join(lines) + "\n")
    (video,) = read_frame_labels(path, 3, 24)
    assert video == CharadesVideo(
        "a", 8.0, ((1, 1.0, 72 / 24), (2, 1.0, 71 / 24), (1, 180 / 24, 191 / 24))
    )
    dataset = CharadesDataset(
        frames, path, num_classes=3, train=True, num_frames=4, frame_stride=4, test_short_side=36,
    )  # fmt: skip
    for epoch in range(30):
        sample = dataset[Draw(0, epoch)]
        first, last = sample.video[0, 0, 0, 0].item(), sample.video[0, -1, 0, 0].item()
        shown = [line.split('"')[1] for line in lines[1 + first : 2 + last]]
        named = {int(each) for text in shown if text for each in text.split(",")}
        assert sample.labels.nonzero()[:, 0].tolist() == sorted(named)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('a 0 0 a/1.jpg "7"', r"list\.csv:2: labels \"7\": classes are 0 to 2"),
        ('a 0 0 a/1.jpg "x"', r"list\.csv:2: labels \"x\" are not class indices"),
        ("a 0 0 a/1.jpg", r"list\.csv:2: 4 fields instead of the 5"),
        ("", r"list\.csv: lists no frames"),
    ],
)
def test_hostile_frame_lists(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "list.csv"
    path.write_text(f"original_vido_id video_id frame_id path labels\n{line}\n")
    with pytest.raises(UserError, match=message):
        CharadesDataset(tmp_path, path, num_classes=3)


def test_frames_that_are_torn_apart(frames: Path, tmp_path: Path) -> None:
    lines = ["original_vido_id video_id frame_id path labels"]
    lines += [f'{name} 0 0 {name}/{name}-000001.png ""' for name in ("a", "b", "a")]
    path = tmp_path / "train.csv"
    path.write_text("\n".join(lines))
    with pytest.raises(UserError, match=r"train\.csv: the frames of a do not follow one another"):
        CharadesDataset(frames, path, num_classes=3)
