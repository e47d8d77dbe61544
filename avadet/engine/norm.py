"""Batch norm while training: plain, frozen, synchronised or by groups; precise statistics."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from avadet.engine import distributed
from avadet.errors import UserError

NormMode = Literal["batch", "frozen", "sync", "sub_batch"]


class SubBatchNorm(_BatchNorm):
    """Batch norm over groups of the batch, as if each were a batch of its own.

    A large batch of small clips (multigrid training) would change what batch norm does; groups of
    a fixed number of clips keep it (Wu et al., CVPR 2020: 8 clips). The number of groups follows
    the batch. Scale and shift are shared, and the running statistics are those of all groups
    together, so that weights and their names are those of a plain batch norm, and evaluation is.

    Args:
        num_features: C.
        group_clips: clips in a group, at least; a smaller batch is one group.
    """

    def __init__(self, num_features: int, group_clips: int = 8, **options: Any) -> None:
        super().__init__(num_features, **options)
        if group_clips < 1:
            raise UserError(f"norm_clips: {group_clips} must be at least 1")
        self.group_clips = group_clips

    @classmethod
    def convert(cls, module: nn.Module, group_clips: int) -> nn.Module:
        """``module`` with its batch norms in place of which these stand, holding the same tensors.

        Returns:
            ``module``; a new one only where it is a batch norm itself.
        """
        if isinstance(module, _BatchNorm):
            new = cls(
                module.num_features,
                group_clips,
                eps=module.eps,
                momentum=module.momentum,
                affine=module.affine,
                track_running_stats=module.track_running_stats,
            )
            new._parameters = module._parameters
            new._buffers = module._buffers
            new.training = module.training
            return new
        for name, child in module.named_children():
            setattr(module, name, cls.convert(child, group_clips))
        return module

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim < 2:
            raise ValueError(f"expected (B,C,...), got {tuple(input.shape)}")

    def forward(self, input: Tensor) -> Tensor:
        groups = len(input) // self.group_clips
        if not self.training or groups <= 1:
            return super().forward(input)
        self._check_input_dim(input)
        if self.running_mean is None:
            groups_of = input.tensor_split(groups)
            return torch.cat([super(SubBatchNorm, self).forward(part) for part in groups_of])
        parts, means, variances, counts = [], [], [], []
        for part in input.tensor_split(groups):
            # Momentum 1: what comes back are the group's own statistics.
            mean, variance = (torch.zeros_like(self.running_mean) for _ in range(2))
            parts.append(
                F.batch_norm(part, mean, variance, self.weight, self.bias, True, 1.0, self.eps)
            )
            means.append(mean)
            variances.append(variance)
            counts.append(part.numel() // self.num_features)
        self._update(torch.stack(means), torch.stack(variances), counts)
        return torch.cat(parts)

    @torch.no_grad()
    def _update(self, means: Tensor, variances: Tensor, counts: list[int]) -> None:
        """Moves the running statistics towards those of the whole batch.

        Args:
            means, variances: (groups, C), the variances unbiased.
            counts: values per channel in each group.
        """
        count = torch.tensor(counts, dtype=means.dtype, device=means.device)[:, None]
        total = count.sum()
        mean = (means * count).sum(0) / total
        inside = (variances * (count - 1)).sum(0)
        between = ((means - mean).square() * count).sum(0)
        variance = (inside + between) / (total - 1)
        assert self.num_batches_tracked is not None
        assert self.running_mean is not None
        assert self.running_var is not None
        self.num_batches_tracked.add_(1)
        share = 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance, share)


def _batch_norms(model: nn.Module) -> list[_BatchNorm]:
    return [module for module in model.modules() if isinstance(module, _BatchNorm)]


def prepare(
    model: nn.Module, mode: NormMode, device: torch.device, group_clips: int = 8
) -> nn.Module:
    """Makes the batch norms of ``model`` what ``mode`` says; call before making the optimiser.

    ``frozen`` fixes statistics, scale and shift; ``sync`` takes statistics over all processes;
    ``sub_batch`` over groups of ``group_clips`` clips, see ``SubBatchNorm``.

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
    elif mode == "sub_batch":
        return SubBatchNorm.convert(model, group_clips)
    elif mode != "batch":
        raise UserError(f"unknown norm '{mode}'. Known: batch, frozen, sync, sub_batch")
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
    # Frozen ones are to stay as they were trained.
    norms = [
        module
        for module in _batch_norms(model)
        if module.track_running_stats and (module.weight is None or module.weight.requires_grad)
    ]
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
