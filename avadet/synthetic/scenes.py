"""One shot of a drawn movie: who is in it, what each does, its frames and its exact boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from avadet.synthetic import motions
from avadet.synthetic.actions import BY_KEY, Action, repertoire
from avadet.synthetic.context import Story
from avadet.synthetic.deck import Deck
from avadet.synthetic.figures import Look, Shape, figure_shapes, joints, paint, shade
from avadet.synthetic.scenery import Passer, backdrop, furniture, held, seat
from avadet.synthetic.settings import Settings

# The canvas is drawn this many times larger and averaged down, for smooth edges.
SUPERSAMPLING = 2
# A person counts as seen when this share of the whole silhouette shows: inside the frame and
# not behind other people or furniture. Below it there is no box.
MIN_VISIBLE = 0.4
# Above this much clutter people stand anywhere, and furniture stands before them.
CROWDED = 0.3
# Distance between two people who act on each other, in standing heights.
PAIR_GAP = 0.5
# People go over from one action to the next within this time around the change.
BLEND_SECONDS = 0.3


@dataclass(frozen=True)
class Annotation:
    """A person on a key frame.

    Attributes:
        box: x0, y0, x1, y1 of the visible silhouette, 0..1 of the frame.
        ava_ids: labels, ascending; may be empty.
        person: number of the person in the shot, from 0.
    """

    box: tuple[float, float, float, float]
    ava_ids: tuple[int, ...]
    person: int


@dataclass
class _Doing:
    """What one person does during one act."""

    body: Action
    arms: Action
    body_rhythm: motions.Rhythm
    arm_rhythm: motions.Rhythm
    style: np.ndarray

    def pose(self, seconds: np.ndarray) -> np.ndarray:
        pose = motions.body_pose(self.body.figure, self.body_rhythm.phase(seconds), self.style)
        motions.pose_arms(pose, self.arms.figure, self.arm_rhythm.phase(seconds), self.style)
        return pose

    @property
    def ava_ids(self) -> tuple[int, ...]:
        return tuple(sorted(a.ava_id for a in (self.body, self.arms) if a.ava_id is not None))


@dataclass
class _Person:
    """One person of a shot, with everything that changes over its frames worked out."""

    look: Look
    scale: float
    ground: float
    facing: int
    doings: list[_Doing]
    at: dict[str, np.ndarray]  # joints, (T,2) in canvas pixels before the camera moves
    thing: tuple[int, int, int]


class Shot:
    """A stretch of movie between two cuts.

    Args:
        rng: source of every draw of this shot.
        settings: see ``Settings``.
        frames: length in frames.
        changes: frames, ascending and inside the shot, at which everybody turns to something else.
        only: (body, arms) for a shot of one person who does just this, or of two where the
            second is a "pair" action; free choice when None.
        deck: deals the actions of free choice; they are drawn from ``rng`` when None.
        story: decides on the light, and labels everybody by it.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        settings: Settings,
        frames: int,
        changes: Sequence[int] = (),
        only: tuple[Action, Action] | None = None,
        deck: Deck | None = None,
        story: Story | None = None,
    ) -> None:
        self.settings = settings
        self._story = story
        self._deck = deck or Deck(rng.integers(0, 2**31, 2).tolist(), 0)
        self.length = frames
        self._changes = list(changes)
        self._seconds = np.arange(frames) / settings.fps
        self._width = settings.width * SUPERSAMPLING
        self._height = settings.height * SUPERSAMPLING
        clutter = settings.clutter
        self._horizon = self._height * rng.uniform(0.62, 0.82)
        self._margin = round(self._width * 0.25)
        size = self._width + 2 * self._margin, self._height + 2 * self._margin
        self._backdrop = backdrop(rng, *size, self._horizon + self._margin, clutter)
        self._camera = self._wander(rng, np.array([0.05, 0.02]) * (0.3 + 1.2 * clutter))
        flicker = 0.06 + 0.1 * clutter
        turn = rng.uniform(0.05, 0.4) * self._seconds + rng.uniform()
        light = rng.uniform(0.85, 1.1) * (1 + flicker * np.sin(2 * np.pi * turn))
        self._light = light[:, None] * self._tints()  # (T,3)
        self._passers = [
            Passer(rng, self._width, self._height) for _ in range(rng.binomial(4, 0.6 * clutter))
        ]
        self._people = self._cast(rng, only)
        self._occluders: list[tuple[float, list[Shape]]] = []
        for _ in range(rng.binomial(3, 0.5 * clutter) if clutter > CROWDED else 0):
            unit = self._height * rng.uniform(*settings.person_height)
            ground = self._height * rng.uniform(0.85, 1.02)
            x = rng.uniform(0, self._width)
            shapes = furniture(rng, x, ground, unit, rng.uniform(0.2, 0.5))
            self._occluders.append((ground, shapes))

    def _tints(self) -> np.ndarray:
        """(T,3) factors on red, green and blue; a light goes over into the next as people do."""
        if self._story is None:
            return np.ones((self.length, 3))
        tints = np.tile(self._story.tint(0), (self.length, 1))
        for act, change in enumerate(self._changes, 1):
            share = self._share(change)
            tints = (1 - share) * tints + share * np.asarray(self._story.tint(act))
        return tints

    def _share(self, change: int) -> np.ndarray:
        """(T,1) how far what begins at a change has taken over, 0..1."""
        begin = change / self.settings.fps - BLEND_SECONDS / 2
        share = np.clip((self._seconds - begin) / BLEND_SECONDS, 0, 1)[:, None]
        return share * share * (3 - 2 * share)

    def _wander(self, rng: np.random.Generator, reach: np.ndarray) -> np.ndarray:
        """(T, 2) slow smooth movement of at most ``reach`` of the canvas."""
        path = np.zeros((self.length, 2))
        for _ in range(2):
            turn = self._seconds[:, None] * rng.uniform(0.04, 0.25, 2) + rng.uniform(0, 1, 2)
            path += 0.5 * np.sin(2 * np.pi * turn)
        return path * reach * (self._width, self._height) * rng.uniform(0.2, 1.0, 2)

    def _cast(self, rng: np.random.Generator, only: tuple[Action, Action] | None) -> list[_Person]:
        """Chooses the people, their places and their doings."""
        settings = self.settings
        low, high = settings.people
        pairs = repertoire("pair", settings.classes, settings.decoys)
        together = bool(pairs) and high > 1 and rng.uniform() < settings.pairs
        count = int(rng.integers(max(low, 2) if together else low, high + 1))
        if only is not None:
            pairs = tuple(action for action in only if action.part == "pair")
            together = bool(pairs)
            count = 1 + together
        places = (np.arange(count) + 0.5 + rng.uniform(-0.22, 0.22, count)) / count
        if settings.clutter > CROWDED and only is None:
            places = rng.uniform(0.0, 1.0, count)
        base = rng.uniform(*settings.person_height)
        people, tracks = [], []
        for index, place in enumerate(places):
            look = Look.draw(rng)
            share = rng.uniform(*settings.person_height) if settings.clutter > CROWDED else base
            facing = 1 if rng.uniform() < 0.5 else -1
            drift = self._wander(rng, np.array([0.035, 0.008]))
            if together and index < 2:
                share, facing = base, (1, -1)[index]
                place = 0.2 + 0.4 * places[0]
            # Nearer people stand lower in the picture and look larger.
            span = max(1e-6, settings.person_height[1] - settings.person_height[0])
            depth = (share - settings.person_height[0]) / span
            ground = self._height * (0.86 + 0.1 * depth + rng.uniform(-0.02, 0.03))
            track = np.array([place * self._width, ground]) + drift
            if together and index == 1:
                ground = people[0].ground
                track = tracks[0] + 0.1 * (drift - drift[0]) * (1, 0)
            thing = tuple(int(v) for v in rng.integers(40, 250, 3))
            scale = share * self._height
            people.append(_Person(look, scale, ground, facing, [], {}, thing))
            tracks.append(track)
        for _ in range(len(self._changes) + 1):
            self._act(rng, people, pairs if together else (), only)
        for index, (person, track) in enumerate(zip(people, tracks, strict=True)):
            if together and index == 1:
                hug = any(doing.arms.figure == "hug" for doing in person.doings)
                track = track + np.array([(0.16 if hug else PAIR_GAP) * person.scale, 0.0])
            self._move(person, track)
        return people

    def _act(
        self,
        rng: np.random.Generator,
        people: list[_Person],
        pairs: tuple[Action, ...],
        only: tuple[Action, Action] | None,
    ) -> None:
        """Gives everybody something to do for one act."""
        settings = self.settings
        bodies = repertoire("body", settings.classes, settings.decoys)
        arms = repertoire("arms", settings.classes, settings.decoys)
        lead = self._deck.deal(2, pairs) if pairs else None
        shared: motions.Rhythm | None = None
        for index, person in enumerate(people):
            body, hands = only or (self._deck.deal(0, bodies), self._deck.deal(1, arms))
            if body.figure in ("lie", "jump", "rise"):
                hands = BY_KEY["free"]
            if lead is not None and index < 2:
                body = BY_KEY["stand"]
                hands = lead if index == 0 or lead.partner is None else BY_KEY[lead.partner]
            seconds = self.length / settings.fps
            tempo = settings.tempo
            rhythm = motions.Rhythm(rng, body.hertz * tempo, seconds, body.backwards)
            arm_rhythm = motions.Rhythm(rng, hands.hertz * tempo, seconds, hands.backwards)
            style = rng.uniform(-1, 1, 8)
            if lead is not None and index < 2 and lead.partner is None:
                # One movement of both: the same moment of the same rhythm, the near arms.
                shared = shared or arm_rhythm
                arm_rhythm, style[7] = shared, 1.0
            person.doings.append(_Doing(body, hands, rhythm, arm_rhythm, style))

    def _move(self, person: _Person, ground: np.ndarray) -> None:
        """Works out the joints of all frames; ``ground`` (T,2) is where the person stands."""
        poses = person.doings[0].pose(self._seconds)
        for change, doing in zip(self._changes, person.doings[1:], strict=True):
            share = self._share(change)
            poses = (1 - share) * poses + share * doing.pose(self._seconds)
        direction = np.array([person.facing, -1.0]) * person.scale
        person.at = {
            name: point * direction + ground for name, point in joints(person.look, poses).items()
        }

    def _act_index(self, frame: int) -> int:
        return int(np.searchsorted(self._changes, frame, side="right"))

    def _person_shapes(
        self, person: _Person, frame: int, shift: np.ndarray
    ) -> tuple[list[Shape], list[Shape], list[Shape], list[Shape]]:
        """(chair, body, held things, near arm) on one frame."""
        at = {name: point[frame] + shift for name, point in person.at.items()}
        doing = person.doings[self._act_index(frame)]
        rest, arm = figure_shapes(person.look, at, person.scale, person.facing)
        chair: list[Shape] = []
        if doing.body.figure == "sit":
            ground = person.ground + shift[1]
            chair = seat(at["hip"], ground, person.scale, person.facing, shade(person.thing, 0.6))
        side = "near" if doing.style[7] > 0 else "far"
        thing = held(doing.arms.figure, at, person.scale, side, person.thing)
        return chair, rest, thing, arm

    def _layers(self, frame: int) -> list[tuple[float, int | None, tuple[list[Shape], ...]]]:
        """(ground, person number or None, groups of shapes), from back to front."""
        shift = self._camera[frame]
        layers: list[tuple[float, int | None, tuple[list[Shape], ...]]] = []
        for index, person in enumerate(self._people):
            layers.append((person.ground, index, self._person_shapes(person, frame, shift)))
        for ground, shapes in self._occluders:
            layers.append((ground, None, ([_shifted(s, shift) for s in shapes],)))
        return sorted(layers, key=lambda layer: layer[0])

    def frame(self, index: int) -> np.ndarray:
        """(H, W, 3) uint8 picture of one frame."""
        dx, dy = self._camera[index]
        left, top = round(self._margin - dx), round(self._margin - dy)
        canvas = self._backdrop.crop((left, top, left + self._width, top + self._height))
        draw = ImageDraw.Draw(canvas)
        second = float(self._seconds[index])
        for passer in self._passers[::2]:
            paint(draw, passer.shapes(second, (dx, dy)))
        for _, _, groups in self._layers(index):
            for shapes in groups:
                paint(draw, shapes)
        for passer in self._passers[1::2]:
            paint(draw, passer.shapes(second, (dx, dy)))
        small = canvas.reduce(SUPERSAMPLING)
        table = np.clip(np.arange(256)[:, None] * self._light[index], 0, 255).astype(np.uint8)
        return table[np.asarray(small), np.arange(3)]

    def owners(self, frame: int) -> np.ndarray:
        """(2H, 2W) uint8: on the enlarged canvas, 1 + number of the person seen there, else 0.

        What people hold hides nobody, nor do passing shapes; people and furniture do.
        """
        image = Image.new("L", (self._width, self._height), 0)
        draw = ImageDraw.Draw(image)
        for _, person, groups in self._layers(frame):
            if person is None:
                paint(draw, groups[0], fill=0)
            else:
                chair, body, _, arm = groups
                paint(draw, chair, fill=0)
                paint(draw, [*body, *arm], fill=person + 1)
        return np.asarray(image)

    def _whole(self, frame: int, person: int) -> int:
        """Pixels of a person's whole silhouette on the enlarged canvas, as if all of it showed."""
        margin = round(1.5 * self._people[person].scale)
        image = Image.new("L", (self._width + 2 * margin, self._height + 2 * margin), 0)
        shift = self._camera[frame] + margin
        _, body, _, arm = self._person_shapes(self._people[person], frame, shift)
        paint(ImageDraw.Draw(image), [*body, *arm], fill=1)
        return int(np.count_nonzero(np.asarray(image)))

    def annotate(self, frame: int) -> list[Annotation]:
        """The people of one frame who are seen well enough, see ``MIN_VISIBLE``."""
        owners = self.owners(frame)
        found = []
        for index, person in enumerate(self._people):
            rows, columns = np.nonzero(owners == index + 1)
            if len(rows) < max(16, MIN_VISIBLE * self._whole(frame, index)):
                continue
            box = (
                columns.min() / self._width,
                rows.min() / self._height,
                (columns.max() + 1) / self._width,
                (rows.max() + 1) / self._height,
            )
            doing = person.doings[self._act_index(frame)]
            ids = tuple(i for i in doing.ava_ids if i in self.settings.classes)
            if self._story is not None:
                ids += tuple(self._story.labels(self._act_index(frame)))
            found.append(Annotation(tuple(float(v) for v in box), ids, index))
        return found


def _shifted(shape: Shape, shift: np.ndarray) -> Shape:
    moved = tuple(
        value + float(shift[position % 2]) for position, value in enumerate(shape.coordinates)
    )
    return Shape(shape.kind, moved, shape.colour)
