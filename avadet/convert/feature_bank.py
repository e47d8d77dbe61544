"""How MMAction2 names its non-local bank operator (``FBONonLocal``).

Its linear layers are 1x1x1 convolutions and its layer norms have the shape (C,1,1,1).
"""

from __future__ import annotations

from avadet.convert.rules import AFFINE, Adapter, Rule, Table

_FLAT = Adapter(
    "without the axes of a convolution",
    lambda tensor: tensor.reshape(tensor.shape[:2]) if tensor.ndim == 5 else tensor.flatten(),
    lambda tensor: tensor[..., None, None, None],
)
_WORDS = {"st_feat_conv": "query", "lt_feat_conv": "key", "global_conv": "value", "out_conv": "out"}
NON_LOCAL_BANK = Table(
    (
        Rule("st_feat_conv.weight", "person.weight", {}, _FLAT),
        Rule("st_feat_conv.bias", "person.bias"),
        Rule("lt_feat_conv.weight", "entry.weight", {}, _FLAT),
        Rule("lt_feat_conv.bias", "entry.bias"),
        Rule(
            "non_local_layer_{i}.{l}.conv.weight", "layers.{i-1}.{l}.weight", {"l": _WORDS}, _FLAT
        ),
        Rule("non_local_layer_{i}.{l}.conv.bias", "layers.{i-1}.{l}.bias", {"l": _WORDS}),
        Rule("non_local_layer_{i}.ln.{n}", "layers.{i-1}.norm.{n}", {"n": AFFINE}, _FLAT),
    )
)
