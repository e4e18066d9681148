"""How the tasks that train on images load them."""

from __future__ import annotations

import dataclasses

from lightning_fabric import Fabric

from simcore.images import ImageSource
from simcore.training._decoding import Cache, Decoder, cached, decoder_for, spare_workers
from simcore.views import Supervised, WeakStrong


@dataclasses.dataclass(frozen=True, kw_only=True)
class Loading:
    """Decoding processes (None: the spare cores), and MB for decoded images.

    ``share`` says by how many sets of images that are loaded side by side both are divided.
    """

    num_workers: int | None
    cache_mb: int
    quiet: bool
    share: int = 1

    def decoder(self, images: ImageSource, views: Supervised | WeakStrong, fabric: Fabric) -> Decoder | Cache:
        """Decode images for random views; into memory at once where they fit."""
        decoder = decoder_for(images, views, views.image_size)
        limit_mb = self.cache_mb // self.share // fabric.world_size
        silent = self.quiet or not fabric.is_global_zero
        return cached(decoder, limit_mb, self.workers(fabric), silent) or decoder

    def workers(self, fabric: Fabric) -> int:
        """Give the number of decoding processes of this process."""
        return -(-spare_workers(self.num_workers, fabric.world_size) // self.share)
