"""The person detector: Faster R-CNN, native or the detectron2 library, and its boxes on disk."""

from __future__ import annotations

from avadet.persons.base import PersonBoxes, PersonDetector, create_detector

__all__ = ["PersonBoxes", "PersonDetector", "create_detector"]
