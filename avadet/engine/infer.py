"""Running an action detector over batches, on one process or several."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from avadet.engine import distributed
from avadet.engine.precision import Precision
from avadet.errors import UserError
from avadet.models.heads import activate
from avadet.models.preprocess import Preprocessing, normalize
from avadet.structures import Batch, Detections, Keyframe


def checked(scores: Tensor, names: Sequence[str]) -> Tensor:
    """``scores``, which must be numbers; ``names`` says of which clips they are.

    Raises:
        UserError: a score is not finite.
    """
    if not torch.isfinite(scores).all():
        shown = ", ".join(names[:16]) + (f" and {len(names) - 16} more" if len(names) > 16 else "")
        raise UserError(
            f"the model gives scores that are not finite on {shown}; its weights are damaged, or "
            "the precision is too low (try fp32)"
        )
    return scores


def detect_batch(
    model: nn.Module,
    batch: Batch,
    *,
    preprocessing: Preprocessing,
    activation: str,
    device: torch.device | str,
    precision: Precision | None = None,
) -> list[Detections]:
    """Scores of one batch, one result per keyframe, in the order of the batch.

    Args:
        model: ``ActionDetector``, placed on ``device`` (``precision.place``), in eval mode.
        precision: None leaves the surrounding autocast as it is.

    Raises:
        UserError: a score is not finite.
    """
    moved = batch.to(device)
    with torch.no_grad():
        video = normalize(moved.video, preprocessing)
        if precision is None:
            logits = model(video, moved.boxes_px, *moved.bank_inputs)
        else:
            with precision.autocast():
                logits = model(video, moved.boxes_px, *moved.bank_inputs)
    names = [str(each) for each in batch.keyframes]
    scores = checked(activate(logits, activation).cpu(), names)
    counts = [len(boxes) for boxes in batch.boxes_norm]
    return [
        Detections(
            keyframe=keyframe,
            boxes_norm=boxes.numpy(),
            person_scores=person_scores.numpy(),
            scores=part.numpy(),
        )
        for keyframe, boxes, person_scores, part in zip(
            batch.keyframes, batch.boxes_norm, batch.box_scores, scores.split(counts)
        )
    ]


def detect_batches(
    model: nn.Module,
    batches: Iterable[Batch],
    *,
    preprocessing: Preprocessing,
    activation: str,
    device: torch.device | str,
    precision: Precision | None = None,
) -> Iterator[Detections]:
    """``detect_batch`` over a stream, in its order, of this process alone.

    Puts the model into eval mode.
    """
    model.eval()
    for batch in batches:
        yield from detect_batch(
            model,
            batch,
            preprocessing=preprocessing,
            activation=activation,
            device=device,
            precision=precision,
        )


def run_detector(
    model: nn.Module,
    batches: Iterable[Batch],
    *,
    preprocessing: Preprocessing,
    activation: str,
    device: torch.device | str,
    precision: Precision | None = None,
    progress: bool = True,
) -> list[Detections]:
    """Scores of a whole data set on every process, each keyframe once, sorted by keyframe.

    Each process passes its own share of the batches. Where samplers give a keyframe to several
    processes to even out their number, the result of the lowest rank counts. So what is written
    from it is the same for any number of processes, as long as the batches are made of the same
    clips.

    Raises:
        UserError: a score is not finite.
    """
    shown = tqdm(
        batches,
        desc="scoring",
        unit="batch",
        disable=None if progress and distributed.is_main() else True,
        leave=False,
    )
    found = detect_batches(
        model,
        shown,
        preprocessing=preprocessing,
        activation=activation,
        device=device,
        precision=precision,
    )
    return gather_detections(list(found))


def gather_detections(mine: Sequence[Detections]) -> list[Detections]:
    """The detections of all processes, each keyframe once, sorted by keyframe."""
    unique: dict[Keyframe, Detections] = {}
    for part in distributed.gather_tensors(_pack(mine)):
        for detections in _unpack(part):
            unique.setdefault(detections.keyframe, detections)
    return [unique[keyframe] for keyframe in sorted(unique)]


def _pack(detections: Sequence[Detections]) -> dict[str, Tensor]:
    """Few long tensors: per keyframe its movie, second and count, per box its numbers."""
    videos = json.dumps([each.keyframe.video for each in detections]).encode()
    classes = max((each.scores.shape[1] for each in detections), default=0)

    def joined(parts: list[np.ndarray], width: int) -> Tensor:
        empty = np.zeros((0, width), np.float32)
        return torch.from_numpy(np.concatenate([empty, *parts]).astype(np.float32))

    scores = [each.scores.reshape(-1, classes) if classes else each.scores for each in detections]
    return {
        "videos": torch.frombuffer(bytearray(videos), dtype=torch.uint8),
        "seconds": torch.tensor([each.keyframe.second for each in detections], dtype=torch.float64),
        "counts": torch.tensor([len(each) for each in detections], dtype=torch.int64),
        "boxes_norm": joined([each.boxes_norm for each in detections], 4),
        "person_scores": joined([each.person_scores[:, None] for each in detections], 1),
        "scores": joined(scores, classes) if classes else torch.zeros(0, 0),
    }


def _unpack(tensors: dict[str, Tensor]) -> Iterator[Detections]:
    videos = json.loads(tensors["videos"].numpy().tobytes())
    counts = tensors["counts"].tolist()
    scores = tensors["scores"]
    parts = scores.split(counts) if scores.shape[1] else [scores] * len(counts)
    for video, second, boxes, person_scores, part in zip(
        videos,
        tensors["seconds"].tolist(),
        tensors["boxes_norm"].split(counts),
        tensors["person_scores"][:, 0].split(counts),
        parts,
    ):
        yield Detections(
            keyframe=Keyframe(video, second),
            boxes_norm=boxes.numpy(),
            person_scores=person_scores.numpy(),
            scores=part.numpy(),
        )
