"""Training a backbone with labels: its batches, the classifier that the loop trains, and its answers."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from simcore.artifacts import Embeddings
from simcore.artifacts.files import fingerprint
from simcore.embedding import Embedder, Encoder
from simcore.images import ImageSource
from simcore.tasks._classes import relabelled
from simcore.tasks._heads import INIT_STD
from simcore.tasks._loading import Loading
from simcore.tasks._metrics import Answers
from simcore.tasks._scaling import Scaling
from simcore.training._data import ViewBatches
from simcore.training._plan import BatchPlan
from simcore.training.trainable import Moment, StepOutput, Trainable
from simcore.views import Supervised


class LabelledViews(ViewBatches):
    """Batches of (views float32 [B, 3, S, S], labels int64 [B]); unreadable images are left out of both."""

    def __init__(self, labels: npt.NDArray[np.int64], *parts: Any, **options: Any) -> None:
        """Take the label of each row of the source, then what :class:`ViewBatches` takes."""
        super().__init__(*parts, **options)
        self.labels = torch.from_numpy(labels)

    def __call__(self, epoch: int, skip_steps: int) -> Iterator[Any]:
        """Yield the batches of ``epoch`` from number ``skip_steps`` on; None for one without readable images."""
        for batch in super().__call__(epoch, skip_steps):
            yield None if batch is None else (batch.views[0], self.labels[batch.rows])


@dataclasses.dataclass(frozen=True, kw_only=True)
class FrozenFeatures:
    """Batches of (features float32 [B, dim], labels int64 [B]) of views that a frozen encoder embeds as they come."""

    encoder: Encoder
    views: LabelledViews
    scaling: Scaling

    @property
    def steps_per_epoch(self) -> int:
        """Batches of one epoch."""
        return self.views.steps_per_epoch

    def __call__(self, epoch: int, skip_steps: int) -> Iterator[Any]:
        """Yield the batches of ``epoch`` from number ``skip_steps`` on; None for one without readable images."""
        for batch in self.views(epoch, skip_steps):
            if batch is None:
                yield None
                continue
            images, labels = batch
            with torch.no_grad():
                features = self.encoder.backbone(images).flatten(1).float()
            yield self.scaling(features), labels.to(images.device)

    def close(self) -> None:
        """End the decoding processes."""
        self.views.close()


class Network(nn.Module):
    """A backbone with a linear head."""

    def __init__(self, backbone: nn.Module, head: nn.Linear) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head

    def forward(self, images: Tensor) -> Tensor:
        """Give logits [B, num_classes] of normalised images [B, 3, S, S]."""
        logits: Tensor = self.head(self.backbone(images).flatten(1))
        return logits


class Classifier(Trainable):
    """A network trained end to end by cross-entropy; it can keep a copy of its best self.

    What is kept is part of the state, so a resumed run chooses as an uninterrupted one does.
    """

    kept_score: Tensor

    def __init__(self, backbone: nn.Module, *, dim: int, num_classes: int, seed: int, keep_best: bool) -> None:
        super().__init__()
        self.network = Network(backbone, fresh_head(dim, num_classes, seed))
        self.kept = copy.deepcopy(self.network).requires_grad_(False) if keep_best else None
        self.register_buffer("kept_score", torch.tensor([-1.0, -torch.inf, 0.0], dtype=torch.float64))

    def training_step(self, batch: Any, moment: Moment) -> StepOutput:
        """Give the mean cross-entropy of (images [B, 3, S, S], labels [B])."""
        images, labels = batch
        logits = self.network(images)
        right = (logits.detach().argmax(1) == labels).float().mean()
        return StepOutput(loss=nn.functional.cross_entropy(logits, labels), logs={"batch_top1": 100.0 * right})

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Train the network, not the kept copy."""
        return [{"params": list(self.network.parameters()), "weight_decay": weight_decay}]

    def keep_if_better(self, accuracy: float, loss: float, epoch: int) -> None:
        """Copy the network if it beats the kept one: by accuracy, then by lower loss."""
        assert self.kept is not None
        best = tuple(self.kept_score[:2].tolist())
        if (accuracy, -loss) > best:
            self.kept.load_state_dict(self.network.state_dict())
            self.kept_score.copy_(torch.tensor([accuracy, -loss, epoch], dtype=torch.float64))

    @property
    def chosen(self) -> Network:
        """The kept network, or the present one where none is kept."""
        return self.network if self.kept is None else self.kept


def fresh_head(dim: int, num_classes: int, seed: int) -> nn.Linear:
    """Make a linear layer whose weights depend on the seed alone; torch's own generators stay as they are."""
    generator = torch.Generator().manual_seed(int(fingerprint("head", seed), 16) % 2**63)
    with torch.random.fork_rng(devices=[]):
        head = nn.Linear(dim, num_classes)
    with torch.no_grad():
        head.weight.normal_(0.0, INIT_STD, generator=generator)
        head.bias.zero_()
    return head


def labelled_views(
    images: ImageSource,
    labels: npt.NDArray[np.int64],
    views: Supervised,
    fabric: Fabric,
    *,
    seed: int,
    batch_size: int,
    num_workers: int | None,
    cache_mb: int,
    quiet: bool,
    min_batch: int = 2,
) -> LabelledViews:
    """Make the batches of labelled images: each image once an epoch, in an order drawn from (seed, epoch).

    Args:
        labels: class of each image, int64 [n].
        cache_mb: decoded images are kept in memory where they fit into this many MB.
        min_batch: fewest images a process may get at once (batch normalisation needs two).
    """
    loading = Loading(num_workers=num_workers, cache_mb=cache_mb, quiet=quiet)
    plan = BatchPlan(
        num_images=len(images),
        batch_size=batch_size,
        seed=seed,
        min_batch=min_batch,
        world_size=fabric.world_size,
        rank=fabric.global_rank,
    )
    return LabelledViews(
        labels,
        images,
        loading.decoder(images, views, fabric),
        plan,
        views,
        fabric,
        num_workers=loading.workers(fabric),
        channels_last=fabric.device.type == "cuda",
    )


def answers_on_images(
    network: Network,
    like: Encoder,
    images: ImageSource,
    classes: Sequence[str],
    *,
    num_workers: int | None,
    quiet: bool,
) -> tuple[Answers, float, int]:
    """Classify the images of known classes with the preprocessing of encoder ``like``.

    Returns:
        The answers, their mean cross-entropy, and how many images could not be read.
    """
    rows = features_on_images(network, like, images, num_workers=num_workers, quiet=quiet)
    labels = relabelled(rows.labels, rows.classes, classes)
    kept = np.flatnonzero(labels >= 0)
    logits, targets = logits_of(network, rows, kept), torch.from_numpy(labels[kept])
    return Answers.from_scores(logits, targets), float(nn.functional.cross_entropy(logits, targets)), rows.num_skipped


def features_on_images(
    network: Network, like: Encoder, images: ImageSource, *, num_workers: int | None, quiet: bool
) -> Embeddings:
    """Give what the network's head sees of each readable image, float32, with the preprocessing of ``like``."""
    encoder = encoder_around(network.backbone, like)
    return Embedder(encoder, num_workers=num_workers, dtype="float32", quiet=quiet)(images)


@torch.no_grad()
def logits_of(network: Network, rows: Embeddings, kept: npt.NDArray[np.int64]) -> Tensor:
    """Give the head's logits, float32 [n, num_classes] on the CPU, for the ``kept`` rows of its features."""
    features = torch.from_numpy(rows.features.take(kept)).to(network.head.weight.device)
    return network.head(features).cpu()  # type: ignore[no-any-return]


def encoder_around(backbone: nn.Module, like: Encoder, *, spec: str | None = None) -> Encoder:
    """Give an encoder with this backbone and the preprocessing of another one."""
    return Encoder(
        backbone,
        spec=like.spec if spec is None else spec,
        backbone_name=like.backbone_name,
        dim=like.dim,
        inputs=like.inputs,
    )
