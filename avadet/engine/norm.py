"""Batch norm while training: plain, frozen or synchronised; and precise statistics."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from avadet.engine import distributed
from avadet.errors import UserError

NormMode = Literal["batch", "frozen", "sync"]


def _batch_norms(model: nn.Module) -> list[_BatchNorm]:
    return [module for module in model.modules() if isinstance(module, _BatchNorm)]


def prepare(model: nn.Module, mode: NormMode, device: torch.device) -> nn.Module:
    """Makes the batch norms of ``model`` what ``mode`` says; call before making the optimiser.

    ``frozen`` fixes statistics, scale and shift; ``sync`` takes statistics over all processes.

    Returns:
        The model; a new one only where the model itself is a batch norm.

    Raises:
        UserError: the mode is unknown, or ``sync`` on several processes without GPUs.
    """
    if mode == "frozen":
        for module in _batch_norms(model):
            module.requires_grad_(False)
    elif mode == "sync":
        if distributed.world_size() > 1:
            if device.type != "cuda":
                raise UserError("norm: 'sync' needs GPUs; use 'batch' or 'frozen' on CPU")
            return nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    elif mode != "batch":
        raise UserError(f"unknown norm '{mode}'. Known: batch, frozen, sync")
    return model


def set_training(model: nn.Module, mode: NormMode) -> None:
    """``model.train()`` that leaves frozen batch norms in eval mode."""
    model.train()
    if mode == "frozen":
        for module in _batch_norms(model):
            module.eval()


class _Moments:
    """Count, mean and sum of squared deviations of each channel, merged batch by batch (Chan)."""

    def __init__(self, channels: int) -> None:
        self.count = 0.0
        self.mean = torch.zeros(channels, dtype=torch.float64)
        self.squares = torch.zeros(channels, dtype=torch.float64)

    def add(self, count: float, mean: Tensor, squares: Tensor) -> None:
        if count == 0:
            return
        total = self.count + count
        delta = mean - self.mean
        self.mean = self.mean + delta * (count / total)
        self.squares = self.squares + squares + delta.square() * (self.count * count / total)
        self.count = total


@torch.no_grad()
def precise_statistics(
    model: nn.Module, batches: Iterable[Any], forward: Callable[[Any], Any]
) -> int:
    """Sets running means and variances to those of ``batches`` under the present weights.

    The running averages of training trail behind changing weights; precise statistics do not
    ("Rethinking 'Batch' in BatchNorm", Wu and Johnson 2021, section 3). Each batch norm
    normalises with the batch's own statistics, while those of all batches, of all processes, are
    pooled exactly. Nothing else of the model is in training mode.

    Args:
        forward: runs the model on one batch.

    Returns:
        Number of batches seen by this process. Without batch norms none is drawn.
    """
    norms = [module for module in _batch_norms(model) if module.track_running_stats]
    if not norms:
        return 0
    moments = [_Moments(module.num_features) for module in norms]
    was_training = [(module, module.training) for module in model.modules()]

    def hook_for(pooled: _Moments) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            values = inputs[0].detach().transpose(0, 1).flatten(1).float()  # (C, everything)
            count = float(values.shape[1])
            if count:
                variance, mean = torch.var_mean(values, dim=1, correction=0)
                pooled.add(count, mean.double().cpu(), variance.double().cpu() * count)

        return hook

    handles = []
    count = 0
    kept = [(module.running_mean.clone(), module.running_var.clone()) for module in norms]
    try:
        model.eval()
        for module, pooled in zip(norms, moments):
            module.train()
            handles.append(module.register_forward_pre_hook(hook_for(pooled)))
        for batch in batches:
            forward(batch)
            count += 1
    finally:
        for handle in handles:
            handle.remove()
        for module, training in was_training:
            module.training = training
    for module, pooled, (mean, variance) in zip(norms, moments, kept):
        # Pool over processes; a batch norm that saw nothing keeps what it had.
        parts = distributed.gather_tensors(
            {
                "count": torch.tensor([pooled.count], dtype=torch.float64),
                "mean": pooled.mean,
                "squares": pooled.squares,
            }
        )
        whole = _Moments(module.num_features)
        for part in parts:
            whole.add(float(part["count"]), part["mean"], part["squares"])
        if whole.count > 1:
            mean, variance = whole.mean, whole.squares / (whole.count - 1)
        module.running_mean.copy_(mean)
        module.running_var.copy_(variance)
    return count
