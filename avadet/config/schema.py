"""The typed tree of a run. Plain data; ``build.py`` alone turns it into objects.

Times are seconds of the source movie, sides are pixels, lists ``[low, high]`` are inclusive.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_serializer, model_validator

# Strict: neither `true` nor `"8"` is a number.
Real = Annotated[float, Field(strict=True)]
Positive = Annotated[int, Field(strict=True, gt=0)]
NonNegative = Annotated[Real, Field(ge=0)]
PositiveReal = Annotated[Real, Field(gt=0)]
Fraction = Annotated[Real, Field(ge=0, le=1)]


class _Node(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Component(BaseModel):
    """A pluggable part: ``{name: slowfast_r50, alpha: 4}``, every other key an argument."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    args: dict[str, Any] = {}

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"name": value, "args": {}}
        if isinstance(value, dict) and set(value) != {"name", "args"}:
            return {
                **({"name": value["name"]} if "name" in value else {}),
                "args": {key: item for key, item in value.items() if key != "name"},
            }
        return value

    @model_serializer
    def _flatten(self) -> dict[str, Any]:
        return {"name": self.name, **self.args}


class InitConfig(_Node):
    """Where the weights come from before training.

    ``file``: any checkpoint ``avadet convert --inspect`` understands; ``zoo``: a name from
    ``avadet zoo list``; ``inflate``: a 2D ImageNet ResNet or GoogLeNet checkpoint; ``bundled``: a
    file that the package carries.
    """

    source: Literal["none", "file", "zoo", "inflate", "bundled"] = "none"
    path: str | None = None
    name: str | None = None
    arch: str | None = None

    @model_validator(mode="after")
    def _complete(self) -> InitConfig:
        wanted = {"file": "path", "inflate": "path", "zoo": "name", "bundled": "name"}
        key = wanted.get(self.source)
        if key and getattr(self, key) is None:
            raise ValueError(f"source '{self.source}' needs '{key}'")
        return self


class PreprocessingConfig(_Node):
    """How pixels 0..1 are normalised (PySlowFast's values by default)."""

    mean: tuple[Real, Real, Real] = (0.45, 0.45, 0.45)
    std: tuple[PositiveReal, PositiveReal, PositiveReal] = (0.225, 0.225, 0.225)
    channel_order: Literal["rgb", "bgr"] = "rgb"


class ModelConfig(_Node):
    """The network: backbone and head, or a person detector.

    Attributes:
        freeze: ``backbone`` trains the head alone (linear probing); the backbone is then in
            evaluation mode, norms and dropout too.
        norm: batch norms while training: each process's batch, frozen, over all processes (GPUs),
            or over groups of ``norm_clips`` clips of each process's batch (``sub_batch``).
    """

    backbone: Component | None = None
    head: Component = Component(name="roi")
    detector: Component | None = None
    init: InitConfig = InitConfig()
    preprocessing: PreprocessingConfig = PreprocessingConfig()
    freeze: Literal["none", "backbone"] = "none"
    norm: Literal["batch", "frozen", "sync", "sub_batch"] = "batch"
    norm_clips: Positive = 8


class PersonsConfig(_Node):
    """Whose person detector is trained: avadet's own network, or the detectron2 library's with the
    same weights. ``auto`` takes the library where it is installed."""

    engine: Literal["auto", "native", "detectron2"] = "native"


class RandAugmentConfig(_Node):
    """Image operations drawn per clip: ``layers`` of them, each with a level around ``magnitude``
    (0 to 10). The defaults are MViT's."""

    magnitude: Annotated[Real, Field(ge=0, le=10)] = 7
    layers: Positive = 4
    probability: Fraction = 0.5
    deviation: NonNegative = 0.5


class AugmentConfig(_Node):
    """Strong augmentation of whole clips, as the transformers' recipes have it.

    Attributes:
        rand_augment: RandAugment; ``{}`` takes MViT's strength.
        area: range of the share of the area of a random-resized crop, such as [0.08, 1]; null
            keeps the plain random crop. ``aspect`` is its range of width / height.
        erasing: probability of erasing a part of the clip.
    """

    rand_augment: RandAugmentConfig | None = None
    area: tuple[Fraction, Fraction] | None = None
    aspect: tuple[PositiveReal, PositiveReal] = (0.75, 1.3333)
    erasing: Fraction = 0.0

    @model_validator(mode="after")
    def _ordered(self) -> AugmentConfig:
        if self.area is not None and not 0 < self.area[0] <= self.area[1]:
            raise ValueError(f"area: {list(self.area)} is not [low, high] with low above 0")
        if self.aspect[0] > self.aspect[1]:
            raise ValueError(f"aspect: {list(self.aspect)} is not [low, high]")
        return self


class DataConfig(_Node):
    """The data set and how clips are cut from it.

    Attributes:
        movies: folder of movie files, ``<video>.<mp4|mkv|webm|...>``; or of frame folders.
        reader: ``movies``, or ``frames`` for extracted frames.
        modality: ``rgb``, or ``flow`` where ``movies`` are those of ``avadet prepare flow``: the
            backbone then gets two channels, and pixels are scaled so that 20 of motion are 1.
        label_map: class list the model is trained on (all 80 of AVA, or your own).
        train_proposals, val_proposals: person boxes in AVA's CSV format; without the latter the
            ground-truth boxes are scored and the result says so.
        train_groundtruth, val_groundtruth: AVA's CSVs, or Charades' (or PySlowFast's frame lists of
            Charades, which carry labels).
        train_clips, val_clips: CSVs of ``path,label`` for clip classification, beside
            ``classes``, one name a line (Charades_v1_classes.txt for Charades).
        movie_start: second of the source movie at which the file's first frame lies: 0 for whole
            movies, 900 for the 15-minute cuts and for extracted frames; null takes 0 for movies
            and 900 for frames.
        first_second, last_second, keyframe_rate: which keyframes there are.
        proposal_score_threshold: person boxes below it are dropped, in training and in test.
        train_short_side: range of the jittered short side; crop: side of the square crop, or null
            for the whole frame.
        missing_movies: ``error``, or ``skip`` with a count. Of clips and Charades, damaged too.
        feature_bank: folder of a long-term feature bank (`avadet features`) of the training and
            validation movies, for heads that ask one.
        augment: strong augmentation, of labelled clips only (it would move boxes).
        repeats: how often a clip is drawn for one batch, each time augmented anew (repeated
            augmentation, Hoffer et al. 2020); an epoch has that many times more clips.
        cache: decode every movie once and keep the frames in memory at the test size; for
            small data sets.
    """

    movies: str = ""
    reader: Literal["movies", "frames"] = "movies"
    modality: Literal["rgb", "flow"] = "rgb"
    frame_lists: list[str] = []
    label_map: str = ""
    train_groundtruth: str = ""
    train_proposals: str | None = None
    train_excluded: str | None = None
    val_groundtruth: str = ""
    val_proposals: str | None = None
    val_excluded: str | None = None
    train_clips: str = ""
    val_clips: str = ""
    classes: str = ""
    feature_bank: str | None = None

    num_frames: Positive = 32
    frame_stride: Positive = 2
    fps: PositiveReal = 30.0
    movie_start: Real | None = None
    first_second: Real = 902
    last_second: Real = 1798
    keyframe_rate: PositiveReal = 1.0
    proposal_score_threshold: Real = 0.8
    proposal_iou: Fraction = 0.9

    train_short_side: tuple[Positive, Positive] = (256, 320)
    short_side_sampling: Literal["inverse", "uniform"] = "inverse"
    crop: Positive | None = 224
    test_short_side: Positive = 256
    flip: Fraction = 0.5
    color: bool = False
    augment: AugmentConfig = AugmentConfig()
    repeats: Positive = 1
    balance: bool = False
    missing_movies: Literal["error", "skip"] = "error"
    scan_clips: bool = True
    cache: bool = False
    workers: Annotated[int, Field(strict=True, ge=0, le=1024)] = 4

    @model_validator(mode="after")
    def _ordered(self) -> DataConfig:
        low, high = self.train_short_side
        if low > high:
            raise ValueError(f"train_short_side: [{low}, {high}] is not [low, high]")
        if self.crop is not None and self.crop > low:
            raise ValueError(f"crop {self.crop} does not fit in the smallest short side {low}")
        if self.modality == "flow" and self.color:
            raise ValueError("color: optical flow has no colours to change")
        if self.last_second < self.first_second:
            raise ValueError("last_second lies before first_second")
        return self


class MultigridConfig(_Node):
    """Varies the size of clips and batches (Wu et al., CVPR 2020); for tasks clips and charades.

    ``train.epochs`` and ``train.steps`` are those of the plain run that it takes the place of;
    ``epoch_factor`` times as many epochs are seen, in a fraction of the time.
    """

    long_cycle: bool = True
    short_cycle: bool = True
    epoch_factor: PositiveReal = 1.5


class TrainConfig(_Node):
    """Optimisation. Batch size is the number of clips in one optimiser step, over all processes
    and accumulated steps.

    Attributes:
        schedule: ``step`` multiplies the rate by ``factors`` from the epochs ``steps`` on, and is
            what ``steps`` alone mean; ``cosine`` goes down to ``final_lr``.
        bias_weight_decay: of biases outside norms; null takes ``weight_decay``, as the recipes of
            convolutional networks do; those of transformers have 0.
        cosine_after_warmup: the cosine begins at the end of the warm-up (transformers' recipes),
            not at epoch 0 with the warm-up cut into it.
        layer_decay: factor on the learning rate from each layer of the backbone to the one before
            it; 1 for the head (``models.depth``).
        mixup, cutmix: alphas of the Beta distribution; 0 is off; labelled clips only. With both,
            half of the batches get either. ``mix_probability`` is that of a batch to be mixed.
        activation_checkpointing: ``blocks`` computes the inside of the backbone's blocks again in
            the backward pass: a third more computing for a fraction of the memory.
        sharding: ``fsdp2`` keeps a part of the weights, gradients and optimiser state on each of
            several processes, for networks that one GPU cannot train.
        compile: torch.compile of the backbone, with CUDA graphs for ``reduce-overhead``; for
            GPUs. Evaluations, whose clips differ in size, run without.
        box_bucket: boxes of a batch are padded to a multiple of it, so that shapes seldom change.
    """

    epochs: PositiveReal = 20
    batch_size: Positive = 64
    accumulate: Positive = 1
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: PositiveReal = 0.1
    momentum: Fraction = 0.9
    nesterov: bool = True
    weight_decay: NonNegative = 1e-7
    norm_weight_decay: NonNegative = 0.0
    bias_weight_decay: NonNegative | None = None
    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    schedule: Literal["step", "cosine", "constant"] = "constant"
    steps: list[NonNegative] = []
    factors: list[NonNegative] = []
    final_lr: NonNegative = 0.0
    warmup_epochs: NonNegative = 0.0
    warmup_lr: NonNegative = 0.0
    cosine_after_warmup: bool = False
    layer_decay: Annotated[Real, Field(gt=0, le=1)] | None = None
    loss: Component = Component(name="bce")
    mixup: NonNegative = 0.0
    cutmix: NonNegative = 0.0
    mix_probability: Fraction = 1.0
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    activation_checkpointing: Literal["none", "blocks"] = "none"
    sharding: Literal["none", "fsdp2"] = "none"
    compile: Literal[False, True, "reduce-overhead"] = False
    box_bucket: Positive = 1
    clip_grad_norm: PositiveReal | None = None
    ema: Annotated[Real, Field(gt=0, lt=1)] | None = None
    precise_bn_batches: Annotated[int, Field(strict=True, ge=0)] = 0
    eval_every: NonNegative = 1.0
    checkpoint_minutes: PositiveReal = 10.0
    keep_checkpoints: Positive = 2
    max_minutes: PositiveReal | None = None
    max_steps: Positive | None = None
    multigrid: MultigridConfig | None = None

    @model_validator(mode="before")
    @classmethod
    def _steps_are_a_schedule(cls, value: Any) -> Any:
        if isinstance(value, dict) and "schedule" not in value and value.get("steps"):
            return {**value, "schedule": "step"}
        return value

    @model_validator(mode="after")
    def _whole_schedule(self) -> TrainConfig:
        if self.schedule == "step":
            if not self.steps:
                raise ValueError(
                    "schedule 'step' needs steps and factors, such as steps: [0, 10, 15], "
                    "factors: [1, 0.1, 0.01]"
                )
            if len(self.steps) != len(self.factors):
                raise ValueError(
                    f"steps ({len(self.steps)}) and factors ({len(self.factors)}) differ in length"
                )
            if self.steps[0] != 0 or any(a >= b for a, b in pairwise(self.steps)):
                raise ValueError(f"steps: {self.steps} must begin with 0 and rise")
        # Multigrid training stretches the epochs.
        if self.multigrid is None and self.warmup_epochs >= self.epochs:
            raise ValueError(
                f"warmup_epochs: {self.warmup_epochs:g} leaves nothing of {self.epochs:g} epochs"
            )
        return self


class EvalConfig(_Node):
    """Scoring. ``label_map`` names the classes that count (60 on AVA); empty means all.

    ``reach_end`` spreads a clip's views to its very end (PySlowFast's offset sampling);
    ``localize`` scores the 25 points of each Charades video instead of the video as a whole.
    """

    label_map: str = ""
    protocol: Literal["official", "head", "r2019", "r2018", "pyslowfast", "mmaction2"] = "official"
    batch_size: Positive = 1
    temporal_views: Annotated[Positive, Field(le=1000)] = 10
    spatial_crops: Literal[1, 3] = 3
    reach_end: bool = False
    localize: bool = False
    flip: bool = False


class RunConfig(_Node):
    """One run: what ``avadet train`` and ``avadet eval`` work from."""

    task: Literal["ava", "clips", "charades", "persons"] = "ava"
    out: Annotated[str, Field(min_length=1)] = "runs/default"
    seed: Annotated[int, Field(strict=True, ge=0, lt=2**63)] = 0
    device: str = "auto"
    checkpoint: str | None = None
    model: ModelConfig = ModelConfig()
    persons: PersonsConfig = PersonsConfig()
    data: DataConfig = DataConfig()
    train: TrainConfig = TrainConfig()
    eval: EvalConfig = EvalConfig()

    @model_validator(mode="after")
    def _parts(self) -> RunConfig:
        if self.task == "persons":
            if self.model.detector is None:
                raise ValueError("task 'persons' needs model.detector")
        elif self.model.backbone is None:
            raise ValueError(f"task '{self.task}' needs model.backbone")
        if self.train.multigrid is not None:
            if self.task not in ("clips", "charades"):
                raise ValueError("train.multigrid is for the tasks clips and charades")
            if self.data.crop is None:
                raise ValueError("train.multigrid needs data.crop, whose size it varies")
        strong = self.data.augment != AugmentConfig() or self.data.repeats > 1
        if strong and self.task in ("ava", "persons"):
            raise ValueError(
                "data.augment and data.repeats are for whole clips; task "
                f"'{self.task}' has boxes, which would not move along"
            )
        if self.task != "clips" and (self.train.mixup or self.train.cutmix):
            raise ValueError(f"train.mixup, train.cutmix: for the task clips, not '{self.task}'")
        if self.task == "persons" and (self.train.layer_decay or self.model.freeze != "none"):
            raise ValueError("train.layer_decay and model.freeze are for action models")
        if self.train.layer_decay and self.model.freeze != "none":
            raise ValueError("train.layer_decay: a frozen backbone has no learning rate")
        return self
