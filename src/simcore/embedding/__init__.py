"""Images to features."""

from simcore.embedding.embedder import Embedder
from simcore.embedding.encoder import Encoder
from simcore.embedding.load import load_encoder

__all__ = ["Embedder", "Encoder", "load_encoder"]
