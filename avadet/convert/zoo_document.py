"""docs/zoo.md, written from the rows: ``python -m avadet.convert.zoo_document > docs/zoo.md``."""

from __future__ import annotations

from typing import Any

from avadet.convert import architectures, model_table, zoo
from avadet.convert.zoo import ZooRow

_INTRO = """# Public checkpoints

`avadet zoo list` shows these rows, `avadet zoo get NAME` fetches a file (resumable) into
`$AVADET_CACHE` (default `~/.cache/avadet`), and every place that takes weights takes a NAME:

```
avadet zoo get slowfast_r101_8x8_nl_ava22
avadet demo MOVIE --weights slowfast_r101_8x8_nl_ava22
avadet convert --inspect slowfast_r101_8x8_nl_ava22
```

In Python: `avadet.load_model("slowfast_r101_8x8_nl_ava22")`. Without a connection, fetch the file
elsewhere and put it where the error says. Nothing in a file is ever run: see below.

Numbers are the publishers' own, in per cent, by the protocol named; they were not measured again
here. They compare only within one protocol: MMAction2 scores AVA on annotated keyframes alone,
which is easier. The checksum is the part of the SHA-256 that the publisher puts into the file
name; where there is none, the first download is recorded and later ones must equal it. A row
without architecture can be fetched; its family of networks is not in avadet yet, or it is a
backbone to start from.

## How a file is recognised

1. The format is told by content: torch's zip and older files, pickles (Caffe2, also of Python 2),
   safetensors. They are read by an interpreter of avadet's own that builds tensors, arrays,
   numbers, text and containers, and knows no way to call anything; sizes, depth and the amount of
   data are bounded.
2. The names of the tensors tell the source, their shapes tell depth, temporal kernels, lateral
   kernel, non-local blocks and head.
3. What shapes do not show (RoIAlign's `aligned`, alpha, frames, strides or dilation, pools,
   means) comes from `--arch NAME`, else from the settings inside the file, else from the file's
   name (publishers' names are known), else from there being one published network only. If
   several remain, the error lists them and in what they differ.
4. Every tensor must find its place and every parameter its tensor; otherwise one error lists all
   that do not.

`avadet convert SRC DST.safetensors` writes avadet's own file; `--to pyslowfast` and `--to
mmaction2` write theirs, and refuse what these cannot express.

## Names

`{backbone}_{frames}x{stride}[_variant]_{data set}[_{source}]`: frames and stride of the Slow
pathway as the papers write them; variants `nl` (non-local blocks), `nopool`, `context`, `tmax`
(temporal max pool), `mlp`, `acrn`, `lfb_nl`, `lfb_max`, `lfb_avg` (long-term feature bank, see
[data.md](data.md)); a source is named where the network or the file differs from PySlowFast's.
"""


def document() -> str:
    """The whole text."""
    parts = [_INTRO]
    for title, words in (
        ("AVA", ("ava21", "ava22", "avak")),
        ("Charades", ("charades",)),
        ("Kinetics", ("k400", "k600", "k700", "k710")),
        ("Others, to start from", ()),
    ):
        rows = [row for row in zoo.rows().values() if _section(row) == words]
        parts.append(f"## {title}\n\n{_table(sorted(rows, key=lambda row: row.name))}")
    parts.append("## Architectures\n\n" + _architectures())
    parts.append("## Backbones\n\n" + _backbones())
    return "\n".join(parts)


def _section(row: ZooRow) -> tuple[str, ...]:
    parts = row.name.split("_")
    for words in (("ava21", "ava22", "avak"), ("charades",), ("k400", "k600", "k700", "k710")):
        if any(word in parts for word in words) and row.published:
            return words
    return ()


def _table(rows: list[ZooRow]) -> str:
    lines = [
        "| name | published | protocol | pretraining | source | licence | SHA-256 | loads |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        numbers = ", ".join(f"{key} {value:g}" for key, value in row.published.items())
        licence = f"**{row.licence}**" if row.non_commercial else row.licence
        checksum = f"{row.sha256_prefix}..." if row.sha256_prefix else ""
        cells = (
            f"`{row.name}`",
            numbers,
            row.protocol,
            row.pretrain,
            f"[{row.source}]({row.url})",
            licence,
            checksum,
            "yes" if row.arch else "to start from" if "start from" in row.note else "",
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _architectures() -> str:
    lines = [
        "`avadet.create_model(NAME)` makes these; `--arch` takes the name or any alias. Parameters "
        "are the whole model's; GFLOPs are the backbone's, one per multiply-add, for one clip of "
        "the frames and the side given, and leave norms and activations out.\n",
        "| name | task | classes | clip | params (M) | GFLOPs | published | switches | aliases |",
        "|---|---|---|---|---:|---:|---|---|---|",
    ]
    for row in model_table.rows():
        if row["task"] == "backbone":
            continue
        each = architectures.get(row["name"])
        what = each.description
        clip = what.preprocessing
        switches = {**what.backbone_args, **what.head_args}
        shown = ", ".join(f"{key} {_short(value)}" for key, value in switches.items())
        cells = (
            f"`{each.name}`",
            what.task,
            str(what.num_classes),
            f"{clip.num_frames}x{clip.frame_stride}, {clip.test_short_side}",
            f"{row['params'] / 1e6:.2f}",
            f"{row['macs'] / 1e9:.2f}",
            "; ".join(_published(item) for item in row["published"]),
            shown,
            ", ".join(f"`{alias}`" for alias in each.aliases),
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _published(item: dict[str, Any]) -> str:
    numbers = " / ".join(f"{value:g}" for value in item["numbers"].values())
    kind = " / ".join(item["numbers"])
    return f"{kind} {numbers} ({item['source']})" if numbers else f"({item['source']})"


def _backbones() -> str:
    lines = [
        "Every name that a config's `model.backbone` takes, without a head. `*_tiny` are for tests "
        "and for small drawn movies.\n",
        "| name | input | params (M) | GFLOPs |",
        "|---|---|---:|---:|",
    ]
    for row in model_table.rows():
        if row["task"] == "backbone":
            side = row["side"]
            lines.append(
                f"| `{row['name']}` | {row['frames']}x{side}x{side} | {row['params'] / 1e6:.2f} | "
                f"{row['macs'] / 1e9:.2f} |"
            )
    return "\n".join(lines) + "\n"


def _short(value: object) -> str:
    if isinstance(value, dict):
        return f"({value['kind']}, pool {'x'.join(map(str, value['pool']))})"
    return str(value)


if __name__ == "__main__":
    print(document(), end="")
