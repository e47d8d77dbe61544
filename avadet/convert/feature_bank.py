"""How MMAction2 names and configures heads with a long-term feature bank (its ``FBOHead``).

The linear layers of its non-local operator are 1x1x1 convolutions, its layer norms have the shape
(C,1,1,1). The operators "max" and "avg" have no tensors; their classifier is as wide as one that
sees the clip's global features beside the person's. Windows are filled up with zeros, which take
part (``masked: false``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from avadet.convert.rules import AFFINE, Adapter, Rule, Table
from avadet.convert.structure import Structure
from avadet.errors import UserError

_FLAT = Adapter(
    "without the axes of a convolution",
    lambda tensor: tensor.reshape(tensor.shape[:2]) if tensor.ndim == 5 else tensor.flatten(),
    lambda tensor: tensor[..., None, None, None],
)
_WORDS = {"st_feat_conv": "query", "lt_feat_conv": "key", "global_conv": "value", "out_conv": "out"}


def _rules(theirs: str = "", ours: str = "") -> tuple[Rule, ...]:
    layer, own = f"{theirs}non_local_layer_{{i}}", f"{ours}layers.{{i-1}}"
    return (
        Rule(f"{theirs}st_feat_conv.weight", f"{ours}person.weight", {}, _FLAT),
        Rule(f"{theirs}st_feat_conv.bias", f"{ours}person.bias"),
        Rule(f"{theirs}lt_feat_conv.weight", f"{ours}entry.weight", {}, _FLAT),
        Rule(f"{theirs}lt_feat_conv.bias", f"{ours}entry.bias"),
        Rule(f"{layer}.{{l}}.conv.weight", f"{own}.{{l}}.weight", {"l": _WORDS}, _FLAT),
        Rule(f"{layer}.{{l}}.conv.bias", f"{own}.{{l}}.bias", {"l": _WORDS}),
        Rule(f"{layer}.ln.{{n}}", f"{own}.norm.{{n}}", {"n": AFFINE}, _FLAT),
    )


NON_LOCAL_BANK = Table(_rules())
BANK_MARK = r"roi_head\.shared_head\.fbo\.st_feat_conv\.weight"
BANK_RULES = _rules("roi_head.shared_head.fbo.", "head.operator.")


def with_bank(structure: Structure, roi_head: Mapping[str, Any]) -> Structure:
    """The structure of a detector once its settings are known: with a bank where they have one.

    Raises:
        UserError: the settings ask for what avadet does not have.
    """
    shared = roi_head.get("shared_head") or {}
    if str(shared.get("type", "")).split(".")[-1] != "FBOHead":
        return structure
    bank, operator = shared.get("lfb_cfg") or {}, dict(shared.get("fbo_cfg") or {})
    kind = operator.get("type", "non_local")
    if not operator.get("pre_activate", True):
        raise UserError("its bank operator activates after its layers, which avadet does not have")
    pools = shared.get("temporal_pool_type", "avg"), shared.get("spatial_pool_type", "max")
    if pools != ("avg", "max"):
        raise UserError(f"its bank head pools persons by {pools}, which avadet does not have")
    seen = structure.head_args if kind == "non_local" else {}
    args = {
        "operator": kind,
        "bank_channels": int(bank.get("lfb_channels", 2048)),
        "window_seconds": int(bank.get("window_size", 60)),
        "max_persons": int(bank.get("max_num_sampled_feat", 5)),
        "masked": False,
    }
    return replace(structure, head="feature_bank", head_args={**args, **seen})


def bank_settings(head_args: Mapping[str, Any]) -> dict[str, Any]:
    """MMAction2's ``shared_head`` of a head with a bank; the inverse of ``with_bank``."""
    channels = head_args.get("bank_channels", 2048)
    window, most = head_args.get("window_seconds", 60), head_args.get("max_persons", 5)
    kind = head_args.get("operator", "non_local")
    operator: dict[str, Any] = {"type": kind}
    if kind == "non_local":
        operator |= {
            "st_feat_channels": channels,
            "lt_feat_channels": channels,
            "latent_channels": head_args.get("latent", 512),
            "num_st_feat": 1,
            "num_lt_feat": int(window * most),
            "num_non_local_layers": head_args.get("layers", 2),
        }
    return {
        "type": "FBOHead",
        "lfb_cfg": {
            "lfb_prefix_path": "data/ava/lfb",
            "max_num_sampled_feat": most,
            "window_size": window,
            "lfb_channels": channels,
        },
        "fbo_cfg": operator,
    }
