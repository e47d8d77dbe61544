"""Extracted frames read as the movie."""

from __future__ import annotations

import numpy as np
import pytest
from painted_movies import paint, painted_number, painted_numbers
from PIL import Image

from avadet.errors import UserError
from avadet.video.frame_folder import FrameFolderReader, list_frames, resize_bilinear
from avadet.video.reader import VideoReader, open_video


@pytest.fixture
def folder(tmp_path):
    # Numbers without leading zeros: the order of names is not that of the frames.
    for number in range(12):
        Image.fromarray(paint(number)).save(tmp_path / f"img_{number + 1}.png")
    (tmp_path / "notes.txt").write_text("not a frame")
    return tmp_path


def test_reads_like_a_movie(folder):
    with open_video(folder) as reader:
        assert isinstance(reader, FrameFolderReader)
        assert (reader.height, reader.width, reader.duration) == (96, 192, 0.4)
        clip = reader.read(np.asarray([-2, 0, 5, 3, 11, 30]) / 30, short_side=48)
        assert painted_numbers(clip.frames) == [0, 0, 5, 3, 11, 11]
        assert clip.size == (48, 96)
        assert clip.seconds[2] == pytest.approx(5 / 30)
        window = reader.read(np.arange(12) / 30, window=(3 / 30, 6 / 30))
        assert painted_numbers(window.frames) == [3, 3, 3, 3, 4, 5, 5, 5, 5, 5, 5, 5]
        streamed = list(reader.stream([0.0, 0.1, 0.1], size=(20, 24)))
        assert [painted_number(frame) for _, frame in streamed] == [0, 3, 3]
    assert isinstance(open_video(folder / "movie.mp4"), VideoReader)


def test_frames_of_another_rate(folder):
    reader = FrameFolderReader(folder, fps=15)
    assert painted_numbers(reader.read(np.arange(8) / 30).frames) == [0, 1, 1, 2, 2, 3, 3, 4]


def test_a_list_of_files(folder):
    reader = FrameFolderReader(list_frames(folder)[4:8])
    assert painted_numbers(reader.read(np.arange(6) / 30).frames) == [4, 5, 6, 7, 7, 7]


def test_wrong_folders(folder, tmp_path):
    (folder / "img_3.png").write_bytes(b"broken")
    with pytest.raises(UserError, match=r"img_3\.png: cannot be read as an image"):
        FrameFolderReader(folder).read([2 / 30])
    with pytest.raises(UserError, match=r"gone\.png: this frame is missing"):
        FrameFolderReader([tmp_path / "gone.png"]).read([0])
    with pytest.raises(UserError, match="cannot be read as a folder"):
        FrameFolderReader(tmp_path / "none")
    with pytest.raises(UserError, match="empty"):
        FrameFolderReader([])


def test_bilinear_by_hand():
    # Halving without antialiasing, half-pixel centres: output pixel 0 lies between 0 and 1.
    row = np.repeat(np.asarray([[0, 10, 40, 90]], np.uint8), 2, axis=0)
    picture = np.repeat(row[..., None], 3, axis=2)
    assert resize_bilinear(picture, (1, 2))[0, :, 0].tolist() == [5, 65]
    # To a quarter: only the two pixels around each centre count.
    wide = np.repeat(np.arange(0, 80, 10, dtype=np.uint8)[None, :, None], 3, axis=2)
    assert resize_bilinear(wide, (1, 2))[0, :, 0].tolist() == [15, 55]
