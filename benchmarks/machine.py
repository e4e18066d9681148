"""What a result file says about where it was made."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

PACKAGES = ("simcore", "pillow", "torch", "torchvision", "timm", "numpy", "pyarrow", "scikit-learn")


def describe() -> dict[str, Any]:
    """Name processor, cores, memory, a GPU if there is one, and the versions of what does the work."""
    cpu = [line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    memory = next((line.split()[1] for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), None)
    return {
        "cpu": cpu[0] if cpu else platform.processor(),
        "num_cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(int(memory) / 2**20, 1) if memory else None,
        "gpu": gpu(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
    }


def gpu() -> str | None:
    """Name the GPU, if there is one."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).is_file() else []


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
