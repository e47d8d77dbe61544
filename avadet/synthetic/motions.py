"""How the drawn people move: rhythms, and the poses along each figure of motion.

A pose is 11 numbers per frame: ten angles and how far the body is off the ground. Angles are in
degrees in the plane of the picture, of each limb by itself (not against its parent): 0 hangs
down, 90 points to where the person faces, 180 up; ``lean`` and ``head`` are 0 upright, 90 lying
forward. Arrays are (T, 11), one row per frame.
"""

from __future__ import annotations

import numpy as np

LEAN, HEAD = 0, 1
NEAR_UPPER, NEAR_FORE, FAR_UPPER, FAR_FORE = 2, 3, 4, 5
NEAR_THIGH, NEAR_SHIN, FAR_THIGH, FAR_SHIN = 6, 7, 8, 9
RISE = 10
POSE_SIZE = 11
ARMS = (NEAR_UPPER, NEAR_FORE, FAR_UPPER, FAR_FORE)

# Cycle lengths vary by this factor from person to person and again from cycle to cycle.
PERSON_SPREAD, CYCLE_SPREAD = 0.25, 0.5
# Share of a cycle that the slow way of an asymmetric motion takes.
SLOW_SHARE = 0.75


class Rhythm:
    """The phase of a cyclic motion over time, in cycles.

    The length of each cycle is drawn anew, so that the phase one slow-pathway step later cannot
    be foretold; the start is uniform. A backwards rhythm is the same process run in reverse.

    Args:
        rng: source of the draws.
        hertz: mean cycles per second; 0 stays at a random phase.
        seconds: length to cover.
        backwards: run the phase downwards.
    """

    def __init__(
        self, rng: np.random.Generator, hertz: float, seconds: float, backwards: bool = False
    ) -> None:
        self.start = rng.uniform()
        self.sign = -1.0 if backwards else 1.0
        self.times = np.zeros(1)
        if hertz > 0:
            mean = 1 / (hertz * rng.uniform(1 - PERSON_SPREAD, 1 + PERSON_SPREAD))
            count = int(seconds / mean / (1 - CYCLE_SPREAD)) + 3
            lengths = mean * rng.uniform(1 - CYCLE_SPREAD, 1 + CYCLE_SPREAD, count)
            # Start somewhere inside the first cycle: the moment 0 is nothing special.
            self.times = np.concatenate([[0.0], np.cumsum(lengths)]) - rng.uniform(0, lengths[0])

    def phase(self, seconds: np.ndarray) -> np.ndarray:
        """(T,) phases in cycles at times (T,)."""
        turns = np.interp(seconds, self.times, np.arange(len(self.times)))
        return self.start + self.sign * turns


def swing(phase: np.ndarray) -> np.ndarray:
    """There and back in equal times, 0..1."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * phase)


def saw(phase: np.ndarray) -> np.ndarray:
    """Up slowly and down quickly, 0..1; as long at every height. Backwards: quick up, slow down."""
    turn = phase % 1.0
    return np.where(turn < SLOW_SHARE, turn / SLOW_SHARE, (1 - turn) / (1 - SLOW_SHARE))


def body_pose(figure: str, phase: np.ndarray, style: np.ndarray) -> np.ndarray:
    """Legs, trunk and hanging arms.

    Args:
        figure: an ``Action.figure`` of part "body".
        phase: (T,) cycles.
        style: (8,) numbers in -1..1, the person's way of doing it.

    Returns:
        (T, 11) poses.
    """
    pose = np.zeros((len(phase), POSE_SIZE))
    pose[:, HEAD] = 6 * style[0]
    pose[:, LEAN] = 4 + 5 * style[1]
    pose[:, NEAR_UPPER], pose[:, NEAR_FORE] = 4 + 8 * style[2], 16 + 8 * style[2]
    pose[:, FAR_UPPER], pose[:, FAR_FORE] = 2 + 8 * style[3], 14 + 8 * style[3]
    if figure == "stride":
        reach = 34 + 6 * style[4]
        for thigh, shin, upper, fore, shift in (
            (NEAR_THIGH, NEAR_SHIN, NEAR_UPPER, NEAR_FORE, 0.0),
            (FAR_THIGH, FAR_SHIN, FAR_UPPER, FAR_FORE, 0.5),
        ):
            angle = 2 * np.pi * (phase + shift)
            pose[:, thigh] = 4 + reach * np.sin(angle)
            # The knee folds while the thigh comes forward.
            pose[:, shin] = pose[:, thigh] - 8 - (24 + 6 * style[5]) * (1 + np.cos(angle))
            pose[:, upper] = -26 * np.sin(angle)
            pose[:, fore] = pose[:, upper] + 30 + 10 * style[2]
    elif figure == "sit":
        pose[:, NEAR_THIGH], pose[:, FAR_THIGH] = 84 + 6 * style[4], 88 + 6 * style[5]
        pose[:, NEAR_SHIN], pose[:, FAR_SHIN] = 4 + 8 * style[6], 8 * style[7]
        pose[:, NEAR_UPPER], pose[:, NEAR_FORE] = 22 + 8 * style[2], 60 + 12 * style[2]
        pose[:, FAR_UPPER], pose[:, FAR_FORE] = 26 + 8 * style[3], 64 + 12 * style[3]
    elif figure == "crouch":
        pose[:, LEAN] = 22 + 8 * style[1]
        pose[:, NEAR_THIGH], pose[:, NEAR_SHIN] = 108 + 8 * style[4], -34 + 6 * style[5]
        pose[:, FAR_THIGH], pose[:, FAR_SHIN] = 98 + 8 * style[6], -42 + 6 * style[7]
        pose[:, NEAR_UPPER], pose[:, NEAR_FORE] = 30, 50 + 12 * style[2]
        pose[:, FAR_UPPER], pose[:, FAR_FORE] = 26, 46 + 12 * style[3]
    elif figure == "lie":
        pose[:, LEAN], pose[:, HEAD] = -88 + 3 * style[1], -92
        pose[:, NEAR_THIGH], pose[:, NEAR_SHIN] = 92 + 6 * style[4], 88
        pose[:, FAR_THIGH], pose[:, FAR_SHIN] = 100 + 14 * (1 + style[5]), 70 - 20 * (1 + style[5])
        pose[:, NEAR_UPPER], pose[:, NEAR_FORE] = 88, 92 + 6 * style[2]
        pose[:, FAR_UPPER], pose[:, FAR_FORE] = 100 + 20 * style[3], 84
    elif figure == "bend":
        pose[:, LEAN] = 76 + 12 * style[1]
        pose[:, HEAD] = pose[:, LEAN] + 20
        pose[:, NEAR_THIGH], pose[:, NEAR_SHIN] = 2, -8
        pose[:, FAR_THIGH], pose[:, FAR_SHIN] = 12, -4
        pose[:, NEAR_UPPER], pose[:, NEAR_FORE] = 8 * style[2], 8 + 8 * style[2]
    elif figure == "jump":
        up = np.abs(np.sin(np.pi * phase))
        pose[:, RISE] = 0.14 * up
        for thigh, shin, more in ((NEAR_THIGH, NEAR_SHIN, 6), (FAR_THIGH, FAR_SHIN, -4)):
            pose[:, thigh] = 42 - 30 * up + more
            pose[:, shin] = -46 + 22 * up + more
        for upper, fore in ((NEAR_UPPER, NEAR_FORE), (FAR_UPPER, FAR_FORE)):
            pose[:, upper] = -30 + 80 * up + 8 * style[2]
            pose[:, fore] = -10 + 90 * up
    elif figure == "rise":
        height = saw(phase)
        for thigh, shin, more in ((NEAR_THIGH, NEAR_SHIN, 4), (FAR_THIGH, FAR_SHIN, -6)):
            pose[:, thigh] = 112 - 108 * height + more
            pose[:, shin] = -44 + 42 * height + more
        pose[:, LEAN] = 38 - 34 * height + 4 * style[1]
        pose[:, NEAR_UPPER], pose[:, NEAR_FORE] = 34 - 28 * height, 56 - 36 * height
        pose[:, FAR_UPPER], pose[:, FAR_FORE] = 28 - 26 * height, 50 - 34 * height
    else:
        raise ValueError(f"no body figure {figure!r}")
    return pose


def pose_arms(pose: np.ndarray, figure: str, phase: np.ndarray, style: np.ndarray) -> None:
    """Overwrites the arms of ``pose`` (T, 11) by those of a figure of part "arms" or "pair".

    Args:
        pose: changed in place.
        figure: an ``Action.figure``; "free" leaves the body's own arms.
        phase: (T,) cycles.
        style: (8,) numbers in -1..1; the sign of style[7] picks the arm of one-armed figures.
    """
    upper, fore = (NEAR_UPPER, NEAR_FORE) if style[7] > 0 else (FAR_UPPER, FAR_FORE)
    both = ((NEAR_UPPER, NEAR_FORE, 1.0), (FAR_UPPER, FAR_FORE, -1.0))
    if figure == "raised":
        pose[:, upper] = 112 + 14 * style[2]
        pose[:, fore] = 154 + 10 * style[3] + (46 + 6 * style[4]) * (2 * swing(phase) - 1)
    elif figure == "palms":
        gap = swing(phase)
        for one, two, side in both:
            pose[:, one] = 52 + 8 * style[2] + side * 32 * gap
            pose[:, two] = 92 + 8 * style[3] + side * 46 * gap
    elif figure == "hoist":
        height = saw(phase)
        for one, two, side in both:
            pose[:, one] = -4 + 100 * height + 4 * side + 5 * style[2]
            pose[:, two] = 34 + 104 * height + 4 * side + 5 * style[3]
    elif figure == "lever":
        back = saw(phase)
        for one, two, side in both:
            pose[:, one] = 88 - 110 * back + 4 * side + 4 * style[2]
            pose[:, two] = 86 + 12 * back + 4 * side + 4 * style[3]
    elif figure == "phone":
        pose[:, upper], pose[:, fore] = 58 + 8 * style[2], 172 + 8 * style[3]
    elif figure == "reach":
        # At rest for a moment, out and back in unequal times: the reverse is the other action.
        far = saw(phase)
        pose[:, upper] = -14 + 104 * far + 5 * style[2]
        pose[:, fore] = 112 - 22 * far + 5 * style[3]
    elif figure == "handshake":
        pose[:, upper] = 34 + 20 * swing(phase)
        pose[:, fore] = 72 + 36 * swing(phase)
    elif figure == "hug":
        pose[:, NEAR_UPPER], pose[:, NEAR_FORE] = 62 + 8 * style[2], 96 + 8 * style[3]
        pose[:, FAR_UPPER], pose[:, FAR_FORE] = 88 + 8 * style[4], 108 + 8 * style[5]
        pose[:, LEAN] = 8
    elif figure != "free":
        raise ValueError(f"no arm figure {figure!r}")
