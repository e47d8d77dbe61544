"""How near a network comes to what the machine can do at all."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

# Square matrices, and the bytes of one copied block: far more than any cache holds.
_SIDE = {"cpu": 2048, "cuda": 8192}
_BLOCK = {"cpu": 2**28, "cuda": 2**30}


def ceilings(device: Any, dtypes: Sequence[Any]) -> dict[str, float]:
    """Measured ceilings: multiply-adds per second of a matrix product, bytes per second of a copy.

    On a CPU per CPU second of one process, as the table's CPU column, so that other work on the
    machine does not lower them; on a GPU per second.

    Returns:
        {"float32": multiply-adds, ..., "memory": bytes}.
    """
    import torch

    found = {}
    side = _SIDE[device.type]
    for dtype in dtypes:
        a = torch.randn(side, side, device=device).to(dtype)
        b = torch.randn(side, side, device=device).to(dtype)
        found[str(dtype).removeprefix("torch.")] = side**3 / _best(lambda a=a, b=b: a @ b, device)
    source = torch.zeros(_BLOCK[device.type] // 4, device=device)
    target = torch.empty_like(source)
    # Read once and written once.
    found["memory"] = 2 * 4 * source.numel() / _best(lambda: target.copy_(source), device)
    return found


def _best(work: Callable[[], Any], device: Any, rounds: int = 7) -> float:
    """The shortest time; a ceiling is what was reached once."""
    import torch

    clock = time.process_time if device.type == "cpu" else time.perf_counter
    times = []
    for _ in range(rounds + 1):
        start = clock()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(clock() - start)
    return max(min(times[1:]), 1e-9)


def traffic(model: Any, video: Any) -> int:
    """Least numbers that one pass of the backbone moves: each convolution's and linear layer's
    input, output and weights once, nothing kept between layers.

    Args:
        model: ours, not prepared.
        video: (B,3,T,H,W); only its shape counts.
    """
    import copy

    import torch
    from torch import nn

    clone = copy.deepcopy(model.backbone).to("meta").eval()
    numbers = 0

    def count(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        nonlocal numbers
        numbers += inputs[0].numel() + output.numel() + module.weight.numel()

    for module in clone.modules():
        if isinstance(module, (nn.Conv3d, nn.Conv2d, nn.Linear)):
            module.register_forward_hook(count)
    with torch.no_grad():
        clone(torch.empty(video.shape, device="meta"))
    return numbers


def lines(
    rows: Sequence[Mapping[str, Any]],
    dtypes: Mapping[str, Any],
    device: Any,
    limits: Mapping[str, float],
    *,
    multiply_adds: float,
    numbers: float,
) -> list[dict[str, Any]]:
    """The cases of a table against the ceilings.

    Args:
        rows: of ``bench_table.rows``; those without a dtype are left out.
        dtypes: what each case computes in.
        limits: of ``ceilings`` on the same device.
        multiply_adds: of one call.
        numbers: moved by one call, see ``traffic``.
    """
    clock = "cpu_seconds" if device.type == "cpu" else "seconds"
    found = []
    for row in rows:
        dtype = dtypes.get(row["name"])
        if dtype is None:
            continue
        name = str(dtype).removeprefix("torch.")
        speed, stream = multiply_adds / row[clock], numbers * dtype.itemsize / row[clock]
        found.append(
            {
                "case": row["name"],
                "multiply_adds_per_s": speed,
                "bytes_per_s": stream,
                "matrix_share": speed / limits[name],
                "memory_share": stream / limits["memory"],
                "dtype": name,
            }
        )
    return found


def told(lines: Sequence[Mapping[str, Any]], limits: Mapping[str, float]) -> str:
    """Ceilings and shares in words."""
    limit = ", ".join(
        f"{name} {value / 1e9:.0f} G multiply-adds/s"
        for name, value in limits.items()
        if name != "memory"
    )
    parts = [f"Ceilings: {limit}, memory {limits['memory'] / 1e9:.1f} GB/s."]
    for each in lines:
        parts.append(
            f"{each['case']}: {each['multiply_adds_per_s'] / 1e9:.0f} G multiply-adds/s, "
            f"{each['matrix_share']:.0%} of the {each['dtype']} ceiling; at least "
            f"{each['bytes_per_s'] / 1e9:.1f} GB/s, {each['memory_share']:.0%} of memory's."
        )
    return "\n".join(parts)
