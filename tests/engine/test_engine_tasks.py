"""Detecting, classifying, and what is told of a run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from engine_tiny import PREPROCESSING, TinyDetector, TinyLoader, make_task, sample
from torch import Tensor, nn

from avadet.data.kinetics import ClassificationBatch, ClassificationSample
from avadet.engine.clip_task import ClipScores, ClipTask, top_accuracy
from avadet.engine.infer import detect_batches, run_detector
from avadet.engine.log import RunLog, duration
from avadet.engine.progress import Progress
from avadet.errors import UserError
from avadet.models.losses import cross_entropy_loss
from avadet.models.preprocess import normalize
from avadet.structures import Batch


def test_detections_are_sorted_and_activated_once() -> None:
    model = TinyDetector()
    batches = [Batch.collate([sample(number) for number in numbers]) for numbers in ([5, 0], [3])]
    options = {"preprocessing": PREPROCESSING, "activation": "sigmoid", "device": "cpu"}
    streamed = list(detect_batches(model, batches, **options))
    assert [each.keyframe for each in streamed] == [sample(n).keyframe for n in (5, 0, 3)]
    assert [len(each) for each in streamed] == [1, 0, 3]
    found = run_detector(model, batches, **options)
    assert [each.keyframe for each in found] == sorted(each.keyframe for each in streamed)
    assert not model.training
    with torch.no_grad():
        logits = model(normalize(sample(3).video[None], PREPROCESSING), [sample(3).boxes_px])
    three = next(each for each in found if each.keyframe == sample(3).keyframe)
    np.testing.assert_allclose(three.scores, logits.sigmoid().numpy(), rtol=1e-6)
    np.testing.assert_array_equal(three.boxes_norm, sample(3).boxes_norm.numpy())
    np.testing.assert_array_equal(three.person_scores, sample(3).box_scores.numpy())
    # A sampler that repeats a clip does not repeat its detections.
    assert len(run_detector(model, batches + batches[:1], **options)) == 3
    assert run_detector(model, [], **options) == []


def test_a_batch_without_labels_cannot_be_learnt_from() -> None:
    given = sample(1)
    bare = Batch([given.keyframe], given.video[None], [given.boxes_px], [given.boxes_norm], None,
                 [given.box_scores])  # fmt: skip
    with pytest.raises(ValueError, match="no labels to learn from: movie1"):
        make_task().loss(bare)


class TinyClassifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 6)

    def forward(self, video: Tensor) -> Tensor:
        return self.fc(video.mean((2, 3, 4)))


def clip(number: int) -> ClassificationSample:
    """View ``number % 2`` of clip ``number // 2``."""
    random = torch.Generator().manual_seed(number)
    video = torch.randint(0, 256, (3, 2, 8, 8), generator=random, dtype=torch.uint8)
    return ClassificationSample(f"clip{number // 2}", number % 2, video, number // 2)


def test_clips_average_the_probabilities_of_their_views() -> None:
    batches = [ClassificationBatch.collate([clip(n) for n in ns]) for ns in ([3, 0], [1, 2])]
    model = TinyClassifier()
    task = ClipTask(
        model, loss=cross_entropy_loss, preprocessing=PREPROCESSING, eval_batches=batches
    )
    results = task.score(model)
    assert results.names == ["clip0", "clip1"]
    assert results.views.tolist() == [2, 2]
    with torch.no_grad():
        video = torch.stack([clip(n).video for n in range(4)])
        each = model(normalize(video, PREPROCESSING)).softmax(1).numpy()
    np.testing.assert_allclose(results.scores, [each[:2].mean(0), each[2:].mean(0)], rtol=1e-6)
    metrics = task.evaluate(model)
    assert list(metrics) == ["top1", "top5"]
    assert task.loss(batches[0]).item() > 0
    assert task.describe(batches[0]) == ["clip1 (view 1)", "clip0 (view 0)"]
    assert task.weight(batches[0]) == 2
    model.fc.bias.data[0] = float("inf")
    with pytest.raises(UserError, match=r"not finite on clip1 \(view 1\), clip0"):
        task.score(model)


def test_top_accuracy_by_hand() -> None:
    scores = np.array(
        [
            [0.1, 0.5, 0.1, 0.1, 0.1, 0.1],  # label 1 is first
            [0.3, 0.2, 0.1, 0.1, 0.2, 0.1],  # label 5: after four better and two equal before it
            [0.2, 0.2, 0.2, 0.2, 0.1, 0.1],  # label 0: first of equals
            [0.2, 0.2, 0.2, 0.2, 0.1, 0.1],  # label 3: fourth of equals
        ]
    )
    results = ClipScores(list("abcd"), np.array([1, 5, 0, 3]), scores, np.ones(4, np.int64))
    assert top_accuracy(results) == {"top1": 0.5, "top5": 0.75}


def test_log_forgets_what_is_trained_again(tmp_path: Path) -> None:
    progress = Progress(batches_per_epoch=4, world_size=1)
    log = RunLog(tmp_path, tensorboard=False)
    for step in range(1, 4):
        progress.step = step
        log.record("train", progress, loss=float(step), empty=float("nan"))
    log.record("eval", progress, mAP=0.5)
    with open(log.path, "a", encoding="utf-8") as file:
        file.write('{"kind": "train", "st')
    log.close()

    def steps() -> list[tuple[str, int]]:
        entries = [json.loads(line) for line in log.path.read_text().splitlines()]
        return [(entry["kind"], entry["step"]) for entry in entries]

    RunLog(tmp_path, tensorboard=False, resume_step=3)
    assert steps() == [("train", 1), ("train", 2), ("train", 3), ("eval", 3)]
    RunLog(tmp_path, tensorboard=False, resume_step=3, redo_evaluation=True)
    assert steps() == [("train", 1), ("train", 2), ("train", 3)]
    RunLog(tmp_path, tensorboard=False, resume_step=2)
    assert steps() == [("train", 1), ("train", 2)]
    assert json.loads(log.path.read_text().splitlines()[0])["empty"] is None
    RunLog(tmp_path, tensorboard=False)
    assert steps() == []
    RunLog(tmp_path / "other", active=False).record("train", progress, loss=1.0)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, "0:00:00"), (3599.6, "1:00:00"), (float("inf"), "?"), (-1, "0:00:00")],
)
def test_duration(seconds: float, expected: str) -> None:
    assert duration(seconds) == expected


def test_tiny_loader_resumes() -> None:
    """The stand-in of these tests keeps the loader's promise itself."""
    loader = TinyLoader()
    rest = [batch.keyframes for batch in loader.epoch(1, 3)]
    assert rest == [batch.keyframes for batch in loader.epoch(1)][3:]
