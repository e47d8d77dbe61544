"""What the randomness of a sample depends on."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class ClipShape(NamedTuple):
    """The size of a clip, where the sampler chooses it (multigrid training).

    Attributes:
        num_frames: T.
        frame_stride: grid points from frame to frame.
        side: of the square crop, pixels.
    """

    num_frames: int
    frame_stride: int
    side: int


class Draw(NamedTuple):
    """One visit to a sample: what its random augmentation depends on, beside the seed.

    Attributes:
        sample: its index.
        epoch: of training.
        repeat: how often the sample was drawn before in this epoch.
        shape: of the clip; None leaves it to the data set.
    """

    sample: int
    epoch: int = 0
    repeat: int = 0
    shape: ClipShape | None = None

    @classmethod
    def of(cls, value: int | Draw, length: int) -> Draw:
        """A draw for an index or a draw, checked against the number of samples.

        Raises:
            IndexError: there is no such sample.
        """
        draw = value if isinstance(value, Draw) else cls(int(value))
        if not -length <= draw.sample < length:
            raise IndexError(f"sample {draw.sample} of {length}")
        return draw._replace(sample=draw.sample % length)


def draw_generator(seed: int, draw: Draw) -> np.random.Generator:
    """The generator of one draw: the same in any process, whatever was drawn before."""
    return np.random.default_rng((seed, draw.epoch, draw.sample, draw.repeat))
