"""CelebAMask-HQ: faces of people of whom there are many pictures, with 40 binary attributes."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Iterator, Mapping

from simcore.datasets._dataset import Dataset, Row
from simcore.datasets._tree import Tree
from simcore.errors import UsageError
from simcore.settings import setting

__all__ = ["CelebA"]

ATTRIBUTES = (
    "5_o_clock_shadow", "arched_eyebrows", "attractive", "bags_under_eyes", "bald", "bangs", "big_lips",
    "big_nose", "black_hair", "blond_hair", "blurry", "brown_hair", "bushy_eyebrows", "chubby",
    "double_chin", "eyeglasses", "goatee", "gray_hair", "heavy_makeup", "high_cheekbones", "male",
    "mouth_slightly_open", "mustache", "narrow_eyes", "no_beard", "oval_face", "pale_skin", "pointy_nose",
    "receding_hairline", "rosy_cheeks", "sideburns", "smiling", "straight_hair", "wavy_hair", "wearing_earrings",
    "wearing_hat", "wearing_lipstick", "wearing_necklace", "wearing_necktie", "young",
)  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class CelebA(Dataset):
    """Join the pictures with the identities of CelebA; keep people with enough pictures and split each person's.

    The published split followed the order of a directory listing, which differs between machines; here the pictures
    of a person are taken by number, the first ``train_share`` (rounded down) for training, so the counts agree and
    the split is one and the same everywhere.
    """

    title = "CelebAMask-HQ by identity"
    licence = "non-commercial research and education"
    home = "https://github.com/switchablenorms/CelebAMask-HQ"
    published = (
        "CelebAMask-HQ.zip, and identity_CelebA.txt of CelebA (https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html)"
    )
    archives = ("CelebAMask-HQ.zip",)
    markers = ("CelebA-HQ-img", "CelebA-HQ-to-CelebA-mapping.txt", "identity_CelebA.txt")
    num_classes, num_train, metric = 307, 4263, "top1"
    attributes = types.MappingProxyType({"identity": 307, **dict.fromkeys(ATTRIBUTES, 2)})

    min_images: int = setting(15, "least pictures of a person who is kept")
    train_share: float = setting(0.8, "share of each person's pictures that is for training")

    def __post_init__(self) -> None:
        if self.min_images < 1 or not 0 < self.train_share < 1:
            raise UsageError("min_images must be at least 1 and train_share between 0 and 1")

    def wants(self, member: str) -> bool:
        """Leave the half million part masks in the archive: no published experiment uses them."""
        return "CelebAMask-HQ-mask-anno/" not in member

    def rows(self, tree: Tree) -> Iterator[Row]:
        """Give the training images of all people in the order of their numbers, then the test images."""
        folder, facts = tree.need("CelebA-HQ-img"), _attributes(tree)
        people = {who: numbers for who, numbers in _people(tree).items() if len(numbers) >= self.min_images}
        for split in ("train", "test"):
            for who in sorted(people, key=int):
                num_train = int(self.train_share * len(people[who]))
                chosen = people[who][:num_train] if split == "train" else people[who][num_train:]
                for number in chosen:
                    attributes = {"identity": f"person_{who}", **facts.get(f"{number}.jpg", {})}
                    yield Row(split, f"{folder}/{number}.jpg", f"person_{who}", attributes)


def _people(tree: Tree) -> dict[str, list[int]]:
    """Give the numbers of each person's pictures, ascending."""
    identity = dict(line.split()[:2] for line in tree.lines("identity_CelebA.txt"))
    people: dict[str, list[int]] = {}
    for line in tree.lines("CelebA-HQ-to-CelebA-mapping.txt")[1:]:
        number, _, original = line.split()[:3]
        if original in identity:
            people.setdefault(identity[original], []).append(int(number))
    return {who: sorted(numbers) for who, numbers in people.items()}


def _attributes(tree: Tree) -> Mapping[str, Mapping[str, str]]:
    """Read the attribute table: a count, the names, then ``0.jpg -1 1 …``; 1 is yes."""
    if tree.find("CelebAMask-HQ-attribute-anno.txt") is None:
        return {}
    _, names, *lines = tree.lines("CelebAMask-HQ-attribute-anno.txt")
    keys = [name.lower() for name in names.split()]
    answers = {"1": "yes", "-1": "no", "0": "no"}
    split = (line.split() for line in lines)
    return {name: {k: answers.get(v, "") for k, v in zip(keys, values, strict=False)} for name, *values in split}
