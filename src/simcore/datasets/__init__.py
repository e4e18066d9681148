"""Named data sets: what they are, and from the official archive to a source."""

from simcore.datasets._dataset import Box, Dataset, Row
from simcore.datasets._listing import Listed, listing
from simcore.datasets._prepare import Prepared, prepare

__all__ = ["Box", "Dataset", "Listed", "Prepared", "Row", "listing", "prepare"]
