"""``avadet bench memory``: the most memory that scoring and training a clip need.

On a CPU each case runs in a process of its own, whose resident memory is watched; on a GPU it is
what torch's allocator held at most.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from avadet.machine import return_freed_memory

HELP = "peak memory of scoring and of a training step, with and without activation checkpointing"

BASELINE = "training, float32"
CASES = (
    BASELINE,
    "training, auto",
    "training, auto, activation checkpointing",
    "training, pytorchvideo",
    "scoring, as trained",
    "scoring, prepared fp32",
    "scoring, prepared auto",
    "scoring, pytorchvideo",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the bench."""
    from avadet.commands import bench_networks

    bench_networks.add_arguments(parser, repeat=1)
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> int:
    """One table per network; with ``--case`` one measurement, told as JSON."""
    from avadet.commands import bench_networks

    if args.case:
        device = bench_networks.prepare(args)
        print(json.dumps(measure(args, args.networks[0], args.case, device)))
        return 0
    for name in bench_networks.each_network(args):
        _tell(args, name)
    return 0


def _tell(args: argparse.Namespace, name: str) -> None:
    from avadet.commands import bench_table
    from avadet.files import write_json

    rows: list[dict[str, Any]] = []
    shape = ""
    for case in CASES:
        found = [_in_its_own_process(args, name, case) for _ in range(args.repeat)]
        kept = [each["bytes"] for each in found if each["bytes"] is not None]
        if not kept:
            continue
        shape = found[0]["shape"]
        kept.sort()
        middle = kept[len(kept) // 2]
        rows.append({"name": case, "bytes": middle, "lowest": kept[0], "highest": kept[-1]})
    base = next(row["bytes"] for row in rows if row["name"] == BASELINE)
    facts = bench_table.machine()
    if args.json:
        options = {k: str(v) if isinstance(v, Path) else v for k, v in vars(args).items()}
        write_json(
            args.json,
            {"network": name, "shape": shape, "options": options, "machine": facts, "rows": rows},
        )
    print(f"{name}: {shape}; peak memory above that of the process with network and clip")
    print(f"{bench_table.machine_line(facts)}; median of {args.repeat}\n")
    print("| case | MB | lowest-highest | share |\n|---|---:|---:|---:|")
    for row in rows:
        label = f"{row['name']} (baseline)" if row["name"] == BASELINE else row["name"]
        print(
            f"| {label} | {row['bytes'] / 1e6:.0f} | {row['lowest'] / 1e6:.0f}-"
            f"{row['highest'] / 1e6:.0f} | {row['bytes'] / base:.2f} |"
        )
    if not any("pytorchvideo" in row["name"] for row in rows):
        from avadet.commands.bench_networks import MISSING, PAIRS

        print(f"\n{MISSING if name in PAIRS else 'PyTorchVideo has no such network.'}")


def _in_its_own_process(args: argparse.Namespace, name: str, case: str) -> dict[str, Any]:
    words = [sys.executable, "-m", "avadet", "bench", "memory", "--networks", name, "--case", case]
    words += ["--clips", str(args.clips), "--boxes", str(args.boxes), "--device", args.device]
    if args.side:
        words += ["--side", str(args.side)]
    if args.threads:
        words += ["--threads", str(args.threads)]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        from avadet.errors import UserError

        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise UserError(f"{case}: the measurement failed: {last.removeprefix('avadet bench: ')}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def measure(args: argparse.Namespace, name: str, case: str, device: Any) -> dict[str, Any]:
    """Peak bytes of one case above what network, weights and clip take; None without a peer."""
    import torch

    # The first box and the first optimiser bring them in, which would be counted.
    import torch._dynamo
    import torchvision.ops  # noqa: F401

    from avadet.commands import bench_networks, bench_train
    from avadet.engine.inference import prepare_for_inference

    subject = bench_networks.subject(args, name, device, peer="pytorchvideo" in case)
    found: dict[str, Any] = {"bytes": None, "shape": subject.shape}
    if "pytorchvideo" in case and subject.peer is None:
        return found
    if case.startswith("training"):
        steps = bench_train.make_steps(subject, device, recompute="checkpointing" in case)
        titles = list(steps)
        title = {
            BASELINE: bench_train.PLAIN,
            "training, pytorchvideo": bench_train.PEER,
            "training, auto, activation checkpointing": titles[-1],
        }.get(case, next(each for each in titles if each.startswith("avadet, as trained")))
        step = steps.pop(title)
        steps.clear()
        work = step.run
    else:
        precision, model, call = None, subject.model, subject.call
        if case == "scoring, pytorchvideo":
            model, call = subject.peer, subject.call_peer
        elif case.startswith("scoring, prepared"):
            prepared = prepare_for_inference(subject.model, device, case.split()[-1])
            precision, model = prepared.precision, prepared.model

        def work() -> Any:
            with torch.inference_mode():
                if precision is None:
                    return call(model)
                with precision.autocast():
                    return call(model)

    found["bytes"] = _peak(work, device)
    return found


def _peak(work: Any, device: Any) -> int:
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        work()
        torch.cuda.synchronize(device)
        return int(torch.cuda.max_memory_allocated(device) - before)
    with Resident() as watched:
        work()
    return watched.peak - watched.before


class Resident:
    """Watches the resident memory of this process every few milliseconds (Linux).

    The high-water mark of the kernel would count what came before as well.

    Attributes:
        before, peak: bytes.
    """

    def __init__(self, interval: float = 0.002) -> None:
        self.interval = interval
        self.before = self.peak = resident_bytes()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self._stop.is_set():
            self.peak = max(self.peak, resident_bytes())
            time.sleep(self.interval)

    def __enter__(self) -> Resident:
        # What a block would take from freed memory would not be seen.
        return_freed_memory()
        self.before = self.peak = resident_bytes()
        self._thread.start()
        return self

    def __exit__(self, *problem: object) -> None:
        self.peak = max(self.peak, resident_bytes())
        self._stop.set()
        self._thread.join()


def resident_bytes() -> int:
    """Of this process.

    Raises:
        UserError: the system does not tell.
    """
    import os

    from avadet.errors import UserError

    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError as error:
        raise UserError("bench memory on a CPU needs Linux (/proc/self/statm)") from error
    return pages * os.sysconf("SC_PAGE_SIZE")
