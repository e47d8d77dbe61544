"""``avadet convert``: anybody's checkpoint into avadet's file, or a look inside it."""

from __future__ import annotations

import argparse

HELP = "convert a checkpoint of PySlowFast, PyTorchVideo, MMAction2, VMZ or torchvision"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``avadet convert``."""
    parser.add_argument("source", metavar="SRC", help="checkpoint file, or a name of the zoo")
    parser.add_argument(
        "target", metavar="DST", nargs="?", help="new file (.safetensors; .pyth or .pth with --to)"
    )
    parser.add_argument(
        "--inspect", action="store_true", help="say what it is and whether it fits; write nothing"
    )
    parser.add_argument(
        "--arch", metavar="NAME", help="its architecture, where the file leaves it open"
    )
    parser.add_argument(
        "--classes",
        metavar="FILE",
        help="names of the classes for DST to carry, one a line (Charades_v1_classes.txt)",
    )
    parser.add_argument(
        "--to",
        choices=("avadet", "pyslowfast", "mmaction2"),
        default="avadet",
        help="layout of DST (default: avadet)",
    )


def run(args: argparse.Namespace) -> int:
    """Converts or inspects; returns 1 when an inspected file would not load."""
    from avadet.convert.load import inspect, load_model
    from avadet.errors import UserError

    if args.inspect:
        report, fits = inspect(args.source, args.arch)
        print(report)
        return 0 if fits else 1
    if args.target is None:
        raise UserError("give the new file as second argument, or --inspect to look only")
    from avadet.convert.export import export
    from avadet.data.label_map import read_label_map

    names = read_label_map(args.classes).names if args.classes else None
    model = load_model(args.source, arch=args.arch, class_names=names)
    export(model, args.target, args.to)
    print(f"{args.target}: {model.description.name}, {model.description.num_classes} classes")
    return 0
