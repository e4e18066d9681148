"""Active learning: labels are bought in rounds, for the images that promise most."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from simcore.artifacts import Embeddings, Report
from simcore.artifacts.files import read_json, write_json, written_aside
from simcore.embedding import Embedder, Encoder
from simcore.errors import SimcoreError, UsageError
from simcore.images import ImageSource
from simcore.selection._base import parse_budget
from simcore.settings import setting
from simcore.tasks import _acquisition as acquisition
from simcore.tasks._active_learners import Learner, Prober, Tuner
from simcore.tasks._classes import match_classes, relabelled
from simcore.tasks._labels import Rows
from simcore.tasks._metrics import accuracies, describe
from simcore.tasks._tuned import check_inputs, state_folder
from simcore.tasks._tuning import ClippedTuning
from simcore.training.checkpoint import LAST, PREVIOUS

__all__ = ["ActiveLearning"]

ACQUISITIONS = ("badge", "coreset", "entropy", "random")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ActiveLearning(ClippedTuning):
    """Buy labels in rounds, and measure accuracy against their number (Kim et al. 2023, Table 16).

    The first round's labels are drawn at random, the same for every acquisition; each further round asks for those
    that the network of the round before finds most useful. Every round trains on all labels bought so far: backbone
    and a fresh head, from the backbone of the round before (published: 100 epochs, learning rate 0.03), or with
    ``--no-tune`` a linear head on frozen features. The train labels that were not bought are not looked at.
    ``top1`` is that after the last round, ``mean_top1`` the mean over the rounds; the details hold every round, and
    ``picks.csv`` names the images in the order in which their labels were bought.
    """

    acquisition: str = setting("badge", "how images to label are chosen", choices=ACQUISITIONS)
    rounds: int = setting(5, "rounds of labelling and training, with the random first one")
    budget: str = setting(
        "5%", "labels bought a round: a number, or a share of the labelled train images", metavar="N|P%"
    )
    first_budget: str | None = setting(None, "labels of the first round (default: as --budget)", metavar="N|P%")
    tune: bool = setting(True, "train backbone and head; if not, a linear head on frozen features")
    go_on: bool = setting(True, "tune from the backbone of the round before; if not, from the encoder each time")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rounds < 1:
            raise UsageError(f"--rounds is {self.rounds}, but must be at least 1")
        for name in ("budget", "first_budget"):
            parse_budget(getattr(self, name), 1)  # refuses what is no budget

    def budgets(self, num_images: int) -> list[int]:
        """Say how many labels each round buys; ``UsageError`` where that is none, or more than there are.

        A share buys two at least, so that small sets need no other setting.
        """
        texts = (self.first_budget or self.budget, *[self.budget] * (self.rounds - 1))
        budgets = [max(parse_budget(text, num_images) or 0, 2 * text.strip().endswith("%")) for text in texts]
        if min(budgets) < 1:
            raise UsageError(f"--budget is {self.budget}: a round would buy no label of {num_images} images")
        if sum(budgets) > num_images:
            raise UsageError(f"{self.rounds} rounds ask for {sum(budgets)} labels, but there are {num_images} images")
        return budgets

    def evaluate(
        self,
        encoder: Encoder | None,
        train: ImageSource | Embeddings,
        test: ImageSource | Embeddings,
        *,
        out: Path | None,
        quiet: bool,
    ) -> Report:
        """Run the rounds; a run that was cut off goes on with the round that it stood in."""
        encoder, train, test = check_inputs(self, encoder, train, test, out)
        matched = match_classes(train.labels, train.classes, test.labels, test.classes, empty=train.notes.empty_classes)
        matched.warn(told=train.notes.empty_classes)
        parents = {"encoder": encoder.fingerprint, "train": train.fingerprint, "test": test.fingerprint}
        rows = np.flatnonzero(matched.train >= 0)
        common: dict[str, Any] = {
            "task": self,
            "encoder": encoder,
            "images": train.take(rows),
            "labels": matched.train[rows],
            "test": test.take(np.flatnonzero(matched.test >= 0)),
            "classes": matched.classes,
            "quiet": quiet,
        }
        budgets = self.budgets(len(rows))
        learner = Tuner(**common) if self.tune else self._prober(common)
        rounds = _Rounds(self, learner, budgets, state_folder(self, parents, out))
        done = rounds.run()
        head = learner.save(parents, out)
        if out is not None:
            _save_picks(done, learner, out / "picks.csv")
        metrics = {**done[-1]["metrics"], "mean_top1": float(np.mean([r["metrics"]["top1"] for r in done]))}
        details = {**matched.details(), **rounds.details, "rounds": done}
        return self.report(metrics, details, {**parents, "head": head.fingerprint})

    def _prober(self, common: Mapping[str, Any]) -> Prober:
        embedder = Embedder(
            common["encoder"],
            device=self.device,
            num_workers=self.num_workers,
            dtype="float32",
            quiet=common["quiet"],
        )
        test = embedder(common["test"])
        labels = relabelled(test.labels, test.classes, common["classes"])
        return Prober(**common, train_features=embedder(common["images"]), test_features=test, test_labels=labels)


class _Rounds:
    """The rounds of one run; each leaves a record, whole or not at all, so that it is not done again."""

    def __init__(self, task: ActiveLearning, learner: Learner, budgets: list[int], state: Path | None) -> None:
        self.task, self.learner, self.budgets, self.state = task, learner, budgets, state
        self.details: dict[str, Any] = {}

    def run(self) -> list[dict[str, Any]]:
        """Do what is not done yet; give every round's record."""
        done = self._records()
        for number in range(len(done), len(self.budgets)):
            picks = self._picks(number, done)
            rows = np.concatenate([*(np.asarray(record["rows"], np.int64) for record in done), picks])
            self.learner.train(number, np.sort(rows), self._folder(number))
            done.append(self._record(number, picks, rows))
            if self.state is not None:
                write_json(self.state / f"round-{number:03d}.json", done[-1])
                self._forget(number - 1)
        answers, num_skipped = self.learner.answers()
        self.details = {
            "num_test_skipped": num_skipped,
            **describe(answers, self.learner.classes, seed=self.task.seed),
        }
        return done

    def _records(self) -> list[dict[str, Any]]:
        """Read the records of the rounds done, and take over what the last of them ended with."""
        done: list[dict[str, Any]] = []
        while self.state is not None and (path := self.state / f"round-{len(done):03d}.json").is_file():
            done.append(read_json(path))
        last = self._folder(len(done) - 1)
        if done and last is not None:
            try:
                self.learner.restore(len(done) - 1, last)
            except SimcoreError:
                return []  # its weights are gone: all begins anew
            if not self.task.tune:
                rows = np.concatenate([np.asarray(record["rows"], np.int64) for record in done])
                self.learner.train(len(done) - 1, np.sort(rows), None)
        return done

    def _picks(self, number: int, done: list[dict[str, Any]]) -> Rows:
        """Choose the rows whose labels a round buys."""
        task, budget, num = self.task, self.budgets[number], len(self.learner.images)
        bought = np.concatenate([np.zeros(0, np.int64), *(np.asarray(record["rows"], np.int64) for record in done)])
        pool = np.setdiff1d(np.arange(num), bought)
        generator = np.random.default_rng([task.seed, number, *b"active"])
        if number == 0 or task.acquisition == "random":
            return pool[acquisition.random(len(pool), budget, generator)]
        seen = self.learner.look()
        free, known = seen.at(pool), seen.at(bought)
        match task.acquisition:
            case "entropy":
                chosen = acquisition.entropy(free.probabilities, budget)
            case "coreset":
                chosen = acquisition.coreset(free.features, known.features, budget)
            case _:
                chosen = acquisition.badge(free.probabilities, free.features, budget, generator)
        return free.rows[chosen]

    def _record(self, number: int, picks: Rows, rows: Rows) -> dict[str, Any]:
        answers, _ = self.learner.answers()
        ids = self.learner.images.table["id"]
        return {
            "round": number + 1,
            "num_labels": len(rows),
            "num_classes_seen": len(np.unique(self.learner.labels[rows])),
            "metrics": accuracies(answers),
            "rows": picks.tolist(),
            "ids": ids.take(pa.array(picks)).to_pylist(),
        }

    def _folder(self, number: int) -> Path | None:
        return None if self.state is None else self.state / f"round-{number:03d}"

    def _forget(self, number: int) -> None:
        """Remove the weights of a round that is no longer gone on from."""
        folder = self._folder(number)
        if folder is not None and number >= 0:
            for name in (LAST, PREVIOUS):
                (folder / name).unlink(missing_ok=True)


def _save_picks(done: list[dict[str, Any]], learner: Learner, path: Path) -> None:
    """Write ``round,id,class``, one line a label bought, in the order of buying."""
    rows = np.concatenate([np.asarray(record["rows"], np.int64) for record in done])
    names = [learner.classes[label] for label in learner.labels[rows].tolist()]
    rounds = [record["round"] for record in done for _ in record["rows"]]
    ids = [name for record in done for name in record["ids"]]
    with written_aside(path) as aside:
        pa_csv.write_csv(pa.table({"round": rounds, "id": ids, "class": names}), aside)
