"""One run of learning from noisy labels: its networks, its batches, and what is measured on the way and at the end."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.nn import functional as F

from simcore.embedding import Encoder
from simcore.images import ImageSource
from simcore.tasks._classes import relabelled
from simcore.tasks._dividemix import DivideMix
from simcore.tasks._labels import Labels
from simcore.tasks._loading import Loading
from simcore.tasks._metrics import Answers, accuracies, describe
from simcore.tasks._noise import found_clean
from simcore.tasks._noisy_batches import Clean, DividedPlan, NoisyViews, noisy_views
from simcore.tasks._supervised import Network, features_on_images, fresh_head, logits_of
from simcore.tasks._tuned import label_counts
from simcore.tasks._two_networks import NoisyModel
from simcore.training import Moment, fit, make_fabric
from simcore.training._decoding import Cache, Decoder
from simcore.views import CenterView

if TYPE_CHECKING:
    from simcore.tasks.weblysup import WeblySupervised


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Learning:
    """One run: images with noisy labels in, a network and its figures out."""

    task: WeblySupervised
    encoder: Encoder
    images: ImageSource
    labels: Labels
    test: ImageSource
    classes: tuple[str, ...]
    state: Path | None
    quiet: bool

    def run(self) -> tuple[dict[str, float], dict[str, Any], Network]:
        """Train and measure: metrics, details and the network to keep."""
        noisy = self.task.noisy(self.labels, len(self.classes))
        counts = label_counts(noisy, self.classes)
        model, num_unreadable = self._train(noisy)
        answers, num_skipped = self._answers(model.all_networks)
        metrics = accuracies(answers[0])
        if len(answers) > 1:
            together = accuracies(answers[-1])
            metrics |= {f"{name}_ensemble": together[name] for name in ("top1", "mean_per_class")}
        details = {
            **counts,
            "num_labels_made_wrong": int((noisy != self.labels).sum()),
            "num_train_skipped": num_unreadable,
            "num_test_skipped": num_skipped,
            "held_clean": [self._found(held, noisy) for held in model.held_clean()],
            **describe(answers[0], self.classes, seed=self.task.seed),
        }
        return metrics, details, model.all_networks[0]

    def _found(self, held: Clean, noisy: Labels) -> dict[str, float]:
        """Count what a network was given as clean and, where noise was put in, how well that was chosen."""
        quality = found_clean(held, noisy == self.labels) if self.task.label_noise else {}
        return {"images": int(held.sum()), **quality}

    def _train(self, labels: Labels) -> tuple[NoisyModel, int]:
        """Run the loop; give the model and the number of unreadable images."""
        task, settings = self.task, self.task.fit_settings()
        fabric = make_fabric(settings.device, settings.precision)
        model = task.build(self._networks(), len(self.images), len(self.classes))
        if fabric.device.type == "cuda":
            model.to(memory_format=torch.channels_last)  # quicker there
        views = task.weak_strong(self.encoder, 2 if isinstance(model, DivideMix) else 1, 0)
        loading = task.loading(quiet=self.quiet)
        decoder = loading.decoder(self.images, views, fabric)
        division = model.division if isinstance(model, DivideMix) else None
        batches = noisy_views(
            self.images,
            labels,
            decoder,
            views,
            loading,
            fabric,
            seed=task.seed,
            batch_size=task.batch_size,
            division=division,
        )
        scores = Scores(model, labels, self._centres(labels, decoder, loading, fabric))
        with contextlib.closing(batches), contextlib.closing(scores.batches):
            fit(
                model,
                batches,
                settings,
                fabric=fabric,
                out=self.state,
                resume=True,
                label=f"weblysup {task.method}",
                quiet=self.quiet,
                on_epoch=scores if isinstance(model, DivideMix) else None,
            )
            return model, batches.num_unreadable

    def _networks(self) -> list[Network]:
        """Copy the encoder's backbone once or twice, each with a head of its own."""
        seeds = [self.task.seed] if self.task.method == "plain" else [self.task.seed, self.task.seed + 1]
        heads = [fresh_head(self.encoder.dim, len(self.classes), seed) for seed in seeds]
        return [Network(copy.deepcopy(self.encoder.backbone).requires_grad_(True), head) for head in heads]

    def _centres(self, labels: Labels, decoder: Decoder | Cache, loading: Loading, fabric: Fabric) -> NoisyViews:
        """Make batches of all images as they are tested; every process gets all of them."""
        encoder = self.encoder
        view = CenterView(
            image_size=encoder.image_size,
            resize_size=encoder.resize_size,
            interpolation=encoder.inputs.interpolation,
            mean=encoder.mean,
            std=encoder.std,
        )
        plan = DividedPlan(
            num_images=len(self.images), batch_size=self.task.batch_size, seed=self.task.seed, min_batch=1
        )
        workers = loading.workers(fabric)
        return NoisyViews(labels, self.images, decoder, plan, view, fabric, num_workers=workers)

    def _answers(self, networks: list[Network]) -> tuple[list[Answers], int]:
        """Classify the test images with each network and, where there are two, with their mean probability."""
        said: list[Tensor] = []
        targets, num_skipped = torch.zeros(0, dtype=torch.int64), 0
        for network in networks:
            rows = features_on_images(
                network, self.encoder, self.test, num_workers=self.task.num_workers, quiet=self.quiet
            )
            labels = relabelled(rows.labels, rows.classes, self.classes)
            kept = np.flatnonzero(labels >= 0)
            said.append(logits_of(network, rows, kept))
            targets, num_skipped = torch.from_numpy(labels[kept]), rows.num_skipped
        if len(said) > 1:
            said.append(torch.stack([logits.softmax(1) for logits in said]).mean(0))
        return [Answers.from_scores(scores, targets) for scores in said], num_skipped


class Scores:
    """After an epoch: the loss of every training image to each network, for DivideMix to divide them by."""

    def __init__(self, model: NoisyModel, labels: Labels, batches: NoisyViews) -> None:
        self.model, self.labels, self.batches = model, torch.from_numpy(labels), batches

    def __call__(self, moment: Moment) -> dict[str, float]:
        """Measure, once the warm-up is over; give the share of images held for clean, for the log."""
        model = self.model
        assert isinstance(model, DivideMix)
        if moment.epoch + 1 < model.settings.warm_up:
            return {}
        model.note_losses(self.measure())
        return {"held_clean": float(model.held_clean().mean())}

    @torch.no_grad()
    def measure(self) -> Tensor:
        """Give the cross-entropy of each network on each image, float32 [2, n]; NaN where it cannot be read."""
        self.model.eval()
        losses = torch.full((2, len(self.labels)), torch.nan)
        for batch in self.batches(0, 0):
            if batch is None:
                continue
            for number, network in enumerate(self.model.all_networks):
                logits = network(batch.views[0]).float().cpu()
                losses[number, batch.rows] = F.cross_entropy(logits, batch.labels, reduction="none")
        return losses
