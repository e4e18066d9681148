"""Does pretraining help detection? RetinaNet on a frozen backbone: SimCLR of ours against random weights.

Scenes are drawn from a seed: discs, squares and triangles, each of a random texture, on textured ground. The backbone
is pretrained on further scenes without labels. Both arms train the same heads for the same epochs on few labelled
scenes; the figures are COCO's average precision on others.

    python benchmarks/tasks/detection.py
"""

from __future__ import annotations

import argparse

import _scenes as scenes

from simcore.tasks.detection import Detection


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    scenes.add_arguments(parser)
    parser.add_argument("--lr", type=float, default=3e-4)
    args = parser.parse_args()

    def task(seed: int) -> Detection:
        return Detection(
            epochs=args.epochs,
            lr=args.lr,
            batch_size=8,
            min_size=args.side,
            max_size=2 * args.side,
            anchor_size=16,
            num_workers=0,
            device=args.device,
            seed=seed,
        )

    what = (__doc__ or "").partition("\n")[0]
    scenes.compare(args, "detection", task, lambda place: f"coco:{place}/boxes.json", what)


if __name__ == "__main__":
    main()
