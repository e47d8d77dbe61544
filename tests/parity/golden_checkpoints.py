"""Makes checkpoint files from goldens, each in its source's own format."""

from __future__ import annotations

import json
import pickle
import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from golden_recipe import fill_state

GOLDENS = Path(__file__).parent / "goldens"


@cache
def manifest(source: str, name: str) -> dict[str, Any]:
    """The JSON of a golden."""
    return json.loads((GOLDENS / source / f"{name}.json").read_text())


@cache
def answers(source: str, name: str) -> dict[str, np.ndarray]:
    """The numbers of a golden."""
    with np.load(GOLDENS / source / f"{name}.npz") as file:
        return dict(file)


def names(source: str) -> list[str]:
    """All goldens of a source."""
    return sorted(path.stem for path in (GOLDENS / source).glob("*.json"))


def state(source: str, name: str) -> dict[str, np.ndarray]:
    """The golden's weights under the source's own names."""
    golden = manifest(source, name)
    shapes = {key: tuple(shape) for key, shape in golden["keys"].items()}
    return fill_state(shapes, golden["weight_scale"])


def tensors(source: str, name: str) -> dict[str, torch.Tensor]:
    """The same as tensors."""
    return {key: torch.from_numpy(np.asarray(v)) for key, v in state(source, name).items()}


# ------------------------------------------------------------------------------- PySlowFast


def pyslowfast_config(name: str) -> str:
    """The golden's config as PySlowFast would dump it (the keys that matter, and some more)."""
    golden = manifest("pyslowfast", name)
    facts = golden["facts"]
    if "mvit" in facts:
        return _mvit_config(facts)
    # X3D has strides and dilations of its own and leaves these keys at their defaults.
    resnet = facts.get("resnet") or {
        "spatial_strides": [[1], [2], [2], [2]],
        "spatial_dilations": [[1], [1], [1], [1]],
    }
    overrides = golden["cases"][0]["config_overrides"]
    crop = overrides[overrides.index("DATA.TRAIN_CROP_SIZE") + 1] if overrides else None
    detection = facts.get("detection")
    lines = [
        "AVA:\n  BGR: false\n  DETECTION_SCORE_THRESH: 0.8",
        "BN:\n  NORM_TYPE: batchnorm",
        "DATA:",
        f"  MEAN:\n{_items(facts['mean'], 2)}",
        f"  NUM_FRAMES: {facts['frames']}",
        f"  SAMPLING_RATE: {facts['sampling_rate']}",
        f"  STD:\n{_items(facts['std'], 2)}",
        f"  TEST_CROP_SIZE: {facts['test_crop']}",
        f"  TRAIN_CROP_SIZE: {crop or facts['train_crop']}",
        "DETECTION:",
        f"  ALIGNED: {str(bool(detection and detection['aligned'])).lower()}",
        f"  ENABLE: {str(detection is not None).lower()}",
        "  ROI_XFORM_RESOLUTION: 7\n  SPATIAL_SCALE_FACTOR: 16",
        f"MODEL:\n  ARCH: {facts['arch']}\n  HEAD_ACT: {facts['head_activation']}",
        f"  MODEL_NAME: {facts['model']}\n  NUM_CLASSES: {facts['num_classes']}",
        "RESNET:",
        f"  SPATIAL_DILATIONS: {resnet['spatial_dilations']}",
        "  SPATIAL_STRIDES:\n" + _nested(resnet["spatial_strides"]),
    ]
    if facts.get("nonlocal"):
        lines += [
            "NONLOCAL:",
            f"  INSTANTIATION: {facts['nonlocal']['instantiation']}",
            f"  POOL: {facts['nonlocal']['pool']}",
        ]
    if facts.get("slowfast"):
        lines += [f"SLOWFAST:\n  ALPHA: {facts['slowfast']['alpha']}\n  BETA_INV: 8"]
    return "\n".join(lines) + "\n"


def _mvit_config(facts: dict[str, Any]) -> str:
    """An MViT's config; its settings are nested under ``MVIT``, in capitals."""
    mvit = facts["mvit"]
    lines = [
        f"DATA:\n  MEAN: {facts['mean']}\n  STD: {facts['std']}",
        f"  NUM_FRAMES: {facts['frames']}\n  SAMPLING_RATE: {facts['sampling_rate']}",
        f"  TEST_CROP_SIZE: {facts['test_crop']}\n  TRAIN_CROP_SIZE: {facts['train_crop']}",
        f"DETECTION:\n  ENABLE: false\nMODEL:\n  ARCH: {facts['arch']}",
        f"  HEAD_ACT: {facts['head_activation']}\n  MODEL_NAME: {facts['model']}",
        f"  NUM_CLASSES: {facts['num_classes']}\nMVIT:",
    ]
    for key, value in mvit.items():
        shown = str(value).lower() if isinstance(value, bool) else value
        lines += [] if isinstance(value, dict) else [f"  {key.upper()}: {shown}"]
    return "\n".join(lines) + "\n"


def _items(values: list[Any], indent: int) -> str:
    return "\n".join(f"{' ' * indent}- {value}" for value in values)


def _nested(rows: list[list[Any]]) -> str:
    lines = []
    for row in rows:
        lines += [f"  {'- ' if i == 0 else '  '}- {value}" for i, value in enumerate(row)]
    return "\n".join(lines)


def write_pyth(folder: Path, name: str, *, settings: bool = True) -> Path:
    """A ``.pyth`` file as PySlowFast saves it."""
    path = folder / ("checkpoint_epoch_00196.pyth" if settings else f"{name}.pyth")
    content = {
        "epoch": 195,
        "model_state": tensors("pyslowfast", name),
        "optimizer_state": {"state": {}, "param_groups": [{"lr": 0.1, "params": [0]}]},
    }
    if settings:
        content["cfg"] = pyslowfast_config(name)
    torch.save(content, path)
    return path


_BLOBS = (
    (r"s(\d)\.pathway0_nonlocal(\d+)\.conv_(\w+)\.(.*)", r"nonlocal_conv\1_\2_\3.\4"),
    (r"s(\d)\.pathway0_nonlocal(\d+)\.bn\.(.*)", r"nonlocal_conv\1_\2_bn.\3"),
    (r"s1_fuse\.bn\.(.*)", r"t_pool1_subsample_bn.\1"),
    (r"s1_fuse\.conv_f2s\.(.*)", r"t_pool1_subsample.\1"),
    (r"s(\d)_fuse\.bn\.(.*)", r"t_res\1_LAST\1_branch2c_bn_subsample_bn.\2"),
    (r"s(\d)_fuse\.conv_f2s\.(.*)", r"t_res\1_LAST\1_branch2c_bn_subsample.\2"),
    (r"s(\d)\.pathway(\d)_res(\d+)\.branch2\.([abc])\.(.*)", r"<\2>res\1_\3_branch2\4.\5"),
    (r"s(\d)\.pathway(\d)_res(\d+)\.branch2\.([abc])_bn\.(.*)", r"<\2>res\1_\3_branch2\4_bn.\5"),
    (r"s(\d)\.pathway(\d)_res(\d+)\.branch1\.(.*)", r"<\2>res\1_\3_branch1.\4"),
    (r"s(\d)\.pathway(\d)_res(\d+)\.branch1_bn\.(.*)", r"<\2>res\1_\3_branch1_bn.\4"),
    (r"s1\.pathway(\d)_stem\.conv\.(.*)", r"<\1>conv1.\2"),
    (r"s1\.pathway(\d)_stem\.bn\.(.*)", r"<\1>res_conv1_bn.\2"),
    (r"head\.projection\.(.*)", r"pred.\1"),
)
_NORM_ENDS = {"weight": "s", "bias": "b", "running_mean": "rm", "running_var": "riv"}


def blob_name(key: str, last: dict[str, int]) -> str | None:
    """Caffe2's name of a PySlowFast tensor, by the map of the model zoo turned round."""
    if key.endswith("num_batches_tracked"):
        return None
    for pattern, replacement in _BLOBS:
        match = re.fullmatch(pattern, key)
        if match:
            name, _, end = match.expand(replacement).rpartition(".")
            break
    else:
        raise AssertionError(key)
    for stage, index in last.items():
        name = name.replace(f"LAST{stage}", str(index))
    name = name.replace("<0>", "").replace("<1>", "t_")
    short = _NORM_ENDS[end] if name.endswith("_bn") else {"weight": "w", "bias": "b"}[end]
    return f"{name}_{short}"


def write_caffe2(folder: Path, name: str, protocol: int = 2) -> Path:
    """A ``.pkl`` file as Caffe2 saves it, with what training leaves behind."""
    arrays = state("pyslowfast", name)
    last: dict[str, int] = {}
    for key in arrays:
        if match := re.match(r"s(\d)\.pathway1_res(\d+)", key):
            last[match[1]] = max(last.get(match[1], 0), int(match[2]))
    blobs: dict[str, Any] = {}
    for key, value in arrays.items():
        blob = blob_name(key, last)
        if blob is None:
            continue
        # Caffe2 keeps 1x1x1 convolutions of attention as matrices.
        blobs[blob] = value.reshape(value.shape[:2]) if "_theta_w" in blob else value
        if blob.startswith("pred"):
            blobs[f"{blob}_momentum"] = np.zeros_like(value)
    blobs |= {"lr": np.float32(0.1), "model_iter": np.int64(7)}
    path = folder / f"{name}.pkl"
    path.write_bytes(pickle.dumps({"blobs": blobs}, protocol=protocol))
    return path


# ---------------------------------------------------------------------------------- the rest


def write_torch(folder: Path, source: str, name: str) -> Path:
    """A file of PyTorchVideo, MMAction2 or VMZ, named as the golden."""
    weights = tensors(source, name)
    content: Any = {
        "pytorchvideo": {"model_state": weights},
        "mmaction2": {"meta": {"epoch": 10, "experiment_name": name}, "state_dict": weights},
    }.get(source, weights)
    path = folder / f"{name}.pth"
    # Many public files are in torch's older format.
    torch.save(content, path, _use_new_zipfile_serialization=source != "vmz")
    return path


def mmaction2_config(name: str, frames: int, stride: int) -> str:
    """An MMAction2 config as mmengine writes it into checkpoints, around the golden's network."""
    facts = manifest("mmaction2", name)["facts"]
    model = dict(facts["model_cfg"])
    model.setdefault(
        "data_preprocessor", {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]}
    )
    pipeline = [
        {"type": "SampleAVAFrames", "clip_len": frames, "frame_interval": stride},
        {"type": "Resize", "scale": [-1, 224 if name.startswith("c2d") else 256]},
    ]
    return f"import_me = __import__('os')\nmodel = {model!r}\nval_pipeline = {pipeline!r}\n"
