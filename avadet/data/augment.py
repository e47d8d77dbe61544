"""Strong augmentation for training on clips: RandAugment, crops of any shape, erased patches.

Each is drawn once for a clip and does the same to all of its frames. The image operations are
torchvision's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from avadet.data.transforms import ClipTransform, TrainPolicy

# What rotations and shifts uncover: ImageNet's mean colour, as in the published recipes.
_FILL = [124.0, 116.0, 104.0]
_MOST = 10.0
_TRIES = 10
# PySlowFast's: 2 to 33 per cent of the area; pixels are normalised with this mean and spread.
_ERASED_AREA, _ERASED_ASPECT = (0.02, 1 / 3), (0.3, 1 / 0.3)
_NOISE_MEAN, _NOISE_STD = 0.45, 0.225


@dataclass(frozen=True)
class ImageOperation:
    """One operation of RandAugment with its strength.

    Attributes:
        name: a key of ``OPERATIONS``.
        level: strength, 0 to 10.
        negative: the other direction, for those that have one.
    """

    name: str
    level: float
    negative: bool = False

    def __call__(self, frames: Tensor) -> Tensor:
        """Shape: (T,3,H,W) uint8 -> the same."""
        return _apply(self, frames)


def _affine(frames: Tensor, **changes: object) -> Tensor:
    from torchvision.transforms.v2 import functional as F

    values = {"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [0.0, 0.0], **changes}
    return F.affine(frames, interpolation=F.InterpolationMode.BILINEAR, fill=_FILL, **values)


def _solarize_add(frames: Tensor, amount: int) -> Tensor:
    brighter = (frames.int() + amount).clamp(max=255).to(torch.uint8)
    return torch.where(frames < 128, brighter, frames)


# Strength of 10: 30 degrees, shears of 0.3, shifts by 0.45 of the side, factors of 1 +- 0.9;
# in "increasing" form every operation does more at a higher level (timm's rand-...-inc1).
OPERATIONS = (
    "autocontrast",
    "equalize",
    "invert",
    "rotate",
    "posterize",
    "solarize",
    "solarize_add",
    "saturation",
    "contrast",
    "brightness",
    "sharpness",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
)


def _apply(operation: ImageOperation, frames: Tensor) -> Tensor:
    from torchvision.transforms.v2 import functional as F

    share = operation.level / _MOST
    signed = -share if operation.negative else share
    factor = max(0.1, 1 + 0.9 * signed)
    height, width = frames.shape[-2:]
    match operation.name:
        case "autocontrast":
            return F.autocontrast(frames)
        case "equalize":
            return F.equalize(frames)
        case "invert":
            return F.invert(frames)
        case "rotate":
            return F.rotate(
                frames, 30 * signed, interpolation=F.InterpolationMode.BILINEAR, fill=_FILL
            )
        case "posterize":
            return F.posterize(frames, 4 - int(4 * share))
        case "solarize":
            return F.solarize(frames, 256 - min(256, int(256 * share)))
        case "solarize_add":
            return _solarize_add(frames, min(128, int(110 * share)))
        case "saturation":
            return F.adjust_saturation(frames, factor)
        case "contrast":
            return F.adjust_contrast(frames, factor)
        case "brightness":
            return F.adjust_brightness(frames, factor)
        case "sharpness":
            return F.adjust_sharpness(frames, factor)
        case "shear_x":
            return _affine(frames, shear=[math.degrees(math.atan(0.3 * signed)), 0.0])
        case "shear_y":
            return _affine(frames, shear=[0.0, math.degrees(math.atan(0.3 * signed))])
        case "translate_x":
            return _affine(frames, translate=[round(0.45 * signed * width), 0])
        case "translate_y":
            return _affine(frames, translate=[0, round(0.45 * signed * height)])
    raise ValueError(f"no operation '{operation.name}'")


@dataclass(frozen=True)
class RandAugment:
    """Draws operations (Cubuk et al. 2020), as MViT's recipe does: rand-m7-n4-mstd0.5-inc1.

    Attributes:
        magnitude: mean level, 0 to 10.
        layers: operations drawn, with replacement.
        probability: of each to be applied.
        deviation: standard deviation of the level.
    """

    magnitude: float = 7.0
    layers: int = 4
    probability: float = 0.5
    deviation: float = 0.5

    def draw(self, rng: np.random.Generator) -> tuple[ImageOperation, ...]:
        """The operations of one clip. The numbers drawn do not depend on one another's outcome."""
        names = rng.integers(0, len(OPERATIONS), self.layers)
        applied = rng.random(self.layers) < self.probability
        levels = np.clip(rng.normal(self.magnitude, self.deviation, self.layers), 0, _MOST)
        negative = rng.random(self.layers) < 0.5
        return tuple(
            ImageOperation(OPERATIONS[names[k]], float(levels[k]), bool(negative[k]))
            for k in range(self.layers)
            if applied[k]
        )


@dataclass(frozen=True)
class Patch:
    """A part of the frame, in shares of it.

    Attributes:
        y, x: of the top left corner.
        height, width: above 0; inside the frame.
    """

    y: float
    x: float
    height: float
    width: float

    def pixels(self, height: int, width: int) -> tuple[int, int, int, int]:
        """(top, left, height, width) in a frame of this size, at least one pixel."""
        tall = min(max(round(self.height * height), 1), height)
        wide = min(max(round(self.width * width), 1), width)
        top = min(round(self.y * height), height - tall)
        left = min(round(self.x * width), width - wide)
        return top, left, tall, wide


@dataclass(frozen=True)
class RandomArea:
    """A part with a share of the area and a shape drawn at random (Inception's crop).

    Attributes:
        tries: numbers in [0,1): area, shape, y, x of each try. The first that fits is taken.
        area: range of the share of the frame's area.
        aspect: range of width / height, even on a logarithmic scale.
    """

    tries: tuple[tuple[float, float, float, float], ...]
    area: tuple[float, float]
    aspect: tuple[float, float]

    def patch(self, height: int, width: int) -> Patch:
        """The part of a frame of this size; the largest square in its middle where none fits."""
        for share, shape, y, x in self.tries:
            part = self.area[0] + share * (self.area[1] - self.area[0])
            low, high = math.log(self.aspect[0]), math.log(self.aspect[1])
            ratio = math.exp(low + shape * (high - low)) * height / width
            wide, tall = math.sqrt(part * ratio), math.sqrt(part / ratio)
            if wide <= 1 and tall <= 1:
                return Patch(y * (1 - tall), x * (1 - wide), tall, wide)
        side = min(height, width)
        tall, wide = side / height, side / width
        return Patch((1 - tall) / 2, (1 - wide) / 2, tall, wide)


@dataclass(frozen=True)
class Erasing:
    """A part replaced by noise (Zhong et al. 2020), at the same place in all frames.

    Attributes:
        part: where.
        seed: of the noise, whose mean and spread are those of normalised pixels.
    """

    part: RandomArea
    seed: int

    def __call__(self, video: Tensor) -> Tensor:
        """Shape: (3,T,H,W) uint8 -> the same; the argument is left as it is."""
        top, left, height, width = self.part.patch(*video.shape[2:]).pixels(*video.shape[2:])
        noise = np.random.default_rng(self.seed).normal(
            _NOISE_MEAN, _NOISE_STD, (3, video.shape[1], height, width)
        )
        erased = video.clone()
        erased[:, :, top : top + height, left : left + width] = torch.from_numpy(
            np.rint(noise.clip(0, 1) * 255).astype(np.uint8)
        )
        return erased


@dataclass(frozen=True)
class StrongTransform:
    """What happens to one clip; nothing in it is random any more.

    Attributes:
        base: scale, crop, mirror, colour.
        operations: of RandAugment, on whole frames, first.
        part: cut out and scaled to the base's square, instead of its crop.
        erasing: last.
    """

    base: ClipTransform
    operations: tuple[ImageOperation, ...] = ()
    part: RandomArea | None = None
    erasing: Erasing | None = None

    @property
    def short_side(self) -> int | None:
        """The decoder scales the short side to this."""
        return self.base.short_side

    def corner(
        self, height: int, width: int, boxes_norm: np.ndarray | None = None
    ) -> tuple[int, int]:
        """As ``ClipTransform.corner``; (0, 0) where a part is cut out instead."""
        return (0, 0) if self.part is not None else self.base.corner(height, width, boxes_norm)

    def frames(self, frames: np.ndarray, corner: tuple[int, int] = (0, 0)) -> Tensor:
        """Shape: (T,H,W,3) uint8 -> (3,T,h,w) uint8."""
        video = torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 3, 1, 2)))
        for operation in self.operations:
            video = operation(video)
        base = self.base
        if self.part is not None:
            from torchvision.transforms.v2 import functional as F

            assert base.crop is not None
            top, left, height, width = self.part.patch(*video.shape[2:]).pixels(*video.shape[2:])
            cut = video[:, :, top : top + height, left : left + width]
            side = [base.crop, base.crop]
            video = F.resize(cut, side, F.InterpolationMode.BILINEAR, antialias=True)
            base = replace(base, crop=None)
        changed = base.frames(video.numpy().transpose(0, 2, 3, 1), corner)
        return changed if self.erasing is None else self.erasing(changed)


@dataclass(frozen=True)
class StrongPolicy:
    """Augmentation of the transformers' recipes, on top of the plain one.

    Attributes:
        base: scale jitter, crop, mirror, colour.
        rand_augment: draws operations; None for none.
        area: range of the area of a random-resized crop, which takes the place of the base's
            crop; None keeps that.
        aspect: its range of width / height.
        erasing: probability of erasing a part.

    Raises:
        ValueError: a random-resized crop without a side, or of optical flow.
    """

    base: TrainPolicy
    rand_augment: RandAugment | None = None
    area: tuple[float, float] | None = None
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    erasing: float = 0.0

    def __post_init__(self) -> None:
        if self.area is not None and self.base.crop is None:
            raise ValueError("a random-resized crop needs 'crop', the side that it is scaled to")
        if self.base.flow and self.rand_augment is not None:
            raise ValueError("RandAugment changes colours, which optical flow has not")

    def draw(self, rng: np.random.Generator) -> StrongTransform:
        """A transform. The numbers drawn do not depend on one another's outcome."""
        base = self.base.draw(rng)
        operations = () if self.rand_augment is None else self.rand_augment.draw(rng)
        part = None if self.area is None else _draw_area(rng, self.area, self.aspect)
        erased = rng.random() < self.erasing
        erasing = Erasing(
            _draw_area(rng, _ERASED_AREA, _ERASED_ASPECT), int(rng.integers(0, 2**32))
        )
        return StrongTransform(base, operations, part, erasing if erased else None)


def _draw_area(
    rng: np.random.Generator, area: tuple[float, float], aspect: tuple[float, float]
) -> RandomArea:
    tries = tuple((a, b, c, d) for a, b, c, d in rng.random((_TRIES, 4)).tolist())
    return RandomArea(tries, area, aspect)
