"""Operators that ask a long-term feature bank about each person of the clip.

Source: Long-Term Feature Banks (CVPR 2019), section 3.3: non-local with pre-activation and layer
norm, or average or max over the bank. The layers of the first are those of MMAction2's
``FBONonLocal``. Every operator keeps to one protocol: ``forward(persons (N,C), bank (N,L,D), mask
(N,L) or None) -> (N, out_channels)``, whose result is concatenated with the persons' features.

Shapes: N persons of a batch, C their channels, L entries of the bank within each one's window, D
their channels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avadet.errors import UserError
from avadet.registry import Registry

BANK_OPERATORS = Registry("bank operator")


def _check(persons: Tensor, bank: Tensor, mask: Tensor | None) -> None:
    if bank.ndim != 3 or len(bank) != len(persons):
        raise ValueError(f"{len(persons)} persons, but a bank of shape {tuple(bank.shape)}")
    if mask is not None and mask.shape != bank.shape[:2]:
        raise ValueError(f"a mask of shape {tuple(mask.shape)} for a bank of {tuple(bank.shape)}")


class NonLocalLayer(nn.Module):
    """One look of each person at its bank: attention, layer norm, ReLU, linear.

    Parameter names: ``query.*``, ``key.*``, ``value.*``, ``norm.*``, ``out.*``.

    Shape: (N,C), (N,L,C), mask (N,L) -> (N,C), to be added to the persons.
    """

    def __init__(self, channels: int, dropout: float = 0.2, *, zero_init: bool = False) -> None:
        super().__init__()
        self.query = nn.Linear(channels, channels)
        self.key = nn.Linear(channels, channels)
        self.value = nn.Linear(channels, channels)
        self.norm = nn.LayerNorm(channels)
        self.out = nn.Linear(channels, channels)
        self.dropout = nn.Dropout(dropout)
        for layer in (self.query, self.key, self.value, self.out):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(layer.bias)
        if zero_init:
            nn.init.zeros_(self.out.weight)

    def forward(self, persons: Tensor, bank: Tensor, mask: Tensor | None = None) -> Tensor:
        allowed = None if mask is None else mask[:, None]  # (N,1,L)
        seen = F.scaled_dot_product_attention(
            self.query(persons)[:, None], self.key(bank), self.value(bank), attn_mask=allowed
        )[:, 0]
        return self.dropout(self.out(F.relu(self.norm(seen))))


class NonLocalBank(nn.Module):
    """Persons look at the bank ``layers`` times, each time with what they saw before.

    Parameter names: ``person.*`` and ``entry.*`` (into the latent channels), ``layers.{i}.*``.

    Args:
        in_channels: C.
        bank_channels: D.
        latent: channels in between, and of the result.
        layers: 1 to 3 in the paper; 2 in the public weights.
        dropout: after the linear layers.
        zero_init: the layers start as the identity.

    Shape: persons (N,C), bank (N,L,D), mask (N,L) -> (N,latent). ``mask`` is True where the bank
    has an entry; a person without any sees an entry of zeros. Without a mask all entries are seen,
    also those of zeros that fill up windows, as the public weights were trained.
    """

    def __init__(
        self,
        in_channels: int,
        bank_channels: int,
        *,
        latent: int = 512,
        layers: int = 2,
        dropout: float = 0.2,
        zero_init: bool = False,
    ) -> None:
        super().__init__()
        if layers < 1:
            raise UserError(f"layers: a non-local bank needs at least one, not {layers}")
        self.out_channels = latent
        self.person = nn.Linear(in_channels, latent)
        self.entry = nn.Linear(bank_channels, latent)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(
            NonLocalLayer(latent, dropout, zero_init=zero_init) for _ in range(layers)
        )
        for layer in (self.person, self.entry):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(layer.bias)

    def forward(self, persons: Tensor, bank: Tensor, mask: Tensor | None = None) -> Tensor:
        _check(persons, bank, mask)
        if mask is not None:
            # Whoever has no entry sees one of zeros: a softmax over nothing is not a number.
            none = ~mask.any(1, keepdim=True)
            bank = torch.cat(
                [bank * mask[..., None], bank.new_zeros(len(bank), 1, bank.shape[2])], 1
            )
            mask = torch.cat([mask, none], 1)
        x, entries = self.dropout(self.person(persons)), self.dropout(self.entry(bank))
        for layer in self.layers:
            x = x + layer(x, entries, mask)
        return x


class _PooledBank(nn.Module):
    """An operator without parameters.

    Args:
        in_channels: C, of no use here; all operators are made with the same arguments.
        bank_channels: D, which is also the number of channels of the result.

    Shape: persons (N,C), bank (N,L,D), mask (N,L) -> (N,D); zeros where the mask has no entry.
    """

    def __init__(self, in_channels: int, bank_channels: int) -> None:
        super().__init__()
        self.out_channels = bank_channels


class AverageBank(_PooledBank):
    """The mean of the bank's entries."""

    def forward(self, persons: Tensor, bank: Tensor, mask: Tensor | None = None) -> Tensor:
        _check(persons, bank, mask)
        if mask is None:
            return bank.mean(1)
        shown = mask[..., None].to(bank.dtype)
        return (bank * shown).sum(1) / shown.sum(1).clamp(min=1)


class MaxBank(_PooledBank):
    """The largest value of each channel over the bank's entries."""

    def forward(self, persons: Tensor, bank: Tensor, mask: Tensor | None = None) -> Tensor:
        _check(persons, bank, mask)
        if mask is None:
            return bank.amax(1)
        largest = bank.masked_fill(~mask[..., None], float("-inf")).amax(1)
        return torch.where(mask.any(1, keepdim=True), largest, torch.zeros_like(largest))


BANK_OPERATORS.add("non_local", NonLocalBank)
BANK_OPERATORS.add("avg", AverageBank)
BANK_OPERATORS.add("max", MaxBank)
