"""A bare weights file tells its architecture by names and shapes."""

from __future__ import annotations

import pytest
import torch

from simcore.backbones import create_backbone
from simcore.backbones.recognise import CONVOLUTIONAL, recognise
from simcore.errors import SimcoreError


def meta(name: str, **settings):
    with torch.device("meta"):
        return create_backbone(name, seed=0, **settings).state_dict()


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_networks_with_convolutions(name):
    tensors = {f"module.{key}": value for key, value in meta(name).items()}
    assert recognise({"state_dict": tensors, "fc.weight": torch.zeros(2, 2)}, source="x.pth") == (name, None)


@pytest.mark.parametrize("name", ["dino_vit_t16", "dino_vit_s16", "dino_vit_b16"])
def test_transformers_with_learnt_positions(name):
    tensors = meta(name, image_size=96)
    tensors["pos_embed"] = torch.zeros(tensors["pos_embed"].shape)
    assert recognise(tensors, source="x.pth") == (name, 96)


def test_transformers_with_fixed_positions_are_those_of_mae():
    model = create_backbone("mae_vit_base", seed=0, image_size=64)
    decoder = {"decoder_pos_embed": torch.zeros(1, 17, 512), "mask_token": torch.zeros(1, 1, 512)}
    assert recognise({"model": {**decoder, **model.state_dict()}}, source="x.pth") == ("mae_vit_base", 64)


def test_what_fits_nothing_says_how_to_name_it():
    with pytest.raises(SimcoreError, match=r"x.pth: the file does not say .* name it: x.pth@BACKBONE"):
        recognise(meta("resnet26"), source="x.pth")
    with pytest.raises(SimcoreError, match=r"x.pth@BACKBONE"):
        recognise({"pos_embed": torch.zeros(1, 50, 77)}, source="x.pth")


def test_what_fits_in_part_or_not_at_all_is_counted():
    tensors = meta("resnet10")
    half = dict(list(tensors.items())[::2])
    with pytest.raises(SimcoreError, match=r"36 of 72 tensors fit resnet10\); name it"):
        recognise(half, source="x.pth")
    with pytest.raises(SimcoreError, match=r"\(0 of 72 tensors fit any\)"):
        recognise({f"other.thing.{name}": value for name, value in tensors.items()}, source="x.pth")
