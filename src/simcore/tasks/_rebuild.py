"""A backbone built anew with other options of timm (dilation, say) and the weights of one that is loaded."""

from __future__ import annotations

from typing import Any

from torch import nn

from simcore.backbones import create_backbone
from simcore.embedding import Encoder
from simcore.errors import SimcoreError

NAMES_SHOWN = 8


def rebuilt(encoder: Encoder, **timm_kwargs: Any) -> nn.Module:
    """Build the encoder's backbone with further ``timm_kwargs`` and give it every weight of the encoder's own.

    Raises ``UsageError`` where the architecture knows no such option, ``SimcoreError`` that lists the tensors which
    the encoder's weights lack or hold in another shape; nothing is ever left at random.
    """
    name = encoder.backbone_name
    model = create_backbone(name, seed=0, image_size=encoder.image_size, **timm_kwargs)
    known, wanted = encoder.backbone.state_dict(), model.state_dict()
    missing = [key for key, value in wanted.items() if key not in known or known[key].shape != value.shape]
    if missing:
        more = f" and {len(missing) - NAMES_SHOWN} more" if len(missing) > NAMES_SHOWN else ""
        raise SimcoreError(
            f"{encoder.spec}: {len(missing)} of the {len(wanted)} tensors of {name} are missing or of another shape: "
            f"{', '.join(missing[:NAMES_SHOWN])}{more}"
        )
    model.load_state_dict({key: known[key] for key in wanted})
    return model
