"""Several processes: the only file that talks to ``torch.distributed``.

Every function works without a process group too, as the one process there is. Start several with
``torchrun --nproc-per-node 8 -m avadet train ...``; over machines add ``--nnodes 2
--node-rank 0|1 --master-addr HOST`` (or ``--rdzv-backend c10d --rdzv-endpoint HOST:29500``).

What travels besides gradients is numbers, text and raw tensor bytes (safetensors); nothing is
pickled. These messages go over gloo on the CPU, so that they neither wait for the GPU nor make it
wait.
"""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import safetensors.torch
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from avadet.errors import UserError

# A scoring run on rank 0 keeps the others waiting for minutes; a hang must still end some day.
_TIMEOUT = datetime.timedelta(hours=2)


def start(device_type: str = "cpu") -> None:
    """Joins the process group that ``torchrun`` describes in the environment, if there is one.

    Raises:
        UserError: the environment is incomplete or the others cannot be reached.
    """
    if dist.is_initialized() or share()[1] == 1:
        return
    backend = "cpu:gloo,cuda:nccl" if device_type == "cuda" else "gloo"
    if device_type == "cuda":
        torch.cuda.set_device(local_rank())
    try:
        dist.init_process_group(backend, timeout=_TIMEOUT)
    except (ValueError, RuntimeError) as error:
        raise UserError(
            f"cannot join the other processes ({error}); start with torchrun, or unset WORLD_SIZE"
        ) from error


def stop() -> None:
    """Leaves the process group."""
    if dist.is_initialized():
        dist.destroy_process_group()


@contextmanager
def processes(device_type: str = "cpu") -> Iterator[None]:
    """``start`` and ``stop`` around a block; leaves a group that existed before alone."""
    joined_before = dist.is_initialized()
    start(device_type)
    try:
        yield
    finally:
        if not joined_before:
            stop()


def share() -> tuple[int, int]:
    """(number of this process, how many there are) by the environment, for work that needs no
    group: each takes its share of a list.

    Raises:
        UserError: RANK and WORLD_SIZE make no sense.
    """
    rank, world = _from_environment("RANK", 0), _from_environment("WORLD_SIZE", 1)
    if not 0 <= rank < world:
        raise UserError(f"RANK={rank} is not one of WORLD_SIZE={world} processes")
    return rank, world


def _from_environment(name: str, default: int) -> int:
    text = os.environ.get(name, str(default))
    try:
        return int(text)
    except ValueError as error:
        raise UserError(f"the environment's {name}='{text}' is not a number") from error


def rank() -> int:
    """Number of this process, 0 the main one."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """How many processes work together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def local_rank() -> int:
    """Number of this process on its machine: which GPU is its own."""
    return _from_environment("LOCAL_RANK", 0)


def is_main() -> bool:
    """True for the process that writes files and talks to the user."""
    return rank() == 0


def barrier() -> None:
    """Waits for all processes."""
    if world_size() > 1:
        gather_numbers([0.0])


def gather_numbers(values: list[float]) -> np.ndarray:
    """(world, len(values)) float64: the values of every process, in order of rank."""
    mine = torch.tensor(values, dtype=torch.float64)
    if world_size() == 1:
        return mine[None].numpy()
    gathered = [torch.empty_like(mine) for _ in range(world_size())]
    dist.all_gather(gathered, mine)
    return torch.stack(gathered).numpy()


def sum_tensor(tensor: Tensor) -> Tensor:
    """The sum over the processes of a CPU tensor that has one shape on all."""
    if world_size() == 1:
        return tensor
    total = tensor.clone()
    dist.all_reduce(total)
    return total


def _gather_bytes(payload: bytes) -> list[bytes]:
    sizes = gather_numbers([float(len(payload))])[:, 0].astype(int)
    # all_gather wants one shape: pad to the longest, cut afterwards.
    padded = torch.zeros(int(sizes.max()), dtype=torch.uint8)
    if payload:
        padded[: len(payload)] = torch.frombuffer(bytearray(payload), dtype=torch.uint8)
    gathered = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(gathered, padded)
    return [part[:size].numpy().tobytes() for part, size in zip(gathered, sizes)]


def gather_json(value: Any) -> list[Any]:
    """The plain value (what JSON can hold) of every process, on every process."""
    if world_size() == 1:
        return [value]
    return [json.loads(part) for part in _gather_bytes(json.dumps(value).encode())]


def gather_tensors(tensors: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    """The named CPU tensors of every process, on every process; shapes may differ by rank."""
    if world_size() == 1:
        return [tensors]
    payload = safetensors.torch.save({key: value.contiguous() for key, value in tensors.items()})
    return [safetensors.torch.load(part) for part in _gather_bytes(payload)]


def from_main(value: Any) -> Any:
    """The main process's plain value, on every process; what the others pass is ignored."""
    if world_size() == 1:
        return value
    return gather_json(value if is_main() else None)[0]


@torch.no_grad()
def share_state(model: nn.Module) -> None:
    """Gives every process the main one's parameters and buffers."""
    if world_size() > 1:
        for tensor in model.state_dict().values():
            # Channels-last weights must travel in plain order.
            plain = tensor.detach().contiguous()
            dist.broadcast(plain, src=0)
            tensor.copy_(plain)


def wrap(
    module: nn.Module, device: torch.device, find_unused_parameters: bool = False
) -> nn.Module:
    """``module`` with gradients averaged over the processes; itself where there is one process.

    Batch-norm statistics are the main process's: they are handed out before each forward. A
    sharded module (``shard``) averages by itself.
    """
    if world_size() == 1:
        return module
    if is_sharded(module):
        return _ShardedLoss(module)
    # No device_ids: inputs are batches of our own making, already where they belong.
    return DistributedDataParallel(
        module,
        find_unused_parameters=find_unused_parameters,
        gradient_as_bucket_view=device.type == "cuda",
    )


def without_sync(module: nn.Module) -> Any:
    """Context in which a backward of a wrapped module keeps its gradient to itself."""
    if isinstance(module, DistributedDataParallel):
        return module.no_sync()
    return nullcontext()


class _ShardedLoss(nn.Module):
    """Hands out the main process's buffers before each forward, as DistributedDataParallel does."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        norms = [each for each in module.modules() if isinstance(each, _BatchNorm)]
        self._shared = [buffer for norm in norms for buffer in norm.buffers()]

    def forward(self, *args: Any) -> Any:
        if self.training:
            for buffer in self._shared:
                dist.broadcast(buffer, src=0)
        return self.module(*args)


def shard(model: nn.Module, blocks: Iterable[nn.Module], device: torch.device) -> None:
    """Leaves a part of every parameter on each process (FSDP2, ``fully_shard``), in place.

    Each of ``blocks`` is put together for its own forward and backward pass only, the rest of the
    model for the whole of them. Parameters become new objects of the same names; gradients are
    averaged over the processes. The model must be called by its own ``forward``.

    Raises:
        UserError: this torch has no FSDP2.
    """
    try:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard
    except ImportError as error:
        raise UserError(
            f"train.sharding: fsdp2 needs torch 2.6 or newer, this is {torch.__version__}; set "
            "train.sharding to none"
        ) from error
    mesh = init_device_mesh(device.type, (world_size(),))
    for block in blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)


def is_sharded(module: nn.Module) -> bool:
    """True where ``shard`` has been at work."""
    return any(_is_part(parameter) for parameter in module.parameters())


def _is_part(value: Any) -> bool:
    return isinstance(value, Tensor) and hasattr(value, "full_tensor")


def whole(value: Any, *, main_only: bool = False) -> Any:
    """``value`` with every sharded tensor in it put together; all processes must call it.

    Args:
        value: a tensor, or dictionaries and lists of values; what is not sharded stays the object
            that it is.
        main_only: the others get None in place of each tensor, and the main process its copy on
            the CPU: for checkpoints.
    """
    if isinstance(value, Mapping):
        return {key: whole(item, main_only=main_only) for key, item in value.items()}
    if isinstance(value, list):
        return [whole(item, main_only=main_only) for item in value]
    if not _is_part(value):
        return value
    tensor = value.detach().full_tensor()
    if not main_only:
        return tensor
    return tensor.cpu() if is_main() else None


def part_like(tensor: Tensor, like: Tensor) -> Tensor:
    """This process's part of a whole tensor that every process has, sharded as ``like`` is."""
    if not _is_part(like):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    tensor = tensor.to(like.device)
    # Every process has read the same file: nothing needs to be sent.
    return distribute_tensor(tensor, like.device_mesh, like.placements, src_data_rank=None)
