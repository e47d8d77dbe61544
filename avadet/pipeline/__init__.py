"""From a movie file to detections in movie order, and to a movie that shows them."""

from __future__ import annotations

from avadet.pipeline.actions import ActionScorer
from avadet.pipeline.analyse import analyse, keyframe_seconds
from avadet.pipeline.clock import StageClock
from avadet.pipeline.cuts import ShotCuts
from avadet.pipeline.people import DetectedPeople, GivenPeople, PeopleFinder
from avadet.pipeline.process import MovieJob, Outcome, process
from avadet.pipeline.render import Labels, Moment, Stretch, render
from avadet.pipeline.results import write_results
from avadet.pipeline.run_folder import weights_of_run

__all__ = [
    "ActionScorer",
    "DetectedPeople",
    "GivenPeople",
    "Labels",
    "Moment",
    "MovieJob",
    "Outcome",
    "PeopleFinder",
    "ShotCuts",
    "StageClock",
    "Stretch",
    "analyse",
    "keyframe_seconds",
    "process",
    "render",
    "weights_of_run",
    "write_results",
]
