"""Where images come from, and bytes to pixels: every fault is named."""

from simcore.images.decode import Decoded, decode
from simcore.images.faults import ImageFault, Limits, Refused, Unreadable
from simcore.images.opening import open_images
from simcore.images.reopening import open_uris
from simcore.images.source import ImageSource, SourceNotes

__all__ = [
    "Decoded",
    "ImageFault",
    "ImageSource",
    "Limits",
    "Refused",
    "SourceNotes",
    "Unreadable",
    "decode",
    "open_images",
    "open_uris",
]
