"""The detectron2 engine: the real library behind the same protocol.

The library's ``model_zoo`` module is not imported (it needs ``pkg_resources``, which current
setuptools no longer has); its configuration files are found beside the package instead. Weights
are read by avadet's restricted reader, so a pickle from the internet runs nothing.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from avadet.convert import detectron2 as tables
from avadet.convert.unpickle import read_checkpoint
from avadet.errors import UserError
from avadet.persons.base import PersonBoxes
from avadet.persons.weights import WHERE_TO_GET

# avadet's names of architectures and the library's configurations of the same.
CONFIGS = {
    "faster_rcnn_r50_c4": "COCO-Detection/faster_rcnn_R_50_C4_3x.yaml",
    "faster_rcnn_r50_dc5": "COCO-Detection/faster_rcnn_R_50_DC5_3x.yaml",
    "faster_rcnn_r50_fpn": "COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml",
    "faster_rcnn_r101_fpn": "COCO-Detection/faster_rcnn_R_101_FPN_3x.yaml",
    "faster_rcnn_x101_32x8d_fpn": "COCO-Detection/faster_rcnn_X_101_32x8d_FPN_3x.yaml",
}


def config_path(name: str | os.PathLike[str]) -> Path:
    """The yaml called ``name``: a file, or one of the configurations inside the library.

    Raises:
        UserError: it is neither.
    """
    import detectron2

    own = Path(name)
    if own.is_file():
        return own
    folder = Path(detectron2.__file__).parent / "model_zoo" / "configs"
    packaged = folder / (str(name) if str(name).endswith(".yaml") else f"{name}.yaml")
    if packaged.is_file():
        return packaged
    known = sorted(p.stem for p in (folder / "COCO-Detection").glob("faster_rcnn_*.yaml"))
    raise UserError(
        f"{name}: neither a file nor a configuration of the library; in COCO-Detection/ it has "
        f"{', '.join(known)}"
    )


def build(config: str | os.PathLike[str], state: dict[str, Any] | None, **settings: Any) -> Any:
    """(model in evaluation mode, configuration) of the library.

    Args:
        config: see :func:`config_path`.
        state: tensors by the library's names, or None for fresh weights. Mask and keypoint heads
            and constants may be missing or in excess; nothing else.
        settings: configuration keys with ``__`` for the dots, ``MODEL__DEVICE="cpu"``.

    Raises:
        UserError: the yaml cannot be read, or the weights do not fit it.
    """
    from detectron2.config import get_cfg
    from detectron2.modeling import build_model

    path = config_path(config)
    cfg = get_cfg()
    try:
        cfg.merge_from_file(str(path), allow_unsafe=False)
        flat = [item for key, v in settings.items() for item in (key.replace("__", "."), v)]
        cfg.merge_from_list(flat)
    except Exception as error:  # the library raises AssertionError, KeyError, yaml's own, ...
        raise UserError(f"{path}: the library refuses this configuration: {error}") from error
    model = build_model(cfg).eval()
    if state is not None:
        _fill(model, state, str(config))
    return model, cfg


def _fill(model: Any, state: dict[str, Any], config: str) -> None:
    tensors = {name: tables.as_tensor(value) for name, value in state.items()}
    own = model.state_dict()
    fitting = {n: v for n, v in tensors.items() if n in own and own[n].shape == v.shape}
    optional = [tables.CONSTANTS, *tables.OTHER_HEADS.values()]
    # Old files keep statistics in the affine map: the fresh model's 0 and 1 are right then.
    statistics = ("norm.running_mean", "norm.running_var")
    missing = [
        n
        for n in own
        if n not in fitting
        and not n.endswith(statistics)
        and not any(rule.match(n) for rule in optional)
    ]
    extra = [n for n in tensors if n not in fitting and not any(rule.match(n) for rule in optional)]
    if missing or extra:
        raise UserError(
            f"the weights do not fit {config}: {len(missing)} tensors missing or of another shape, "
            f"{len(extra)} in excess; first: '{(missing or extra)[0]}'. Name the yaml that they "
            "were trained with (--config)"
        )
    model.load_state_dict(fitting, strict=False)


class Detectron2Detector:
    """A Faster R-CNN of the detectron2 library.

    Args:
        weights: ``.pkl`` or ``.pth`` file.
        config: yaml file or name; None finds the COCO-Detection one that the shapes belong to.
        score_threshold: boxes below it are left out.
        device: "auto", "cpu", "cuda", ...
        short_side, max_side: other sizes than the configuration's.
        nms_threshold: other than the configuration's.
        batch_size: frames per forward pass.
        person_class: index of the person among the foreground classes.

    Raises:
        UserError: the weights are missing, of another kind, or do not fit the configuration.
    """

    def __init__(
        self,
        weights: str | os.PathLike[str],
        *,
        config: str | os.PathLike[str] | None = None,
        score_threshold: float = 0.05,
        device: str = "auto",
        short_side: int | None = None,
        max_side: int | None = None,
        nms_threshold: float | None = None,
        batch_size: int = 8,
        person_class: int = 0,
    ) -> None:
        if not Path(weights).is_file():
            raise UserError(f"{weights}: no such weights file; {WHERE_TO_GET}")
        content, _ = read_checkpoint(weights)
        if not isinstance(content, dict) or not tables.is_detectron2(content):
            raise UserError(f"{weights}: not a Detectron2 Faster R-CNN; {WHERE_TO_GET}")
        state = dict(content.get("model", content))
        bias = state["roi_heads.box_predictor.cls_score.bias"]
        settings: dict[str, Any] = {
            "MODEL__DEVICE": _device(device),
            "MODEL__WEIGHTS": "",
            "MODEL__ROI_HEADS__NUM_CLASSES": len(bias) - 1,
            "MODEL__ROI_HEADS__SCORE_THRESH_TEST": float(score_threshold),
            # A person detector draws boxes only.
            "MODEL__KEYPOINT_ON": False,
            "MODEL__MASK_ON": False,
        }
        if nms_threshold is not None:
            settings["MODEL__ROI_HEADS__NMS_THRESH_TEST"] = float(nms_threshold)
        if config is None:
            config = CONFIGS[tables.convert(content, str(weights)).name]
        self.model, self.cfg = build(config, state, **settings)
        self.short_side: int = self.cfg.INPUT.MIN_SIZE_TEST if short_side is None else short_side
        self.max_side: int = self.cfg.INPUT.MAX_SIZE_TEST if max_side is None else max_side
        self.batch_size = batch_size
        self.person_class = person_class

    def with_short_side(self, short_side: int) -> Detectron2Detector:
        """The same detector (and the same weights in memory) at another size."""
        other = copy.copy(self)
        other.max_side = max(self.max_side, round(self.max_side * short_side / self.short_side))
        other.short_side = short_side
        return other

    def detect(self, frames: Sequence[np.ndarray]) -> list[PersonBoxes]:
        """People on each RGB frame (H,W,3) uint8, best first."""
        found: list[PersonBoxes] = []
        for start in range(0, len(frames), self.batch_size):
            found += self._detect_batch(frames[start : start + self.batch_size])
        return found

    def _detect_batch(self, frames: Sequence[np.ndarray]) -> list[PersonBoxes]:
        from detectron2.data.transforms import AugInput, ResizeShortestEdge

        resize = ResizeShortestEdge([self.short_side, self.short_side], self.max_side)
        inputs = []
        for frame in frames:
            pixels = frame[:, :, ::-1] if self.cfg.INPUT.FORMAT == "BGR" else frame
            given = AugInput(np.ascontiguousarray(pixels))
            resize(given)
            tensor = torch.from_numpy(np.ascontiguousarray(given.image.transpose(2, 0, 1)))
            inputs.append({"image": tensor, "height": frame.shape[0], "width": frame.shape[1]})
        with torch.inference_mode():
            answers = self.model(inputs)
        found = []
        for answer in answers:
            instances = answer["instances"].to("cpu")
            people = instances[instances.pred_classes == self.person_class]
            boxes = people.pred_boxes.tensor.float().numpy()
            found.append(PersonBoxes(boxes, people.scores.float().numpy()))
        return found


def _device(asked: str) -> str:
    if asked != "auto":
        return asked
    return "cuda" if torch.cuda.is_available() else "cpu"
