"""Mini-Kinetics: short drawn clips of one person doing one thing, to pre-train on.

    out/clips/<class>_train_0000.mp4 ...
    out/annotations/train.csv, val.csv      clips/....mp4,label  (line of classes.txt, from 0)
    out/annotations/classes.txt             one name a line, ordered by AVA id
    out/mini_kinetics.json                  settings, classes
    out/notes/                              what is finished, for resuming

The people, their sizes and the tempo of their limbs are those of the Mini-AVA preset of the same
name; only the frame is cut closer around the person, by a random margin. One label per clip: a
clip of an arm action has its person stand or sit, a clip of a body action has free arms or, so
that a raised hand alone means nothing, an unlabelled arm pose.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from avadet.errors import UserError
from avadet.files import write_json, write_text
from avadet.synthetic.actions import ACTIONS, BY_KEY, NAMES, Action, repertoire
from avadet.synthetic.files import make_all, read_note, write_note
from avadet.synthetic.scenes import Shot
from avadet.synthetic.settings import GENERATOR_VERSION, MINI_KINETICS_PRESETS, Settings, choose
from avadet.video.writer import VideoWriter

# First numbers of the random streams; Mini-AVA uses 0 and 1, so that no person is in both.
_SPLITS = {"train": 2, "val": 3}
# Share of the clips of a body action in which the arms take an unlabelled pose.
_BUSY_ARMS = 0.4


@dataclass(frozen=True)
class _Job:
    movie: Path
    note: Path
    settings: Settings
    key: tuple[int, ...]
    ava_id: int
    seconds: int


def _action(ava_id: int) -> Action:
    return next(action for action in ACTIONS if action.ava_id == ava_id)


def _doing(rng: np.random.Generator, ava_id: int, settings: Settings) -> tuple[Action, Action]:
    """(body, arms) of a clip whose one label is ``ava_id``."""
    action = _action(ava_id)
    if action.part == "body":
        arms = BY_KEY["free"]
        if rng.uniform() < _BUSY_ARMS:
            found = repertoire("arms", settings.classes, settings.decoys)
            unlabelled = [a for a in found if a.ava_id is None]
            arms = unlabelled[rng.integers(len(unlabelled))]
        return action, arms
    return BY_KEY["stand" if rng.uniform() < 0.7 else "sit"], action


def render_clip(
    path: str | os.PathLike[str], settings: Settings, key: Sequence[int], ava_id: int, seconds: int
) -> None:
    """Draws one clip, see ``generate``."""
    rng = np.random.default_rng(np.random.SeedSequence(list(key)))
    doing = _doing(rng, ava_id, settings)
    shot = Shot(rng, settings, seconds * settings.fps, only=doing)
    with VideoWriter(
        path, settings.width, settings.height, settings.fps,
        crf=settings.crf, gop=250, bframes=3, reproducible=True,
    ) as writer:  # fmt: skip
        for index in range(shot.length):
            writer.write(shot.frame(index))


def _make(job: _Job) -> dict[str, Any]:
    recipe = job.settings.recipe(key=list(job.key), seconds=job.seconds, ava_id=job.ava_id)
    note = read_note(job.note, recipe, job.movie)
    if note is None:
        render_clip(job.movie, job.settings, job.key, job.ava_id, job.seconds)
        note = write_note(job.note, recipe, job.movie, {})
    return note


def generate(
    out: str | os.PathLike[str],
    preset: str = "small",
    seed: int = 0,
    *,
    workers: int | None = None,
    progress: bool = True,
    **overrides: Any,
) -> Path:
    """Draws Mini-Kinetics into a folder; clips that are there already are kept.

    Args:
        out: the folder.
        preset: "tiny", "small", "bench" or "large", as for Mini-AVA.
        seed: as for Mini-AVA.
        workers: processes; one per core when None.
        progress: show a progress bar on a terminal.
        overrides: fields of ``Settings``; ``movies`` and ``val_movies`` count clips per class.
            Classes of two people acting on each other cannot be asked for.

    Returns:
        ``out``.

    Raises:
        UserError: a setting is unknown or out of range, or the folder cannot be written.
    """
    folder = Path(out)
    settings = choose(MINI_KINETICS_PRESETS, preset, overrides)
    ids = sorted(settings.classes)
    alone = [ava_id for ava_id in ids if _action(ava_id).part != "pair"]
    if alone != ids:
        if overrides.get("classes") is not None:
            pairs = sorted(set(ids) - set(alone))
            raise UserError(f"classes {pairs}: take two people; Mini-Kinetics has one per clip")
        ids = alone
    settings = replace(settings, classes=tuple(ids), people=(1, 1), pairs=0.0)
    drawn = replace(settings, movies=0, val_movies=0, seconds=0)
    jobs, listings = [], {}
    for split, count in (("train", settings.movies), ("val", settings.val_movies)):
        lines = []
        for label, ava_id in enumerate(ids):
            for index in range(count):
                name = f"{_action(ava_id).key}_{split}_{index:04d}"
                movie = folder / "clips" / f"{name}.mp4"
                note = folder / "notes" / f"{name}.json"
                key = (seed, _SPLITS[split], ava_id, index)
                jobs.append(_Job(movie, note, drawn, key, ava_id, settings.seconds))
                lines.append(f"clips/{name}.mp4,{label}\n")
        listings[split] = lines
    make_all(_make, jobs, workers, "Mini-Kinetics", progress)
    annotations = folder / "annotations"
    for split, lines in listings.items():
        write_text(annotations / f"{split}.csv", "".join(lines))
    write_text(annotations / "classes.txt", "".join(f"{NAMES[key]}\n" for key in ids))
    write_json(
        folder / "mini_kinetics.json",
        {
            "seed": seed,
            "preset": preset,
            "generator_version": GENERATOR_VERSION,
            "fps": settings.fps,
            "classes": [{"id": key, "name": NAMES[key]} for key in ids],
            "settings": asdict(settings),
        },
    )
    return folder
