"""What every bench shares: cases timed in turn, and one table against a named baseline.

Every round runs each case once, so that a machine that slows down slows all of them; a ratio is
the median of the rounds' own ratios. CPU time is told beside wall time, since other work on the
machine changes it less.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from avadet.errors import UserError

Work = Callable[[], Any]


@dataclass
class Timing:
    """One case.

    Attributes:
        name: of the case.
        wall, cpu: seconds of each round; CPU seconds are the process's, over all threads.
        items: clips, frames, ... that one call handles; times are told per item.
        facts: further columns, such as a difference of outputs.
        result: what the last call returned.
    """

    name: str
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    items: float = 1.0
    facts: dict[str, Any] = field(default_factory=dict)
    result: Any = None


@dataclass(frozen=True)
class Child:
    """What a process of its own did; where a case returns it, its CPU time is the case's.

    Attributes:
        output: what it printed.
        cpu: seconds, over all threads.
        peak: most resident bytes.
    """

    output: str
    cpu: float
    peak: int


# A process counts the memory of the one it was forked from as its own peak, so that a small one
# stands between the bench and what is measured.
_LAUNCHER = """
import json, resource, subprocess, sys
code = subprocess.call(sys.argv[1:])
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([code, usage.ru_utime + usage.ru_stime, usage.ru_maxrss]))
"""


def run_child(command: Sequence[str | Path]) -> Child:
    """Runs a command to its end; what it says of errors goes to our own.

    Raises:
        UserError: it failed.
    """
    words = [sys.executable, "-c", _LAUNCHER, *map(str, command)]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
    output, _, last = done.stdout.rstrip("\n").rpartition("\n")
    code, cpu, peak = json.loads(last)
    if code:
        raise UserError(f"a measured process ended with code {code}; see above")
    return Child(output, cpu, peak * (1 if sys.platform == "darwin" else 1024))


def add_arguments(parser: argparse.ArgumentParser, *, repeat: int = 5) -> None:
    """The flags that every bench with a table has."""
    parser.add_argument(
        "--repeat", type=positive, default=repeat, help=f"timed rounds (default {repeat})"
    )
    parser.add_argument("--threads", type=positive, help="CPU threads of torch")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the measurements here")


def positive(text: str) -> int:
    """An integer of at least 1, for argparse."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"'{text}' must be a whole number of at least 1")
    return value


def interleave(
    cases: Mapping[str, Work],
    *,
    rounds: int,
    warmup: int = 1,
    wait: Callable[[], None] | None = None,
    items: Mapping[str, float] | None = None,
) -> list[Timing]:
    """Times all cases, in turn within each round.

    Args:
        cases: by name; the work of one call.
        rounds: timed rounds.
        warmup: rounds before them that do not count.
        wait: called before each clock is read, such as ``torch.cuda.synchronize``.
        items: see ``Timing``; 1 for the cases left out.
    """
    timings = [Timing(name, items=(items or {}).get(name, 1.0)) for name in cases]
    for number in range(-warmup, rounds):
        for timing in timings:
            if wait is not None:
                wait()
            start, busy = time.perf_counter(), time.process_time()
            result = timing.result = cases[timing.name]()
            if wait is not None:
                wait()
            if number >= 0:
                timing.wall.append(time.perf_counter() - start)
                own = time.process_time() - busy
                timing.cpu.append(result.cpu if isinstance(result, Child) else own)
    return timings


def rows(timings: Sequence[Timing], baseline: str) -> list[dict[str, Any]]:
    """The numbers of a table: medians and extremes per item, ratios above 1 where faster.

    Raises:
        ValueError: no case is called ``baseline``.
    """
    base = next((timing for timing in timings if timing.name == baseline), None)
    if base is None:
        raise ValueError(f"there is no case '{baseline}' to compare with")
    found = []
    for timing in timings:
        wall = [seconds / timing.items for seconds in timing.wall]
        found.append(
            {
                "name": timing.name,
                "seconds": statistics.median(wall),
                "lowest": min(wall),
                "highest": max(wall),
                "cpu_seconds": statistics.median(timing.cpu) / timing.items,
                "ratio": _ratio(base.wall, base.items, timing.wall, timing.items),
                "cpu_ratio": _ratio(base.cpu, base.items, timing.cpu, timing.items),
                **timing.facts,
            }
        )
    return found


def _ratio(base: list[float], base_items: float, other: list[float], items: float) -> float:
    """Median over the rounds; a clock too coarse to see the work counts as its tick."""
    tick = 1e-9
    pairs = zip(base, other, strict=True)
    return statistics.median((a / base_items) / (max(b, tick) / items) for a, b in pairs)


def markdown(
    found: Sequence[Mapping[str, Any]], *, baseline: str, case: str = "case", unit: str = "ms"
) -> str:
    """A markdown table.

    Args:
        found: ``rows``; further keys become further columns, in the order met.
        case: title of the first column.
        unit: "ms" or "s".
    """
    scale = 1e3 if unit == "ms" else 1.0
    known = ("name", "seconds", "lowest", "highest", "cpu_seconds", "ratio", "cpu_ratio")
    extra = list(dict.fromkeys(key for row in found for key in row if key not in known))
    heads = [case, f"{unit}, median", "lowest-highest", "ratio", f"CPU {unit}", "CPU ratio", *extra]
    lines = [f"| {' | '.join(heads)} |", "|---|" + "---:|" * (len(heads) - 1)]
    for row in found:
        name = f"{row['name']} (baseline)" if row["name"] == baseline else row["name"]
        cells = [
            name,
            _number(row["seconds"] * scale),
            f"{_number(row['lowest'] * scale)}-{_number(row['highest'] * scale)}",
            f"{row['ratio']:.2f}",
            _number(row["cpu_seconds"] * scale),
            f"{row['cpu_ratio']:.2f}",
            *(_cell(row.get(key)) for key in extra),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _number(value: float) -> str:
    """Three figures, never an exponent."""
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}" if value >= 0.01 else f"{value:.4f}"


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.2e}" if value and abs(value) < 0.01 else f"{value:.4g}"
    return str(value)


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    import torch

    amx = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)()
    bf16 = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "bfloat16": "AMX" if amx else "AVX512-BF16" if bf16 else "none",
        "gpu": gpu,
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "torch": str(torch.__version__),
        "python": platform.python_version(),
    }


def _cpu_name() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    names = [line.partition(":")[2].strip() for line in text.splitlines() if "model name" in line]
    return names[0] if names else platform.processor() or platform.machine()


def machine_line(facts: Mapping[str, Any]) -> str:
    """``machine`` in one line."""
    return (
        f"{facts['cpu']}, {facts['cores']} cores (bfloat16: {facts['bfloat16']}), "
        f"{facts['gpu'] or 'no GPU'}, {facts['threads']} threads, load {facts['load']}, "
        f"torch {facts['torch']}, Python {facts['python']}"
    )


def report(
    title: str,
    found: Sequence[Mapping[str, Any]],
    *,
    baseline: str,
    args: argparse.Namespace,
    notes: Sequence[str] = (),
    case: str = "case",
    unit: str = "ms",
    more: Mapping[str, Any] | None = None,
) -> None:
    """Prints title, machine, table and notes; writes ``args.json`` first, where it is given.

    Args:
        found: ``rows``.
        notes: what did not run and why; further results in words.
        more: further plain values for the JSON file.
    """
    from avadet.files import write_json

    facts = machine()
    if args.json:
        write_json(
            args.json,
            {
                "title": title,
                "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
                "options": {k: str(v) if isinstance(v, Path) else v for k, v in vars(args).items()},
                "machine": facts,
                "baseline": baseline,
                "rows": [dict(row) for row in found],
                "notes": list(notes),
                **(more or {}),
            },
        )
    print(f"{title}\n{machine_line(facts)}; median of {args.repeat} rounds, cases in turn\n")
    print(markdown(found, baseline=baseline, case=case, unit=unit))
    for note in notes:
        print(f"\n{note}")
