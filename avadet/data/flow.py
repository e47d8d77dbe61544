"""Optical flow: estimated by libraries, kept as movies that every reader of avadet reads.

A flow movie has, at each point of a time grid, the displacement from the frame shown there to the
next other frame shown: x in the first channel, y in the second, cut to +-20 pixels as published for
two-stream networks (I3D, CVPR 2017, section 2.4) and rounded to 8 bits, 128 for no motion; the
third channel is 128 everywhere. The values are kept without loss. They count pixels of the stored
size, and are not changed where clips are scaled to another one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from avadet.errors import UserError

_log = logging.getLogger(__name__)

BOUND = 20.0
STILL = 128
_STEPS = 127
METHODS = ("tvl1", "farneback", "raft", "raft_small")
# RAFT compares its maps, an eighth of the picture, at four scales.
_RAFT_SMALLEST = 128

# (H,W,3) and (H,W,3) uint8 RGB -> (H,W,2) float32, the displacement in pixels, x and y.
Estimator = Callable[[np.ndarray, np.ndarray], np.ndarray]


def to_picture(flow: np.ndarray) -> np.ndarray:
    """Displacements in pixels as they are kept.

    Shape: (H,W,2) -> (H,W,3) uint8.
    """
    picture = np.full((*flow.shape[:2], 3), STILL, dtype=np.uint8)
    values = np.clip(np.nan_to_num(flow), -BOUND, BOUND) * (_STEPS / BOUND)
    picture[..., :2] = np.rint(values) + STILL
    return picture


def from_picture(picture: np.ndarray) -> np.ndarray:
    """The inverse of ``to_picture``, within a twelfth of a pixel.

    Shape: (...,3) uint8 -> (...,2) float32.
    """
    return (picture[..., :2].astype(np.float32) - STILL) * (BOUND / _STEPS)


def mirror(pictures: np.ndarray) -> np.ndarray:
    """Pictures of flow seen in a mirror: columns reversed, and what went right goes left.

    Shape: (...,H,W,3) uint8 -> the same.
    """
    pictures = pictures[..., ::-1, :].copy()
    pictures[..., 0] = np.minimum(2 * STILL - pictures[..., 0].astype(np.int16), 255)
    return pictures


def flow_pictures(frames: Iterable[np.ndarray], estimate: Estimator) -> Iterator[np.ndarray]:
    """One picture per frame, of its way to the next other frame.

    A frame that is shown again (the same array) has the way of the frame it repeats, so that a
    movie of 24 frames on a grid of 30 does not stand still five times a second. The last frame
    goes on as the one before did.
    """
    shown: np.ndarray | None = None
    times = 0
    picture: np.ndarray | None = None
    for frame in frames:
        if frame is shown:
            times += 1
            continue
        if shown is not None:
            picture = to_picture(estimate(shown, frame))
            yield from (picture for _ in range(times))
        shown, times = frame, 1
    if shown is not None:
        if picture is None:
            picture = to_picture(np.zeros((*shown.shape[:2], 2), np.float32))
        yield from (picture for _ in range(times))


def create_estimator(
    method: str, *, weights: str | Path | None = None, device: str = "cpu"
) -> Estimator:
    """An estimator of one of ``METHODS``.

    Args:
        method: "tvl1" (Zach et al. 2007, what the published two-stream networks saw) or
            "farneback", both of OpenCV; "raft" or "raft_small" of torchvision.
        weights: RAFT's file; None takes torchvision's from the cache or the network.
        device: where RAFT runs.

    Raises:
        UserError: an unknown method, OpenCV is not installed, or RAFT's weights do not fit.
    """
    if method not in METHODS:
        raise UserError(f"flow method '{method}' is not one of {', '.join(METHODS)}")
    if method.startswith("raft"):
        return Raft(small=method == "raft_small", weights=weights, device=device)
    if weights is not None:
        raise UserError(f"flow method '{method}' has no weights; leave them out")
    return _tvl1() if method == "tvl1" else _farneback()


def _opencv() -> Any:
    try:
        import cv2
    except ImportError as error:
        raise UserError(
            "OpenCV is not installed: pip install 'avadet[flow]', or use the method raft"
        ) from error
    return cv2


def _tvl1() -> Estimator:
    cv2 = _opencv()
    if not hasattr(getattr(cv2, "optflow", None), "createOptFlow_DualTVL1"):
        raise UserError(
            "this OpenCV has no TV-L1, which is in its contrib part: pip uninstall opencv-python "
            "opencv-python-headless, then pip install 'avadet[flow]'"
        )
    solver = cv2.optflow.createOptFlow_DualTVL1()

    def estimate(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        return solver.calc(_grey(cv2, first), _grey(cv2, second), None)

    return estimate


def _farneback() -> Estimator:
    cv2 = _opencv()

    def estimate(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        # OpenCV's own example values: scale, levels, window, iterations, neighbourhood, sigma.
        return cv2.calcOpticalFlowFarneback(
            _grey(cv2, first), _grey(cv2, second), None, 0.5, 3, 15, 3, 5, 1.2, 0
        )

    return estimate


def _grey(cv2: Any, frame: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)


class Raft:
    """torchvision's RAFT (Teed and Deng, ECCV 2020).

    Raises:
        UserError: the weights cannot be had or do not fit.
    """

    def __init__(
        self, *, small: bool = False, weights: str | Path | None = None, device: str = "cpu"
    ) -> None:
        from torchvision.models import optical_flow

        name = "Raft_Small_Weights" if small else "Raft_Large_Weights"
        path = Path(weights) if weights is not None else _published(getattr(optical_flow, name))
        make = optical_flow.raft_small if small else optical_flow.raft_large
        self.device = torch.device(device)
        self.network = make(weights=None, progress=False)
        _load(self.network, path)
        self.network.to(self.device).eval()

    @torch.inference_mode()
    def __call__(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """(H,W,3) and (H,W,3) uint8 -> (H,W,2) float32."""
        height, width = first.shape[:2]
        pair = torch.from_numpy(np.stack([first, second])).to(self.device)
        x = pair.permute(0, 3, 1, 2).float().div_(127.5).sub_(1)  # (2,3,H,W)
        down, right = (max(-size % 8, _RAFT_SMALLEST - size) for size in (height, width))
        x = F.pad(x, (0, right, 0, down), mode="replicate")
        flow = self.network(x[:1], x[1:])[-1][0, :, :height, :width]
        return flow.permute(1, 2, 0).float().cpu().numpy()


def _published(choices: Any) -> Path:
    """torchvision's weights, from the cache or downloaded."""
    from avadet.convert import zoo
    from avadet.convert.download import download

    url = choices.DEFAULT.url
    target = zoo.cache_folder() / "raft" / url.rpartition("/")[2]
    if not target.is_file():
        _log.info("fetching %s (BSD-3-Clause)", url)
        download(url, target, target.stem.rpartition("-")[2])
    return target


def _load(network: torch.nn.Module, path: Path) -> None:
    from avadet.convert.recognise import unwrap
    from avadet.convert.unpickle import read_checkpoint
    from avadet.models.description import load_state

    if not path.is_file():
        raise UserError(f"{path}: there is no such file of RAFT's weights")
    state, _ = unwrap(read_checkpoint(path)[0], path)
    load_state(network, state, str(path))


def movie_names(places: Sequence[Path], suffixes: Sequence[str]) -> dict[Path, Path]:
    """Movies by their names below the folders given (a file by its own), sorted.

    Raises:
        UserError: a place is missing or holds no movie, or two have movies of one name.
    """
    found: dict[Path, Path] = {}
    for place in places:
        if place.is_dir():
            files = [p for p in sorted(place.rglob("*")) if p.suffix.lower() in suffixes]
            # What a killed process left behind begins with a dot.
            named = {
                path.relative_to(place): path
                for path in files
                if path.is_file() and not path.name.startswith(".")
            }
        elif place.is_file():
            named = {Path(place.name): place}
        else:
            raise UserError(f"{place}: no such movie, and no folder")
        if not named:
            raise UserError(f"{place}: holds no movie ({', '.join(suffixes)})")
        for name, path in named.items():
            if name in found:
                raise UserError(f"two movies are called '{name}': {found[name]}, {path}")
            found[name] = path
    return dict(sorted(found.items()))
