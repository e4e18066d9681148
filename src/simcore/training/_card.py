"""The model card beside a backbone: what it was trained on, how, and how to open it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from simcore.artifacts import Checkpoint
from simcore.artifacts.files import written_aside
from simcore.training.log import read_log

CARD_NAME = "model-card.md"


def write_card(run: Checkpoint) -> Path:
    """Write ``model-card.md`` into a finished run, whole or not at all."""
    with written_aside(run.path / CARD_NAME) as aside:
        aside.write_text(card(run), "utf-8")
    return run.path / CARD_NAME


def card(run: Checkpoint) -> str:
    """Give the card's Markdown text."""
    config = run.config
    return CARD.format(
        backbone=config["backbone"],
        method=config["method"],
        data=_bullets({name: _data_line(part, config, name) for name, part in config["data"].items()}),
        outcome=_bullets(_outcome(run)),
        method_settings=_bullets(config["method_settings"]),
        settings=_bullets(config["settings"]),
        versions=", ".join(f"{name} {version}" for name, version in config["versions"].items()),
        image_size=config["image_size"],
        mean=config["mean"],
        std=config["std"],
    )


def _data_line(part: Mapping[str, Any], config: Mapping[str, Any], name: str) -> str:
    return f"`{part['name']}`, {part['num_images']:,} images (fingerprint {config['parents'][name]})"


def _outcome(run: Checkpoint) -> dict[str, Any]:
    epochs = [line for line in read_log(run.path) if line["event"] == "epoch"]
    if not epochs:
        return {}
    wanted = ("epoch", "step", "loss", "num_images", "images_left_out", "num_unreadable", "feature_std", "rankme")
    last = {name: epochs[-1][name] for name in wanted if epochs[-1].get(name) is not None}
    probes = [line["knn"] for line in epochs if "knn" in line]
    return last | ({"knn on the training images, in percent": probes[-1]} if probes else {})


def _bullets(values: Mapping[str, Any]) -> str:
    return "\n".join(f"- {name}: {_short(value)}" for name, value in values.items()) or "- none"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


CARD = """# {backbone}, pretrained with {method}

A backbone pretrained without labels by simcore. It gives features, no classes: put a head on it, or search with it.

## Data

{data}

Its licence and its biases are those of these images.

## Use

    import timm
    model = timm.create_model("{backbone}", num_classes=0, checkpoint_path="backbone.safetensors")

Images: {image_size} px, RGB from 0 to 1, less {mean}, over {std}. A name that timm lacks is registered by
`import simcore.backbones`.

## At the end of training

{outcome}

## Method

{method_settings}

## Training

{settings}

Versions: {versions}.
"""
