"""From a config to what the training loop takes: the task, its loader, optimiser and schedule."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avadet.config import RunConfig
from avadet.errors import UserError
from avadet.machine import return_freed_memory, usable_cores

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Parts:
    """A task and the batches it learns from."""

    task: Any
    loader: Any


def batch_per_process(config: RunConfig, world_size: int) -> int:
    """Clips per process and forward pass; ``train.batch_size`` counts all of one step.

    Raises:
        UserError: the batch does not divide.
    """
    shares = world_size * config.train.accumulate
    size, rest = divmod(config.train.batch_size, shares)
    if rest or not size:
        raise UserError(
            f"train.batch_size: {config.train.batch_size} is not a multiple of "
            f"{world_size} processes x {config.train.accumulate} accumulated steps"
        )
    return size


def assemble(config: RunConfig) -> Parts:
    """The task of a config with its data."""
    makers = {"ava": _ava, "clips": _clips, "charades": _charades, "persons": _persons}
    return makers[config.task](config)


def _workers(config: RunConfig) -> int:
    """More decoding processes than cores only wait for one another."""
    return min(config.data.workers, usable_cores())


def _loader(config: RunConfig, dataset: Any, *, train: bool) -> Any:
    from avadet.build import build_multigrid
    from avadet.data.loader import build_loader
    from avadet.engine import distributed
    from avadet.engine.precision import default_device

    world = distributed.world_size()
    return build_loader(
        dataset,
        batch_per_process(config, world) if train else config.eval.batch_size,
        train=train,
        num_workers=_workers(config),
        seed=config.seed,
        rank=distributed.rank(),
        world_size=world,
        balance=config.data.balance,
        multigrid=build_multigrid(config) if train else None,
        accumulate=config.train.accumulate,
        repeats=config.data.repeats,
        pin_memory=default_device(config.device).type == "cuda",
    )


def build_test_loader(config: RunConfig, dataset: Any) -> Any:
    """This process's share of a test set, every sample once."""
    from avadet.data.movie_order import MovieOrderLoader
    from avadet.engine import distributed
    from avadet.engine.precision import default_device

    if config.task != "ava" or config.data.cache:
        return _loader(config, dataset, train=False)
    return MovieOrderLoader(
        dataset,
        config.eval.batch_size,
        num_workers=_workers(config),
        rank=distributed.rank(),
        world_size=distributed.world_size(),
        pin_memory=default_device(config.device).type == "cuda",
    )


def _ava(config: RunConfig) -> Parts:
    from avadet import build
    from avadet.engine.ava_task import AvaTask
    from avadet.engine.scoring import frame_map_evaluator

    classes = build.read_classes(config)
    # Before the network, so that the memory for reading millions of rows is not needed beside it.
    training = build.build_ava(config, classes, train=True)
    test = None
    if config.data.val_groundtruth:
        test = build.build_ava(config, classes, train=False)
    return_freed_memory()
    model = build.build_model(config, classes)
    build.initialise(model, config)
    bank = build.open_bank(model, config.data.feature_bank)
    build.note_bank(model, bank)
    training.ask(bank)
    log.info("training: %s", training.summary())
    if test is not None:
        test.ask(bank)
        boxes = "detected" if config.data.val_proposals else "ground-truth"
        log.info("test, %s boxes: %s", boxes, test.summary())
    task = AvaTask(
        model,
        loss=build.build_loss(config),
        preprocessing=model.description.preprocessing,
        box_bucket=config.train.box_bucket,
        activation=model.description.activation,
        eval_batches=None if test is None else build_test_loader(config, test),
        evaluator=None
        if test is None
        else frame_map_evaluator(
            Path(config.out) / "detections.csv",
            groundtruth=config.data.val_groundtruth,
            class_ids=classes.ids,
            label_map=config.eval.label_map or config.data.label_map or None,
            excluded=config.data.val_excluded,
            protocol=config.eval.protocol,
        ),
    )
    return Parts(task, _loader(config, training, train=True))


def _clips(config: RunConfig) -> Parts:
    from avadet import build
    from avadet.commands.clip_data import open_clips
    from avadet.engine.clip_task import ClipTask

    classes = build.read_classes(config)
    model = build.build_model(config, classes)
    build.initialise(model, config)
    training = open_clips(config, classes, train=True)
    log.info("training: %s", training.summary())
    test = None
    if config.data.val_clips:
        scale = model.description.preprocessing.test_scale(config.eval.spatial_crops)
        test = open_clips(config, classes, train=False, test_scale=scale)
    task = ClipTask(
        model,
        loss=build.build_loss(config),
        preprocessing=model.description.preprocessing,
        activation=model.description.activation,
        eval_batches=None if test is None else build_test_loader(config, test),
        mixing=_mixing(config, len(classes)),
    )
    return Parts(task, _loader(config, training, train=True))


def _mixing(config: RunConfig, num_classes: int) -> Any:
    from avadet.engine.mixing import Mixing

    train = config.train
    if not (train.mixup or train.cutmix):
        return None
    return Mixing(num_classes, train.mixup, train.cutmix, train.mix_probability)


def _charades(config: RunConfig) -> Parts:
    from avadet import build
    from avadet.commands.clip_data import open_charades

    classes = build.read_classes(config)
    model = build.build_model(config, classes)
    build.initialise(model, config)
    training = open_charades(config, classes, train=True)
    log.info("training: %s", training.summary())
    task = charades_task(config, model, classes, tested=bool(config.data.val_groundtruth))
    return Parts(task, _loader(config, training, train=True))


def charades_task(
    config: RunConfig,
    model: Any,
    classes: Any,
    *,
    tested: bool = True,
    localize: bool = False,
    folder: str | Path | None = None,
) -> Any:
    """Charades' task; with its test set where ``tested``."""
    from avadet import build
    from avadet.commands.clip_data import open_charades
    from avadet.engine.charades_task import CharadesTask

    test = None
    if tested:
        test = open_charades(config, classes, train=False, localize=localize)
        log.info("test: %s", test.summary())
    kind = "localize" if localize else "classify"
    return CharadesTask(
        model,
        loss=build.build_loss(config),
        preprocessing=model.description.preprocessing,
        activation=model.description.activation,
        eval_batches=None if test is None else build_test_loader(config, test),
        annotated=() if test is None else test.annotated,
        num_classes=len(classes),
        spatial_crops=config.eval.spatial_crops,
        localize=localize,
        scores_path=Path(folder or config.out) / f"charades_{kind}.txt",
    )


def _persons(config: RunConfig) -> Parts:
    from avadet import build

    model = build.build_person_detector(config)
    training = build.build_person_pictures(config, train=True)
    held_out = build.build_person_pictures(config, train=False)
    log.info("training: %d pictures; test: %d", len(training), len(held_out or ()))
    return Parts(
        build.build_person_task(config, model, held_out), _loader(config, training, train=True)
    )


def build_optimizer(config: RunConfig, model: Any) -> tuple[Any, Any]:
    """(optimiser, learning-rate schedule)."""
    from avadet.build import build_multigrid
    from avadet.engine.optim import create_optimizer
    from avadet.engine.precision import default_device
    from avadet.engine.schedule import create_schedule
    from avadet.models.depth import layer_scales

    train = config.train
    optimizer = create_optimizer(
        model,
        train.optimizer,
        lr=train.lr,
        weight_decay=train.weight_decay,
        norm_weight_decay=train.norm_weight_decay,
        bias_weight_decay=train.bias_weight_decay,
        momentum=train.momentum,
        nesterov=train.nesterov,
        betas=train.betas,
        # Sharded parameters become other objects, which the fused kernels were not tried on.
        fused=default_device(config.device).type == "cuda" and train.sharding == "none",
        lr_scales=layer_scales(model, train.layer_decay) if train.layer_decay else None,
    )
    cycles = build_multigrid(config)
    by_cycles = cycles is not None and train.schedule == "step"
    schedule = create_schedule(
        train.schedule,
        lr=train.lr,
        epochs=train.epochs if cycles is None else cycles.epochs,
        steps=cycles.steps if by_cycles else train.steps,
        factors=cycles.factors if by_cycles else train.factors,
        final_lr=train.final_lr,
        warmup_epochs=train.warmup_epochs,
        warmup_lr=train.warmup_lr,
        cosine_after_warmup=train.cosine_after_warmup,
    )
    return optimizer, schedule


def compile_backbone(model: Any, mode: Any) -> None:
    """Compiles the backbone, whose shapes the crop fixes; the head's change with the boxes.

    Raises:
        UserError: the network has no backbone apart.
    """
    if not hasattr(model, "backbone") or not hasattr(model, "head"):
        raise UserError("train.compile: for action networks; person detectors change shape")
    model.backbone.compile(mode=None if mode is True else mode, dynamic=False)
    log.info("the backbone is compiled in the first steps, which takes minutes")


def tell_changes(written: Path, config: RunConfig) -> None:
    """Says in what a run goes on differently from the config that it left in its folder."""
    from avadet.config import changes, load_config

    try:
        before = load_config(written)
    except UserError as error:
        log.warning("the settings before cannot be read, any change is taken: %s", error)
        return
    for change in changes(before, config):
        log.warning("goes on with another setting: %s", change)


def train(config: RunConfig, *, resume: bool) -> Any:
    """Trains what a config describes; returns the engine's ``FitResult``."""
    import torch

    from avadet import build
    from avadet.config import dump
    from avadet.engine import checkpoint, distributed
    from avadet.engine.precision import default_device
    from avadet.engine.train import fit
    from avadet.files import write_text
    from avadet.models.freeze import freeze
    from avadet.models.recompute import recompute_blocks

    if not resume:
        # Before anything is written: what the folder tells of its run stays true.
        checkpoint.check_unused(config.out)
    build.validate(config)
    device = default_device(config.device, distributed.local_rank())
    with distributed.processes(device.type):
        torch.manual_seed(config.seed)
        parts = assemble(config)
        if config.train.activation_checkpointing == "blocks":
            count = recompute_blocks(getattr(parts.task.model, "backbone", parts.task.model))
            log.info("%d blocks are computed again in the backward pass", count)
        if config.train.compile:
            compile_backbone(parts.task.model, config.train.compile)
        if config.model.freeze == "backbone":
            freeze(parts.task.model.backbone)
            log.info("the backbone is frozen; the head alone is trained")
        optimizer, schedule = build_optimizer(config, parts.task.model)
        if distributed.is_main():
            written = Path(config.out) / "config.yaml"
            if resume and written.is_file():
                tell_changes(written, config)
            write_text(written, dump(config))
        settings = config.train
        cycles = build.build_multigrid(config)
        if cycles is not None:
            build.check_multigrid(parts.task.model.description, cycles)
            log.info("multigrid: %d epochs in place of %g", cycles.epochs, settings.epochs)
        return fit(
            parts.task,
            parts.loader,
            optimizer,
            schedule,
            epochs=settings.epochs if cycles is None else cycles.epochs,
            run_dir=config.out,
            device=device,
            precision=settings.precision,
            norm=config.model.norm,
            norm_clips=config.model.norm_clips,
            sharding=settings.sharding,
            accumulate=settings.accumulate,
            clip_grad_norm=settings.clip_grad_norm,
            ema_decay=settings.ema,
            precise_bn_batches=settings.precise_bn_batches,
            eval_every=settings.eval_every,
            checkpoint_minutes=settings.checkpoint_minutes,
            keep_checkpoints=settings.keep_checkpoints,
            resume=resume,
            max_steps=settings.max_steps,
            max_minutes=settings.max_minutes,
            seed=config.seed,
            label=config.task,
        )
