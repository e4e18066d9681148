"""What detection and segmentation share: their settings, and the way from two sources to figures and a saved network.

A task says what is its own by a :class:`SceneProblem`; training, resume, several processes, the order of answers and
what is left in the folder are the same for all.
"""

from __future__ import annotations

import contextlib
import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from lightning_fabric import Fabric

from simcore.artifacts import Embeddings, Report
from simcore.embedding import Encoder
from simcore.errors import SimcoreError, UsageError
from simcore.images import ImageSource
from simcore.progress import Progress
from simcore.registry import name_of
from simcore.settings import setting
from simcore.tasks._dense_model import DenseModel
from simcore.tasks._scenes import Scenes, in_order, scene_batches
from simcore.tasks._task import Task
from simcore.tasks._trained import save_trained
from simcore.tasks._tuned import check_inputs, state_folder
from simcore.training import FitSettings, fit, make_fabric
from simcore.training.gather import gather_items
from simcore.training.settings import OPTIMIZERS, PRECISIONS

NUM_EXAMPLES = 12

Answers = Mapping[int, Any]
"""What a model said of each readable test row, in the order of the source."""


class SceneProblem(ABC):
    """A train and a test set made ready for a dense model, the model itself, and how its answers are judged.

    Attributes:
        kind: what the trained network is called (``detector``, …).
        min_batch: fewest images a process may get at once.
        train, test: the scenes to learn from and to be measured on.
        model: untrained.
        facts: what the network is built from anew, ready for ``json.dumps``.
    """

    kind: ClassVar[str]
    min_batch: ClassVar[int] = 1
    train: Scenes
    test: Scenes
    model: DenseModel
    facts: Mapping[str, Any]

    @abstractmethod
    def answer(self, scenes: Sequence[Any], out: Path | None) -> Iterable[Any]:
        """Give the model's answer to each of some test scenes; what is too large to be kept goes to ``out``."""

    @abstractmethod
    def judge(self, answers: Answers, fabric: Fabric) -> tuple[Mapping[str, float], Mapping[str, Any]]:
        """Give figures, in percent, and details of the report."""

    @abstractmethod
    def write(self, answers: Answers, out: Path) -> None:
        """Leave the answers in ``out``."""

    @abstractmethod
    def example(self, row: int, answer: Any, out: Path | None) -> Mapping[str, Any] | None:
        """Say what a report needs to draw one answer beside the truth; None where it cannot."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SceneTask(Task):
    """Train a dense head on a backbone; a subclass says which, and may have other defaults."""

    epochs: int = setting(100, "passes over the training images")
    lr: float = setting(1e-4, "learning rate at its highest")
    batch_size: int = setting(16, "images a step, over all processes")
    optimizer: str = setting("adam", "update rule", choices=OPTIMIZERS)
    momentum: float = setting(0.9, "momentum of SGD (Nesterov) and LARS")
    weight_decay: float = setting(5e-4, "weight decay")
    schedule: str = setting("cosine", "course of the learning rate", choices=("cosine", "poly", "constant"))
    clip_grad: float = setting(0.0, "largest gradient norm, 0 for no clipping")
    backbone_lr_scale: float = setting(0.0, "learning rate of the backbone as a share of --lr; 0: it stays frozen")
    precision: str = setting(
        "auto", "number format of training; auto: bf16 or fp16 AMP on CUDA, else 32", choices=PRECISIONS
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.backbone_lr_scale < 0:
            raise UsageError(f"--backbone-lr-scale is {self.backbone_lr_scale:g}, but must be at least 0")
        self.fit_settings()  # refuses epochs and the like that are out of range

    def fit_settings(self) -> FitSettings:
        """Say the recipe to the training loop."""
        return FitSettings(
            epochs=self.epochs,
            lr=self.lr,
            optimizer=self.optimizer,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            schedule=self.schedule,
            clip_grad=self.clip_grad,
            precision=self.precision,
            device=self.device,
            seed=self.seed,
        )

    @abstractmethod
    def problem(self, encoder: Encoder, train: ImageSource, test: ImageSource) -> SceneProblem:
        """Find classes and scenes, and build the model; raises ``SimcoreError`` where the sources do not serve."""

    def evaluate(
        self,
        encoder: Encoder | None,
        train: ImageSource | Embeddings,
        test: ImageSource | Embeddings,
        *,
        out: Path | None,
        quiet: bool,
    ) -> Report:
        """Train, answer and judge; ``out`` gets the network and its answers."""
        encoder, train, test = check_inputs(self, encoder, train, test, out)
        parents = {"encoder": encoder.fingerprint, "train": train.fingerprint, "test": test.fingerprint}
        problem = self.problem(encoder, train, test)
        fabric = make_fabric(self.device, self.precision)
        num_unreadable = self._train(problem, fabric, state_folder(self, parents, out), quiet)
        answers = self._answers(problem, fabric, out, quiet)
        metrics, details = problem.judge(answers, fabric)
        place = out if fabric.is_global_zero else None
        head = save_trained(place, problem.model.network, problem.kind, encoder, problem.facts)
        if place is not None:
            problem.write(answers, place)
        shown = [problem.example(row, answer, out) for row, answer in list(answers.items())[:NUM_EXAMPLES]]
        counts = {"num_train_skipped": num_unreadable, "num_test_skipped": len(problem.test.source) - len(answers)}
        more = {**counts, "examples": [example for example in shown if example is not None]}
        return self.report(metrics, {**details, **more}, {**parents, "head": head})

    def _train(self, problem: SceneProblem, fabric: Fabric, state: Path | None, quiet: bool) -> int:
        """Run the loop, going on from what an interrupted run left; give the number of unreadable images."""
        batches = scene_batches(
            problem.train,
            fabric,
            seed=self.seed,
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            min_batch=problem.min_batch,
        )
        options: dict[str, Any] = {"out": state, "resume": True, "label": name_of(self), "quiet": quiet}
        with contextlib.closing(batches):
            fit(problem.model, batches, self.fit_settings(), fabric=fabric, **options)
            return batches.num_unreadable

    def _answers(self, problem: SceneProblem, fabric: Fabric, out: Path | None, quiet: bool) -> Answers:
        """Ask the trained model about the test scenes, each process about its share."""
        problem.model.eval()
        source = problem.test.source
        found: list[tuple[int, Any]] = []
        share = {"rank": fabric.global_rank, "world_size": fabric.world_size}
        silent = quiet or not fabric.is_global_zero
        with Progress(f"test the {problem.kind}", total=len(source), quiet=silent) as progress:
            for piece in in_order(problem.test, num_workers=self.num_workers, **share):
                found += zip(piece.rows, problem.answer(piece.scenes, out), strict=True)
                progress.advance((len(piece.rows) + len(piece.faults)) * fabric.world_size)
        joined = sorted(gather_items(found), key=lambda pair: pair[0])
        if not joined:
            raise SimcoreError(f"{source.name}: no test image can be read")
        return dict(joined)


def example_of(source: ImageSource, row: int) -> dict[str, Any]:
    """Say which image an example of the report shows."""
    return {"id": source.table["id"][row].as_py(), "uri": source.table["uri"][row].as_py()}
