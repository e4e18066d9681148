"""Detection as a problem for the loop: its scenes and model, how found boxes are judged, and what is left of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lightning_fabric import Fabric

from simcore.artifacts.files import write_json
from simcore.images import ImageSource
from simcore.images.boxes import Boxes
from simcore.tasks._coco_form import CocoForm, category_ids
from simcore.tasks._detection_scenes import BoxedSets, BoxScenes, WholeScene
from simcore.tasks._detection_score import average_precision
from simcore.tasks._detector import Detector, Found, Suppression
from simcore.tasks._scene_task import SceneProblem, example_of

EXAMPLE_BOXES, EXAMPLE_SCORE = 20, 0.3


class Looked(NamedTuple):
    """What was found in an image, and what is there."""

    found: Found
    truth: Boxes


class DetectionProblem(SceneProblem):
    """Images with boxes; ``facts`` has the settings of the task that the model and its use depend on."""

    kind = "detector"
    model: Detector

    def __init__(self, sets: BoxedSets, model: Detector, suppression: Suppression, facts: Mapping[str, Any]) -> None:
        self.sets, self.model, self.suppression = sets, model, suppression
        self.classes = sets.matched.classes
        self.category_ids = category_ids(sets.train, self.classes)
        self.facts = {"classes": list(self.classes), "category_ids": self.category_ids, **facts}
        self.train, self.test = self._scenes(sets.train), self._scenes(sets.test)

    def _scenes(self, source: ImageSource) -> BoxScenes:
        sides = {"short_side": self.facts["min_size"], "long_side": self.facts["max_size"]}
        return BoxScenes(source=source, numbers=self.sets.numbers(source), **sides)

    def answer(self, scenes: Sequence[WholeScene], out: Path | None) -> Iterator[Looked]:
        """Detect."""
        found = self.model.detect(scenes, self.suppression)
        return (Looked(one, scene.truth) for one, scene in zip(found, scenes, strict=True))

    def judge(self, answers: Mapping[int, Looked], fabric: Fabric) -> tuple[dict[str, float], dict[str, Any]]:
        """Give the average precision, and that of each class."""
        found, truth = zip(*answers.values(), strict=True)
        metrics, per_class = average_precision(found, truth, self.classes)
        return metrics, {**self.sets.details(), "ap_per_class": per_class}

    def write(self, answers: Mapping[int, Looked], out: Path) -> None:
        """Leave ``predictions.json`` (COCO results) and ``truth.json`` (COCO annotations of the same images)."""
        form = CocoForm.of(self.test.source, self.classes, self.category_ids)
        write_json(out / "predictions.json", [entry for one in answers.values() for entry in form.results(one.found)])
        truth = {row: (one.found.size, one.truth) for row, one in answers.items()}
        write_json(out / "truth.json", form.truth(truth))

    def example(self, row: int, answer: Looked, out: Path | None) -> dict[str, Any]:
        """Give the image's boxes: those that are there, and those found with some certainty."""
        found, sure = answer.found, answer.found.scores >= EXAMPLE_SCORE
        return {
            **example_of(self.test.source, row),
            "size": list(found.size),
            "truth": self._named(answer.truth, [None] * len(answer.truth)),
            "found": self._named(found.boxes.take(sure), found.scores[sure].tolist()),
        }

    def _named(self, boxes: Boxes, scores: Sequence[float | None]) -> list[dict[str, Any]]:
        listed = zip(boxes.edges.tolist(), boxes.labels.tolist(), scores, strict=True)
        return [
            {"box": [round(edge, 2) for edge in edges], "class": self.classes[label]}
            | ({} if score is None else {"score": round(score, 4)})
            for edges, label, score in list(listed)[:EXAMPLE_BOXES]
        ]
