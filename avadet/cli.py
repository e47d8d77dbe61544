"""The command line: a verb, and the module of that verb, loaded only when it is asked for."""

from __future__ import annotations

import argparse
import errno
import importlib
import logging
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from avadet import __version__
from avadet.errors import UserError

# One line a verb, here and not in the modules: `avadet --help` must not import them.
VERBS = {
    "prepare": "make data sets: mini-ava, mini-kinetics",
    "train": "train an action model, a classifier or a person detector from a config",
    "eval": "score a checkpoint: frame-mAP and its parts",
    "detect": "run the person detector over movies and write proposals",
    "classify": "name what videos show as a whole",
    "fuse": "join the scores of several networks, such as pictures and optical flow",
    "demo": "draw people and their actions over a movie",
    "features": "what a network knows of clips, or of people for a feature bank",
    "convert": "load, inspect and convert checkpoints of other projects",
    "zoo": "list and download public checkpoints",
    "verify": "check weights, data and protocol against a published number",
    "models": "list the networks with sizes and costs",
    "report": "explain a result: one HTML page from two CSV files",
    "bench": "measure speed and accuracy",
    "quickstart": "everything once, in small: data, training, frame-mAP, overlaid movie",
}


def _usage() -> str:
    lines = ["usage: avadet <verb> [options]", "", "Who does what, where and when in video.", ""]
    lines += [f"  {verb:<11} {text}" for verb, text in VERBS.items()]
    lines += ["", "avadet <verb> --help tells the options of a verb.", "avadet --version"]
    return "\n".join(lines)


def _parse(parser: argparse.ArgumentParser, words: Sequence[str]) -> argparse.Namespace:
    """Lets `key=value` words stand before and after options alike."""
    if any(action.dest == "overrides" for action in parser._actions):
        return parser.parse_intermixed_args(words)
    return parser.parse_args(words)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one verb; returns the exit code: 0, 2 for bad input, 130 when interrupted."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help", "help"):
        print(_usage())
        return 0 if words else 2
    if words[0] == "--version":
        print(f"avadet {__version__}")
        return 0
    verb = words[0]
    if verb not in VERBS:
        # Imported late: difflib costs more than the rest of the help together.
        from avadet.registry import suggest

        print(f"avadet: no verb '{verb}'.{suggest(verb, list(VERBS))}", file=sys.stderr)
        return 2
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    module = importlib.import_module(f"avadet.commands.{verb}")
    parser = argparse.ArgumentParser(prog=f"avadet {verb}", description=module.HELP)
    module.add_arguments(parser)
    try:
        return int(module.run(_parse(parser, words[1:])))
    except UserError as error:
        print(f"avadet {verb}: {error}", file=sys.stderr)
        return 2
    except MemoryError as error:
        print(f"avadet {verb}: not enough memory: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"avadet {verb}: interrupted", file=sys.stderr)
        return 130


def run() -> NoReturn:
    """The command ``avadet``: ``main``, and the end of the process."""
    try:
        code = main()
        sys.stdout.flush()
    except OSError as error:
        # The reader of the printed lines (`| head`) has seen enough, or `> file` finds no room.
        if error.errno not in (errno.EPIPE, errno.ENOSPC):
            raise
        code = 0
        if error.errno == errno.ENOSPC:
            print(f"avadet: the disk is full: {error}", file=sys.stderr)
            code = 2
        # What is left to be printed goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if os.environ.get("WORLD_SIZE", "1") != "1":
        # torch may keep the group of a run (caches and cycles hold it), and with it threads that
        # still have tensors of the last exchange to let go. Before Python 3.14 a thread that wants
        # the interpreter while it is taken down aborts the process: do not take it down.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
