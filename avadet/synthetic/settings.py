"""What can be asked of the generators, and the presets."""

from __future__ import annotations

import difflib
import hashlib
import json
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from avadet.errors import UserError
from avadet.synthetic.actions import NAMES, check_classes

# Part of every recipe: raise it when the same settings draw something else.
GENERATOR_VERSION = 3


@dataclass(frozen=True)
class Settings:
    """Everything that decides what is drawn, besides the seed.

    Attributes:
        movies: training movies (Mini-Kinetics: training clips per class).
        val_movies: held-out movies (clips per class), of other people and places.
        seconds: length of each.
        width: pixels.
        height: pixels.
        fps: frames per second.
        people: fewest and most people in a shot.
        person_height: standing height, smallest and largest, as a part of the frame's height.
        clutter: 0 plain, 1 crowded: textures, furniture before people, passing shapes, camera
            movement, flicker; above 0.3 people stand anywhere and hide one another.
        classes: AVA ids that are drawn and annotated.
        decoys: unlabelled twins of wave and clap: "still", "slow" or "both".
        pairs: share of the shots in which two people act on each other, where classes allow.
        tempo: factor on all cycle rates.
        act_seconds: shortest and longest time that people keep to one action.
        shot_acts: most acts in one shot, between two cuts.
        crf: x264 quality.
        context: the light follows a ``context.Story``, whose classes need many seconds of context;
            ``act_seconds`` and ``shot_acts`` play no part.
    """

    movies: int
    val_movies: int
    seconds: int
    width: int
    height: int
    people: tuple[int, int]
    person_height: tuple[float, float]
    clutter: float
    classes: tuple[int, ...]
    decoys: str
    pairs: float
    fps: int = 30
    tempo: float = 1.0
    act_seconds: tuple[int, int] = (6, 8)
    shot_acts: int = 1
    crf: int = 20
    context: bool = False

    def check(self) -> None:
        """Raises UserError for values that make no movie."""
        check_classes(self.classes)
        low, high = self.people
        small, large = self.person_height
        rules = {
            "movies": self.movies >= 0,
            "val_movies": self.val_movies >= 0 and self.movies + self.val_movies > 0,
            "width": 32 <= self.width <= 4096,
            "height": 32 <= self.height <= 4096,
            "fps": 1 <= self.fps <= 240,
            "people": 1 <= low <= high <= 200,
            "person_height": 0.05 <= small <= large <= 1.5,
            "clutter": 0 <= self.clutter <= 1,
            "pairs": 0 <= self.pairs <= 1,
            "tempo": 0 < self.tempo <= 10,
            "act_seconds": 4 <= self.act_seconds[0] <= self.act_seconds[1],
            "shot_acts": self.shot_acts >= 1,
            "crf": 0 <= self.crf <= 51,
            "decoys": self.decoys in ("still", "slow", "both"),
            # Two acts of white light between two coloured ones, four seconds each at least.
            "seconds": self.seconds >= (20 if self.context else 2),
        }
        for name, good in rules.items():
            if not good:
                raise UserError(f"{name}={getattr(self, name)}: out of range; see `--help`")

    def recipe(self, **more: Any) -> str:
        """A hash of these settings, the generator's version and ``more``."""
        values = asdict(self)
        if not self.context:
            del values["context"]  # came later: what was drawn before is still the same
        text = json.dumps(values | {"version": GENERATOR_VERSION} | more, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


_EIGHT = (10, 11, 12, 14, 36, 47, 67, 69)
_SMALL = Settings(
    movies=48,
    val_movies=16,
    seconds=12,
    width=144,
    height=112,
    people=(1, 2),
    person_height=(0.68, 0.8),
    clutter=0.1,
    classes=_EIGHT,
    decoys="still",
    pairs=0.0,
    tempo=0.85,
)
MINI_AVA_PRESETS = {
    "tiny": replace(_SMALL, movies=2, val_movies=1, seconds=5, width=96, height=80),
    "small": _SMALL,
    "bench": replace(
        _SMALL,
        movies=160,
        val_movies=60,
        seconds=24,
        classes=(10, 11, 12, 14, 36, 45, 46, 47, 67, 69),
        decoys="slow",
        tempo=1.0,
    ),
    "long_context": replace(
        _SMALL,
        movies=48,
        val_movies=24,
        seconds=24,
        fps=6,
        width=112,
        height=80,
        classes=(12,),
        context=True,
    ),
    "large": Settings(
        movies=300,
        val_movies=80,
        seconds=60,
        width=320,
        height=240,
        people=(1, 5),
        person_height=(0.35, 0.75),
        clutter=0.7,
        classes=tuple(sorted(NAMES)),
        decoys="both",
        pairs=0.35,
        shot_acts=2,
    ),
}


def _single(preset: str, clips: int, val_clips: int) -> Settings:
    """The preset's people one at a time, in a square frame of the same height."""
    base = MINI_AVA_PRESETS[preset]
    return replace(
        base,
        movies=clips,
        val_movies=val_clips,
        seconds=3,
        width=base.height,
        people=(1, 1),
        pairs=0.0,
        clutter=min(base.clutter, 0.4),
    )


MINI_KINETICS_PRESETS = {
    "tiny": _single("tiny", 2, 1),
    "small": _single("small", 150, 25),
    "bench": _single("bench", 200, 30),
    "large": _single("large", 400, 50),
}


def choose(presets: dict[str, Settings], preset: str, overrides: dict[str, Any]) -> Settings:
    """The settings of a preset with some of them replaced; None leaves one as it is.

    Raises:
        UserError: no such preset or setting, or a value out of range.
    """
    if preset not in presets:
        raise UserError(f"preset {preset!r}: must be one of {', '.join(presets)}")
    known = [field.name for field in fields(Settings)]
    for name in overrides:
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise UserError(f"no setting {name!r}{hint} Known: {', '.join(known)}")
    given = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in overrides.items()
        if value is not None
    }
    settings = replace(presets[preset], **given)
    settings.check()
    return settings
