"""Whether an earlier run of a benchmark may be taken over."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from simcore.artifacts import Report
from simcore.embedding import Encoder
from simcore.errors import SimcoreError
from simcore.images import ImageSource
from simcore.settings import as_dict


def finished(task: Any, encoder: Encoder, sources: Mapping[str, ImageSource], out: Path) -> Report | None:
    """Give the report in ``out`` if it is of just this: the same settings, backbone and images."""
    try:
        report = Report.load(out / "metrics.json")
    except SimcoreError:
        return None
    made_of = {"encoder": encoder.fingerprint} | {side: images.fingerprint for side, images in sources.items()}
    same = all(report.parents.get(part) == made for part, made in made_of.items())
    return report if same and report.settings == json.loads(json.dumps(as_dict(task))) else None
