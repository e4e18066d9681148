"""A look at the features while they are trained: do an image's nearest neighbours share its class?"""

from __future__ import annotations

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn.functional import normalize, one_hot

from simcore.images.source import ImageSource
from simcore.training._decoding import PIECE, Decoder, decoded
from simcore.views import CenterView

MAX_IMAGES = 2000
NUM_NEIGHBOURS = 20
TEMPERATURE = 0.07


class NeighbourProbe:
    """Leave-one-out kNN accuracy, in percent, on at most 2,000 labelled images of the target, evenly spaced.

    A sign of progress, not an evaluation: the images are those that are trained on.
    """

    def __init__(self, images: ImageSource, view: CenterView, fabric: Fabric, num_workers: int) -> None:
        labelled = np.flatnonzero(images.labels >= 0)
        spread = np.linspace(0, len(labelled) - 1, min(MAX_IMAGES, len(labelled))).astype(np.int64)
        self.images, self.rows = images, labelled[spread] if len(labelled) else labelled
        self.view, self.fabric, self.num_workers = view, fabric, num_workers

    @property
    def useful(self) -> bool:
        """Whether there are labels of at least two classes."""
        return len(np.unique(self.images.labels[self.rows])) > 1

    @torch.no_grad()
    def measure(self, backbone: nn.Module) -> float:
        """Embed the images and give the accuracy; the mode of ``backbone`` is left as it was."""
        was_training = backbone.training
        backbone.eval()
        features, labels = self._embed(backbone)
        backbone.train(was_training)
        return leave_one_out(features, labels)

    def _embed(self, backbone: nn.Module) -> tuple[Tensor, Tensor]:
        side = self.view.image_size * 2
        decoder = Decoder(source=self.images, short_side=side, max_aspect=4.0)
        features, labels = [], []
        pieces = np.split(self.rows, np.arange(PIECE, len(self.rows), PIECE))
        for piece in decoded(decoder, pieces, self.num_workers, pin_memory=False):
            if piece.images is not None:
                (view,) = self.view(piece.images.to(self.fabric.device))
                with self.fabric.autocast():
                    features.append(backbone(view).float())
                labels.append(torch.from_numpy(self.images.labels[list(piece.rows)]))
        return torch.cat(features), torch.cat(labels).to(self.fabric.device)


def leave_one_out(features: Tensor, labels: Tensor, num_neighbours: int = NUM_NEIGHBOURS) -> float:
    """Let each row's nearest others vote, weighted by exp(cosine / 0.07); give the share of right votes in percent.

    Shape:
        features: [n, dim]; labels: int64 [n].
    """
    unit = normalize(features)
    cosines = (unit @ unit.T).fill_diagonal_(-torch.inf)
    nearest = cosines.topk(min(num_neighbours, len(unit) - 1), dim=1)
    classes, kinds = torch.unique(labels, return_inverse=True)
    votes = one_hot(kinds[nearest.indices], len(classes)) * (nearest.values / TEMPERATURE).exp()[:, :, None]
    return 100.0 * float((votes.sum(dim=1).argmax(dim=1) == kinds).float().mean())
