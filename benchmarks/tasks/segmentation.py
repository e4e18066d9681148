"""Does pretraining help segmentation? DeepLabV3+ on a frozen backbone: SimCLR of ours against random weights.

Scenes are those of detection.py: discs, squares and triangles, each of a random texture, on textured ground. The
figures are those of four classes (the ground among them) on scenes that were not trained on.

    python benchmarks/tasks/segmentation.py
"""

from __future__ import annotations

import argparse

import _scenes as scenes

from simcore.tasks.segmentation import Segmentation


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    scenes.add_arguments(parser)
    parser.add_argument("--lr", type=float, default=0.1)
    args = parser.parse_args()
    names = tuple(f"{name}={value}" for value, name in enumerate(("background", *scenes.KINDS)))

    def task(seed: int) -> Segmentation:
        return Segmentation(
            epochs=args.epochs,
            lr=args.lr,
            batch_size=16,
            crop_size=args.side,
            mask_classes=names,
            num_workers=0,
            device=args.device,
            seed=seed,
        )

    what = (__doc__ or "").partition("\n")[0]
    scenes.compare(args, "segmentation", task, lambda place: f"masks:{place}", what)


if __name__ == "__main__":
    main()
