"""Does pretraining help detection? RetinaNet on a frozen backbone: SimCLR of ours against random weights.

Scenes are drawn from a seed: discs, squares and triangles, each of a random texture, on textured ground. The backbone
is pretrained on further scenes without labels. All arms train the same heads for the same epochs on few labelled
scenes; the figures are COCO's average precision on others. What is finished in --work is not done again.

    python benchmarks/tasks/detection.py
"""

from __future__ import annotations

from pathlib import Path

import _dense_arms as arms

from simcore.tasks.detection import Detection


def main() -> None:
    args = arms.arguments(__doc__, epochs=20, batch_size=4, lr=5e-4).parse_args()

    def task(seed: int) -> Detection:
        return Detection(
            epochs=args.epochs,
            lr=args.lr,
            batch_size=args.batch_size,
            min_size=args.side,
            max_size=2 * args.side,
            anchor_size=16,
            num_workers=0,
            device=args.device,
            seed=seed,
        )

    def source(scenes: Path) -> str:
        return f"coco:{scenes}/boxes.json"

    arms.compare(args, "detection", task, source, (__doc__ or "").partition("\n")[0])


if __name__ == "__main__":
    main()
