"""Mini-AVA: drawn movies with exact annotations in AVA's file formats.

    out/movies/train_0000.mp4 ... val_0000.mp4 ...
    out/annotations/ava_train.csv, ava_val.csv            video,second,x1,y1,x2,y2,action,person
    out/annotations/ava_{train,val}_excluded_timestamps.csv
    out/annotations/ava_file_names_{train,val}.txt
    out/annotations/ava_action_list.pbtxt
    out/annotations/ava_action_list_context.pbtxt         of ``long_context``: what no clip shows
    out/mini_ava.json                                     settings, classes, first and last second
    out/notes/                                            what is finished, for resuming

Key frames are the whole seconds 1..length-1. Everybody turns to another action at the same
moments, half way between two key frames; those two are left out of the ground truth and listed
as excluded, so that around every other key frame all actions last for at least 1.4 s to both
sides (but for the ends of the movie). Training and validation movies share no person and no
place: every movie is drawn from its own stream of random numbers, which depends on the seed, the
split and the movie's number only; neither the number of workers nor that of movies changes it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from avadet.files import write_json, write_text
from avadet.synthetic import context
from avadet.synthetic.actions import NAMES
from avadet.synthetic.context import CONTEXT_NAMES, HIDDEN_NAMES, Story
from avadet.synthetic.deck import Deck
from avadet.synthetic.files import make_all, read_note, write_note
from avadet.synthetic.scenes import Shot
from avadet.synthetic.settings import GENERATOR_VERSION, MINI_AVA_PRESETS, Settings, choose
from avadet.video.writer import VideoWriter

FIRST_SECOND = 1
# First numbers of the random streams: one for each split.
_SPLITS = {"train": 0, "val": 1}


@dataclass(frozen=True)
class _Job:
    """One movie to draw."""

    movie: Path
    note: Path
    settings: Settings
    key: tuple[int, ...]
    seconds: int


def change_seconds(rng: np.random.Generator, settings: Settings, seconds: int) -> list[float]:
    """When people turn to something else: moments k + 0.5, ascending.

    The last act is at least as long as the shortest allowed one, so it may be longer.
    """
    low, high = settings.act_seconds
    found: list[float] = []
    now = 0.0
    while True:
        step = int(rng.integers(low, high + 1))
        # The first act starts at 0, so it is half a second shorter than drawn.
        now = now + step if found else step - 0.5
        if now > seconds - low:
            return found
        found.append(now)


def render_movie(
    path: str | os.PathLike[str], settings: Settings, key: Sequence[int], seconds: int
) -> tuple[list[list[Any]], list[int]]:
    """Draws one movie.

    Args:
        path: the mp4 to write.
        settings: see ``Settings``; the numbers of movies and ``seconds`` are not used.
        key: numbers that seed the movie; all but the last stand for its split, the last is its
            number there.
        seconds: its length.

    Returns:
        (rows [second, x1, y1, x2, y2, action id, person], excluded seconds).
    """
    rng = np.random.default_rng(np.random.SeedSequence(list(key)))
    story: Story | None = None
    if settings.context:
        changes = context.change_seconds(rng, seconds)
        story = Story(Deck(key[:-1], key[-1]))
    else:
        changes = change_seconds(rng, settings, seconds)
    excluded = sorted({int(c - 0.5) for c in changes} | {int(c + 0.5) for c in changes})
    # People are dealt their actions from packs that all movies of the split share.
    expected = seconds / (sum(settings.act_seconds) / 2) * sum(settings.people) / 2
    deck = Deck(key[:-1], round(key[-1] * expected))
    bounds = [round(c * settings.fps) for c in changes]
    length = seconds * settings.fps
    rows: list[list[Any]] = []
    people = begin = 0
    with VideoWriter(
        path, settings.width, settings.height, settings.fps,
        crf=settings.crf, gop=250, bframes=3, reproducible=True,
    ) as writer:  # fmt: skip
        while begin < length:
            ahead = [b for b in bounds if b > begin]
            acts = len(ahead) + 1 if story else int(rng.integers(1, settings.shot_acts + 1))
            end = ahead[acts - 1] if acts <= len(ahead) else length
            inside = [b - begin for b in ahead if b < end]
            shot = Shot(rng, settings, end - begin, inside, deck=deck, story=story)
            for index in range(end - begin):
                writer.write(shot.frame(index))
                second, rest = divmod(begin + index, settings.fps)
                if rest or second in excluded or second < FIRST_SECOND:
                    continue
                for found in shot.annotate(index):
                    for action in found.ava_ids:
                        rows.append([second, *found.box, action, people + found.person])
            people += settings.people[1]
            begin = end
    return rows, excluded


def _make(job: _Job) -> dict[str, Any]:
    recipe = job.settings.recipe(key=list(job.key), seconds=job.seconds)
    note = read_note(job.note, recipe, job.movie)
    if note is None:
        rows, excluded = render_movie(job.movie, job.settings, job.key, job.seconds)
        note = write_note(job.note, recipe, job.movie, {"rows": rows, "excluded": excluded})
    return note


def label_map_text(ids: Sequence[int]) -> str:
    """The classes as the official evaluator's parser reads them: ``item { name id }``."""
    names = NAMES | CONTEXT_NAMES
    items = [f'item {{\n  name: "{names[key]}"\n  id: {key}\n}}\n' for key in sorted(ids)]
    return "".join(items)


def generate(
    out: str | os.PathLike[str],
    preset: str = "small",
    seed: int = 0,
    *,
    workers: int | None = None,
    progress: bool = True,
    **overrides: Any,
) -> Path:
    """Draws Mini-AVA into a folder; movies that are there already are kept.

    Args:
        out: the folder.
        preset: "tiny" (tests), "small" (quickstart), "bench", "long_context" (classes that need
            many seconds) or "large".
        seed: the same seed gives the same annotations and the same movies, bit by bit (with
            the same versions of the encoder, Pillow and numpy), whatever ``workers`` is.
        workers: processes; one per core when None.
        progress: show a progress bar on a terminal.
        overrides: fields of ``Settings``.

    Returns:
        ``out``.

    Raises:
        UserError: a setting is unknown or out of range, or the folder cannot be written.
    """
    folder = Path(out)
    settings = choose(MINI_AVA_PRESETS, preset, overrides)
    counts = {"train": settings.movies, "val": settings.val_movies}
    names = {split: [f"{split}_{i:04d}" for i in range(n)] for split, n in counts.items()}
    # How many movies there are changes none of them: it is not part of their recipe.
    drawn = Settings(**(asdict(settings) | {"movies": 0, "val_movies": 0, "seconds": 0}))
    jobs = [
        _Job(
            folder / "movies" / f"{name}.mp4",
            folder / "notes" / f"{name}.json",
            drawn,
            (seed, _SPLITS[split], index),
            settings.seconds,
        )
        for split, listed in names.items()
        for index, name in enumerate(listed)
    ]
    notes = make_all(_make, jobs, workers, "Mini-AVA", progress)
    annotations = folder / "annotations"
    by_name = {job.movie.stem: note for job, note in zip(jobs, notes, strict=True)}
    for split, listed in names.items():
        rows, excluded = [], []
        for name in listed:
            for second, x1, y1, x2, y2, action, person in by_name[name]["rows"]:
                box = f"{x1:.3f},{y1:.3f},{x2:.3f},{y2:.3f}"
                rows.append(f"{name},{second:04d},{box},{action},{person}\n")
            excluded += [f"{name},{second:04d}\n" for second in by_name[name]["excluded"]]
        write_text(annotations / f"ava_{split}.csv", "".join(rows))
        write_text(annotations / f"ava_{split}_excluded_timestamps.csv", "".join(excluded))
        listing = "".join(f"{name}.mp4\n" for name in listed)
        write_text(annotations / f"ava_file_names_{split}.txt", listing)
    ids = sorted(settings.classes) + (sorted(CONTEXT_NAMES) if settings.context else [])
    write_text(annotations / "ava_action_list.pbtxt", label_map_text(ids))
    if settings.context:
        path = annotations / "ava_action_list_context.pbtxt"
        write_text(path, label_map_text(sorted(HIDDEN_NAMES)))
    write_json(
        folder / "mini_ava.json",
        {
            "seed": seed,
            "preset": preset,
            "generator_version": GENERATOR_VERSION,
            "fps": settings.fps,
            "first_second": FIRST_SECOND,
            "last_second": settings.seconds - 1,
            "classes": [{"id": key, "name": (NAMES | CONTEXT_NAMES)[key]} for key in ids],
            "settings": asdict(settings),
        },
    )
    return folder
