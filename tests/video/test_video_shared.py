"""Several streams over one pass: the pictures of streams alone, decoded once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from painted_movies import make_movie

from avadet.errors import UserError
from avadet.video.reader import VideoReader
from avadet.video.shared import SharedPass

COUNT = 120


@pytest.fixture(scope="module")
def movie(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_movie(tmp_path_factory.mktemp("shared") / "movie.mp4", COUNT, 24)


ASKS = [
    {"seconds_sorted": np.arange(COUNT) / 24, "size": (40, 90), "fps": 24.0},
    {"seconds_sorted": np.arange(10, 140, 2) / 30, "short_side": 48},
    {"seconds_sorted": [0.0, 1.0, 1.0, 2.0, 3.0, 9.0]},
]


def alone(movie: Path) -> tuple[list[list], int]:
    with VideoReader(movie) as reader:
        found = [list(reader.stream(**ask)) for ask in ASKS]
        return found, reader.frames_decoded


def assert_alike(got: list[tuple], wanted: list[tuple]) -> None:
    assert [second for second, _ in got] == [second for second, _ in wanted]
    for (_, one), (_, other) in zip(got, wanted):
        assert np.array_equal(one, other)


def test_one_after_another(movie):
    wanted, decoded = alone(movie)
    with VideoReader(movie) as reader:
        with SharedPass(reader) as shared:
            streams = [shared.stream(**ask) for ask in ASKS]
            for stream, pictures in zip(streams, wanted):
                assert_alike(list(stream), pictures)
        assert reader.frames_decoded == COUNT
    assert decoded > 2 * COUNT  # alone, each stream goes through the movie


def test_in_turns_and_from_threads(movie):
    wanted, _ = alone(movie)
    with VideoReader(movie) as reader, SharedPass(reader) as shared:
        streams = [shared.stream(**ask) for ask in ASKS]
        got: list[list] = [[], [], []]
        while streams:
            for place, stream in enumerate(streams):
                got[place] += islice(stream, 1 + place)
            if all(len(a) == len(b) for a, b in zip(got, wanted)):
                break
        for one, other in zip(got, wanted):
            assert_alike(one, other)
    with VideoReader(movie) as reader, SharedPass(reader) as shared:
        streams = [shared.stream(**ask) for ask in ASKS]
        with ThreadPoolExecutor(3) as pool:
            for one, other in zip(pool.map(list, streams), wanted):
                assert_alike(one, other)
    assert reader.frames_decoded == COUNT


def test_only_what_somebody_wants_is_decoded(movie):
    with VideoReader(movie) as reader, SharedPass(reader) as shared:
        first, second = shared.stream([0.5]), shared.stream([1.0], short_side=20)
        assert len(list(second)) == len(list(first)) == 1
        assert 0 < reader.frames_decoded < 40


def test_a_stream_that_was_left_holds_nobody_up(movie):
    with VideoReader(movie) as reader, SharedPass(reader) as shared:
        left, rest = (shared.stream(**ask) for ask in ASKS[:2])
        next(left)
        left.close()
        assert len(list(rest)) == 65
        assert not shared._lookers[0].waiting


def test_streams_end_when_the_pass_is_closed(movie):
    with VideoReader(movie) as reader:
        shared = SharedPass(reader)
        stream = shared.stream(**ASKS[0])
        next(stream)
        shared.close()
        assert list(stream) == []
        assert reader.frames_decoded > 0


def test_all_are_told_of_an_error(tmp_path):
    path = tmp_path / "broken.mp4"
    path.write_bytes(b"nothing" * 99)
    shared = SharedPass(VideoReader(path))
    for stream in (shared.stream([0.0]), shared.stream([1.0])):
        with pytest.raises(UserError, match=r"broken\.mp4"):
            next(stream)


def test_streams_are_taken_first(movie):
    with VideoReader(movie) as reader, SharedPass(reader) as shared:
        next(shared.stream([0.0, 1.0]))
        with pytest.raises(RuntimeError, match="before one is read"):
            shared.stream([0.0])
        with pytest.raises(ValueError, match="increasing"):
            SharedPass(reader).stream([1.0, 0.0])


def test_decoding_is_timed(movie):
    entered: list[int] = []

    class Timer:
        def __enter__(self) -> None:
            entered.append(threading.get_ident())

        def __exit__(self, *exception: object) -> None:
            entered.append(-1)

    with VideoReader(movie) as reader, SharedPass(reader, timed=Timer) as shared:
        assert len(list(shared.stream([0.0, 1.0]))) == 2
    assert entered.count(-1) == len(entered) / 2 >= 4
