"""The demo's recipe."""

from __future__ import annotations

import os
from pathlib import Path

from simcore.recipe._reader import Reader
from simcore.recipe._recipe import Recipe

DEMO_STEPS = 250
DEMO_BUDGET = 600


def demo(out: str | os.PathLike[str], *, seed: int = 0, num_seeds: int = 3) -> Recipe:
    """Draw the built-in set below ``out`` and give the recipe that does the main job on it.

    Equal budget and equal steps for every arm; what comes out is what is printed, whoever wins.
    """
    from simcore.datasets.drawn import Drawn

    place = Path(out)
    sources = Drawn(seed=seed).write(place / "images")
    training = {"backbone": "test_resnet", "image_size": 32, "batch_size": 64, "temperature": 0.1}
    training |= {"optimizer": "adamw", "lr": 0.006, "max_steps": DEMO_STEPS}
    tree = {
        "target": str(sources.target.resolve()),
        "pool": str(sources.pool.resolve()),
        "test": str(sources.test.resolve()),
        "seeds": list(range(seed, seed + num_seeds)),
        "retrieval": {"method": "simclr", **training, "seed": seed},
        "arms": {
            "x-only": "target",
            "x+random": {"selector": "random", "budget": DEMO_BUDGET},
            "x+simcore": {"selector": "simcore", "budget": DEMO_BUDGET},
        },
        "pretrain": {"method": "simclr", **training},
        "evaluate": {"knn": {"k": [20]}, "linear": {}},
    }
    return Recipe(**Reader("the demo's recipe", {}).parts(tree, base=place, out=place))
