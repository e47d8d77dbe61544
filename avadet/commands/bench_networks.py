"""The networks that ``bench infer``, ``train``, ``memory`` and ``scaling`` measure.

PyTorchVideo's networks come from the package index (the extra ``bench``). Theirs are drawn, written
as a checkpoint and read by ``avadet.convert``, so that both sides hold the same weights. Their
models run on current torch as they are; SlowFast overwrites the list of pathways it is given, so
it gets a new one each time, and answers with probabilities where ours gives logits.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avadet.commands import bench_table
from avadet.errors import UserError

MISSING = (
    "pytorchvideo is not installed, so its rows are left out; pip install 'avadet[bench]' adds them"
)


@dataclass(frozen=True)
class Pair:
    """One network under both names.

    Attributes:
        arch: ours (``avadet models``).
        squash: what theirs applies to the logits when it scores.
        side: the only one of theirs, whose head averages over windows elsewhere.
    """

    arch: str
    squash: str | None = None
    side: int | None = None


PAIRS = {
    "slowfast_r50_detection": Pair("slowfast_r50_8x8_ava22", "sigmoid"),
    "slow_r50": Pair("slow_r50_8x8_k400", side=224),
    "csn_r101": Pair("ir_csn_101_32x2_k400_pytorchvideo", side=224),
    "x3d_m": Pair("x3d_m_16x5_k400_pytorchvideo", "softmax", side=224),
}


@dataclass
class Subject:
    """A network with one input, ready to be called in several ways.

    Attributes:
        name: as asked for.
        model: ours, in eval mode, float32, default memory format.
        video: (B,3,T,H,W) normalised.
        boxes: B tensors (N,4) for detectors, else None.
        peer: PyTorchVideo's module, or None.
        squash: see ``Pair``.
        notes: what there is to say, such as why there is no peer.
    """

    name: str
    model: Any
    video: Any
    boxes: list[Any] | None
    peer: Any
    squash: str | None
    notes: list[str]

    def call(self, model: Any) -> Any:
        """Our model's logits."""
        return model(self.video) if self.boxes is None else model(self.video, self.boxes)

    def call_peer(self, peer: Any) -> Any:
        """Their answer: (N,K), squashed where they do so."""
        import torch

        from avadet.models.layers import take_frames

        if self.boxes is None:
            return peer(self.video).flatten(1)
        rows = [
            torch.cat([torch.full_like(each[:, :1], clip), each], 1)
            for clip, each in enumerate(self.boxes)
        ]
        pathways = [take_frames(self.video, 4), self.video]
        return peer(pathways, torch.cat(rows)).flatten(1)

    def comparable(self, logits: Any) -> Any:
        """Our logits as theirs come out."""
        logits = logits.float()
        if self.squash == "sigmoid":
            return logits.sigmoid()
        return logits.softmax(-1) if self.squash == "softmax" else logits

    @property
    def shape(self) -> str:
        """The input in words."""
        size = "x".join(map(str, self.video.shape))
        return size if self.boxes is None else f"{size}, {len(self.boxes[0])} boxes per clip"


def add_arguments(parser: argparse.ArgumentParser, *, repeat: int = 5) -> None:
    """Flags of the benches that run networks."""
    parser.add_argument(
        "--networks",
        nargs="+",
        default=["slowfast_r50_detection"],
        metavar="NAME",
        help=f"PyTorchVideo's {', '.join(PAIRS)}, beside ours; or any name of `avadet models`",
    )
    positive = bench_table.positive
    parser.add_argument("--clips", type=positive, default=1, help="per batch (default 1)")
    parser.add_argument("--boxes", type=positive, default=5, help="per clip (default 5)")
    parser.add_argument("--side", type=positive, help="pixels; default as the network is tested")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:0 (default: auto)")
    bench_table.add_arguments(parser, repeat=repeat)


def prepare(args: argparse.Namespace) -> Any:
    """Sets torch's threads; returns the device."""
    import torch

    from avadet.engine.precision import default_device

    if args.threads:
        torch.set_num_threads(args.threads)
    return default_device(args.device)


def each_network(args: argparse.Namespace) -> Iterator[str]:
    """The names asked for, a table each; several get a file each for ``--json``."""
    path = args.json
    for number, name in enumerate(args.networks):
        if number:
            print()
        if path and len(args.networks) > 1:
            args.json = path.with_name(f"{path.stem}_{name}{path.suffix}")
        yield name


def wait_for(device: Any) -> Callable[[], None] | None:
    """What ends the work that was started on ``device``."""
    import torch

    if device.type != "cuda":
        return None
    return lambda: torch.cuda.synchronize(device)


def subject(args: argparse.Namespace, name: str, device: Any, *, peer: bool = True) -> Subject:
    """Draws weights, input and boxes.

    Raises:
        UserError: an unknown name.
    """
    import torch

    from avadet import convert
    from avadet.build import create_model

    torch.manual_seed(0)
    pair = PAIRS.get(name, Pair(name))
    theirs, notes = None, []
    if name in PAIRS and peer:
        if args.side and pair.side and args.side != pair.side:
            notes.append(f"PyTorchVideo's {name} takes {pair.side} pixels: its row is left out.")
        else:
            theirs = _pytorchvideo(name)
            if theirs is None:
                notes.append(MISSING)
    if theirs is None:
        model = enliven(create_model(pair.arch))
    else:
        enliven(theirs)
        with tempfile.TemporaryDirectory(prefix="avadet-bench-") as folder:
            path = Path(folder) / f"{name}.pyth"
            torch.save({"model_state": theirs.state_dict()}, path)
            model = convert.load_model(path, arch=pair.arch)
        theirs.to(device)
    shape = model.description.preprocessing
    side = args.side or pair.side or shape.test_short_side
    if side < 32:
        raise UserError(f"--side {side}: the networks need 32 pixels at least")
    video = torch.randn(args.clips, 3, shape.num_frames, side, side).to(device)
    boxes = None
    if model.description.task == "detection":
        boxes = [draw_boxes(args.boxes, side).to(device) for _ in range(args.clips)]
    return Subject(name, model.to(device).eval(), video, boxes, theirs, pair.squash, notes)


def draw_boxes(count: int, side: int) -> Any:
    """(count,4) boxes of people, a fifth to three fifths of the picture wide."""
    import torch

    size = (0.2 + 0.4 * torch.rand(count, 2)) * side
    corner = torch.rand(count, 2) * (side - size)
    return torch.cat([corner, corner + size], 1)


def _pytorchvideo(name: str) -> Any:
    """Their network, freshly drawn; None where the library is missing."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from pytorchvideo.models import hub
    except ImportError:
        return None
    return getattr(hub, name)(pretrained=False)


def enliven(model: Any) -> Any:
    """``model`` in eval mode with norms as after training: nothing is 0 or 1.

    The last norm of each residual branch is small, as training leaves it; otherwise gradients of
    drawn networks change wholly with the last digit of a weight and cannot be compared.
    """
    import torch
    from torch import nn

    with torch.no_grad():
        for name, module in model.named_modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.affine:
                last = name.endswith(("c.norm", "norm_c"))
                nn.init.uniform_(module.weight, *((0.02, 0.1) if last else (0.3, 0.8)))
                nn.init.normal_(module.bias, std=0.1)
                if module.running_mean is not None:
                    module.running_mean.normal_(0, 0.1)
                    module.running_var.uniform_(0.5, 1.5)
    return model.eval()
