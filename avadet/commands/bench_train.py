"""``avadet bench train``: one optimiser step, against plain float32 and PyTorchVideo."""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable
from typing import Any

HELP = "time of a training step: plain float32, as `avadet train` runs it, and PyTorchVideo's"

PLAIN = "avadet, float32, default layout"
PEER = "pytorchvideo, float32"
_CROP = 224


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the bench."""
    from avadet.commands import bench_networks

    bench_networks.add_arguments(parser, repeat=3)
    parser.add_argument("--recompute", action="store_true", help="activation checkpointing as well")
    parser.add_argument(
        "--compile", action="store_true", help="torch.compile as well (minutes to start on a CPU)"
    )


def run(args: argparse.Namespace) -> int:
    """One table per network."""
    from avadet.commands import bench_networks

    device = bench_networks.prepare(args)
    args.side = args.side or _CROP
    for name in bench_networks.each_network(args):
        _measure(args, name, device)
    return 0


def _measure(args: argparse.Namespace, name: str, device: Any) -> None:
    import torch

    from avadet.commands import bench_networks, bench_roofline, bench_table
    from avadet.models.cost import count_flops

    subject = bench_networks.subject(args, name, device)
    steps = make_steps(subject, device, recompute=args.recompute, compiled=args.compile)
    # One step each from the same weights, before anything is timed.
    rounded = rounded_step(subject, steps[PLAIN])
    facts = compare({**steps, "rounded": rounded})
    subject.notes.append(
        "Gradient difference: length of the difference from plain float32's gradient over that "
        "gradient's length. Rounding the weights to bfloat16 alone, everything else in float32, "
        f"makes {facts['rounded']['gradient difference']:.3f}."
    )
    timings = bench_table.interleave(
        {case: step.run for case, step in steps.items()},
        rounds=args.repeat,
        wait=bench_networks.wait_for(device),
    )
    for timing in timings:
        timing.facts.update(facts[timing.name])
    rows = bench_table.rows(timings, PLAIN)
    formats = {case: step.precision.dtype for case, step in steps.items()}
    limits = bench_roofline.ceilings(device, list(dict.fromkeys(formats.values())))
    shape = tuple(subject.video.shape)
    # Forward, and twice as much backward: towards the input and towards the weights.
    adds = 3 * count_flops(subject.model.backbone, shape)
    numbers = 3 * bench_roofline.traffic(subject.model, subject.video)
    lines = bench_roofline.lines(rows, formats, device, limits, multiply_adds=adds, numbers=numbers)
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(device) / 1e9
        subject.notes.append(f"Most memory of all cases together: {peak:.2f} GB")
    bench_table.report(
        f"{name}: a training step, {subject.shape}, {adds / 1e9:.0f} G multiply-adds, SGD with "
        "momentum, no dropout",
        rows,
        baseline=PLAIN,
        args=args,
        notes=[*subject.notes, bench_roofline.told(lines, limits)],
        more={"roofline": lines, "ceilings": limits},
    )


class Step:
    """Forward, loss, backward and update of one case, on the same batch each time."""

    def __init__(
        self,
        model: Any,
        answer: Callable[[Any], Any],
        loss: Callable[[Any], Any],
        precision: Any,
        called: Any = None,
    ) -> None:
        from avadet.engine.optim import create_optimizer

        self.model, self.answer, self.loss, self.precision = model, answer, loss, precision
        # What is called may be another object than what holds the parameters (torch.compile).
        self.called = model if called is None else called
        self.scaler = precision.scaler()
        self.optimizer = create_optimizer(model, "sgd", lr=1e-4)

    def gradients(self) -> float:
        """Forward and backward; returns the loss."""
        self.optimizer.zero_grad(set_to_none=True)
        with self.precision.autocast():
            loss = self.loss(self.answer(self.called).float())
        self.scaler.scale(loss).backward()
        return float(loss.detach())

    def run(self) -> None:
        """What is timed: a whole step with clipping, as the engine does it."""
        from torch import nn

        self.gradients()
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.model.parameters(), float("inf"))
        self.scaler.step(self.optimizer)
        self.scaler.update()


def make_steps(
    subject: Any, device: Any, *, recompute: bool = False, compiled: bool = False
) -> dict[str, Step]:
    """The cases by name; every one has its own copy of the same weights."""
    import torch
    import torch.nn.functional as F

    from avadet.engine.precision import place, resolve
    from avadet.models.recompute import recompute_blocks

    generator = torch.Generator().manual_seed(1)
    classes = subject.model.description.num_classes
    count = len(subject.video) if subject.boxes is None else sum(map(len, subject.boxes))
    if subject.boxes is not None:
        labels = (torch.rand(count, classes, generator=generator) < 0.05).float().to(device)
    else:
        labels = torch.randint(classes, (count,), generator=generator).to(device)

    def loss(logits: Any) -> Any:
        if subject.boxes is not None:
            return F.binary_cross_entropy_with_logits(logits, labels)
        return F.cross_entropy(logits, labels)

    def peer_loss(answer: Any) -> Any:
        if subject.squash == "sigmoid":
            return F.binary_cross_entropy(answer, labels)
        if subject.squash == "softmax":
            return F.nll_loss(answer.log(), labels)
        return loss(answer)

    float32, chosen = resolve("fp32", device), resolve("auto", device)
    steps = {PLAIN: Step(_trainable(subject.model), subject.call, loss, float32)}
    if subject.peer is not None:
        steps[PEER] = Step(_trainable(subject.peer), subject.call_peer, peer_loss, float32)

    def ours(called: Callable[[Any], Any] | None = None, *, again: bool = False) -> Step:
        model = place(_trainable(subject.model), device, chosen)
        if again:
            recompute_blocks(model.backbone)
        return Step(model, subject.call, loss, chosen, called(model) if called else None)

    title = f"avadet, as trained ({chosen.name})"
    steps[title] = ours()
    if recompute:
        steps[f"{title}, activation checkpointing"] = ours(again=True)
    if compiled:
        steps[f"{title}, compiled"] = ours(torch.compile)
    return steps


def rounded_step(subject: Any, plain: Step) -> Step:
    """``plain`` with weights rounded to bfloat16: how much the network itself amplifies."""
    import torch

    model = _trainable(subject.model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.bfloat16())
    return Step(model, plain.answer, plain.loss, plain.precision)


def _trainable(model: Any) -> Any:
    from torch import nn

    model = copy.deepcopy(model).train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model


def compare(steps: dict[str, Step]) -> dict[str, dict[str, float | None]]:
    """Losses and gradients of every case from the same weights.

    Returns:
        ``loss``, ``gradient norm`` and, of our cases, ``gradient difference``: the length of the
        difference from plain float32's gradient over that gradient's length.

    Raises:
        UserError: a gradient is not finite.
    """
    import torch

    from avadet.errors import UserError

    facts: dict[str, dict[str, float | None]] = {}
    exact: dict[str, Any] = {}
    for case, step in steps.items():
        loss = step.gradients()
        scale = step.scaler.get_scale() if step.scaler.is_enabled() else 1.0
        found = {
            name: each.grad.float() / scale
            for name, each in step.model.named_parameters()
            if each.grad is not None
        }
        norm = torch.stack([grad.norm() for grad in found.values()]).norm()
        if not torch.isfinite(norm):
            raise UserError(f"{case}: a gradient is not finite")
        exact = exact or found
        difference = None
        if found.keys() == exact.keys():
            gaps = torch.stack([(found[name] - exact[name]).norm() for name in exact])
            whole = torch.stack([grad.norm() for grad in exact.values()]).norm()
            difference = float(gaps.norm() / whole)
        facts[case] = {
            "loss": loss,
            "gradient norm": float(norm),
            "gradient difference": difference,
        }
        step.optimizer.zero_grad(set_to_none=True)
    return facts
