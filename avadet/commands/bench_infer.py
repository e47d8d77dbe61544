"""``avadet bench infer``: scoring clips, against plain float32 and PyTorchVideo."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

HELP = "time of scoring a clip: as trained, prepared, and PyTorchVideo's network"

PLAIN = "avadet, float32 as trained"
PEER = "pytorchvideo, float32"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the bench."""
    from avadet.commands import bench_networks

    bench_networks.add_arguments(parser)
    parser.add_argument("--steps", action="store_true", help="each measure by itself as well")
    parser.add_argument(
        "--compile", action="store_true", help="torch.compile as well (minutes to start)"
    )


def run(args: argparse.Namespace) -> int:
    """One table per network."""
    from avadet.commands import bench_networks

    device = bench_networks.prepare(args)
    for name in bench_networks.each_network(args):
        _measure(args, name, device)
    return 0


def _measure(args: argparse.Namespace, name: str, device: Any) -> None:
    import torch

    from avadet.commands import bench_networks, bench_roofline, bench_table
    from avadet.engine.inference import prepare_for_inference
    from avadet.errors import UserError
    from avadet.models.cost import count_flops

    subject = bench_networks.subject(args, name, device)
    formats = {PLAIN: torch.float32, PEER: torch.float32}
    cases: dict[str, Callable[[], Any]] = {PLAIN: lambda: subject.call(subject.model)}
    if subject.peer is not None:
        cases[PEER] = lambda: subject.call_peer(subject.peer)
    if args.steps:
        cases |= _steps(subject, device)
    notes = list(subject.notes)
    for wanted in dict.fromkeys(("fp32", "auto")):
        prepared = prepare_for_inference(subject.model, device, wanted)
        if wanted == "auto" and prepared.precision.name == "fp32":
            notes.append("auto is float32 on this processor: it has no fast bfloat16.")
            continue
        case = f"avadet, prepared, {prepared.precision.name}"
        formats[case] = prepared.precision.dtype
        cases[case] = _under(prepared.precision, prepared.model, subject)
        if args.compile:
            compiled = torch.compile(prepared.model)
            formats[f"{case}, compiled"] = prepared.precision.dtype
            cases[f"{case}, compiled"] = _under(prepared.precision, compiled, subject)
        notes.append(f"{case}: {prepared.choice}")
    with torch.inference_mode():
        scores = {case: _scores(case, work(), subject) for case, work in cases.items()}
        if subject.peer is not None:
            gap = float((scores[PEER] - scores[PLAIN]).abs().max())
            # Before anything is timed: both sides must compute the same thing.
            if gap > 1e-3 * max(1.0, float(scores[PEER].abs().max())):
                raise UserError(f"{name}: PyTorchVideo's answers differ from ours by {gap:.2e}")
        timings = bench_table.interleave(
            cases, rounds=args.repeat, wait=bench_networks.wait_for(device)
        )
    baseline = PEER if subject.peer is not None else PLAIN
    for timing in timings:
        gap = (scores[timing.name] - scores[PLAIN]).abs().max()
        timing.facts["largest difference"] = float(gap)
    rows = bench_table.rows(timings, baseline)
    limits = bench_roofline.ceilings(device, list(dict.fromkeys(formats.values())))
    shape = tuple(subject.video.shape)
    adds = count_flops(subject.model.backbone, shape)
    numbers = bench_roofline.traffic(subject.model, subject.video)
    lines = bench_roofline.lines(rows, formats, device, limits, multiply_adds=adds, numbers=numbers)
    bench_table.report(
        f"{name}: {subject.shape}, {adds / 1e9:.1f} G multiply-adds",
        rows,
        baseline=baseline,
        args=args,
        notes=[*notes, bench_roofline.told(lines, limits)],
        more={"roofline": lines, "ceilings": limits},
    )


def _under(precision: Any, model: Any, subject: Any) -> Callable[[], Any]:
    def work() -> Any:
        with precision.autocast():
            return subject.call(model)

    return work


def _scores(case: str, answer: Any, subject: Any) -> Any:
    """What is compared: as PyTorchVideo answers."""
    return answer.float() if case == PEER else subject.comparable(answer)


def _steps(subject: Any, device: Any) -> dict[str, Callable[[], Any]]:
    """The measures one by one, without what they have in common."""
    import copy

    from avadet.engine.precision import place, resolve, use_channels_last
    from avadet.models.folding import fold_norms

    cases: dict[str, Callable[[], Any]] = {}
    float32 = resolve("fp32", device)
    last = copy.deepcopy(subject.model)
    use_channels_last(last)
    cases["channels last, float32"] = _under(float32, last, subject)
    folded = copy.deepcopy(subject.model)
    fold_norms(folded)
    cases["norms folded, float32"] = _under(float32, folded, subject)
    chosen = resolve("auto", device)
    if chosen.name != "fp32":
        for layout, title in ((False, "autocast"), (True, "autocast, channels last")):
            model = place(copy.deepcopy(subject.model), device, chosen, layout)
            cases[f"{chosen.name} {title}"] = _under(chosen, model, subject)
    return cases
