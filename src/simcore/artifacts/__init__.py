"""The nouns that flow from stage to stage. Each is immutable, can be saved and loaded, and knows its parents."""

from simcore.artifacts.checkpoint import Checkpoint
from simcore.artifacts.embeddings import Embeddings
from simcore.artifacts.report import Report
from simcore.artifacts.selection import Selection

__all__ = ["Checkpoint", "Embeddings", "Report", "Selection"]
