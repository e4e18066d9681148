"""Does pretraining help segmentation? DeepLabV3+ on a frozen backbone: SimCLR of ours against random weights.

Scenes and backbones are those of detection.py, and are taken from the same --work where they are there already. The
figures are those of all classes (the ground among them) on scenes that were not trained on.

    python benchmarks/tasks/segmentation.py
"""

from __future__ import annotations

from pathlib import Path

import _dense_arms as arms

from simcore.tasks.segmentation import Segmentation


def main() -> None:
    args = arms.arguments(__doc__, epochs=60, batch_size=12, lr=0.1).parse_args()
    classes = tuple(f"{name}={value}" for value, name in enumerate(("background", *arms.kinds(args))))

    def task(seed: int) -> Segmentation:
        return Segmentation(
            epochs=args.epochs,
            lr=args.lr,
            batch_size=args.batch_size,
            crop_size=args.side,
            mask_classes=classes,
            num_workers=0,
            device=args.device,
            seed=seed,
        )

    def source(scenes: Path) -> str:
        return f"masks:{scenes}"

    arms.compare(args, "segmentation", task, source, (__doc__ or "").partition("\n")[0])


if __name__ == "__main__":
    main()
