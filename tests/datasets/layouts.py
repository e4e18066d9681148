"""Every named data set as its makers publish it, with a few tiny pictures: what to unpack, and what is right."""

from __future__ import annotations

import dataclasses
import io
import json
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

Right = tuple[str, str | None, str]
"""Split, label, end of the path."""


@dataclasses.dataclass(frozen=True)
class Layout:
    """One data set in small.

    ``archives`` says which top entries of the unpacked folder each official archive holds; entries that no archive
    holds lie beside them, as published.
    """

    build: Callable[[Path], None]
    rows: list[Right]
    archives: Mapping[str, tuple[str, ...]]
    settings: Mapping[str, object] = dataclasses.field(default_factory=dict)
    left_out: Mapping[str, int] = dataclasses.field(default_factory=dict)


def picture(path: Path, mode: str = "RGB", size: tuple[int, int] = (12, 10)) -> None:
    """Write a picture whose colours depend on its name, so that no two are equal."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shade = sum(str(path.relative_to(path.parents[1])).encode()) % 200
    colour = shade if mode == "L" else (shade, 255 - shade, len(path.name) * 5)
    Image.new(mode, size, colour).save(path, "PNG" if path.suffix == ".png" else "JPEG")


def text(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", "utf-8")


def mat(path: Path, **content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, content)


def cells(*values: object) -> np.ndarray:
    """A MATLAB cell array, one row a value."""
    array = np.empty((len(values), 1), object)
    for row, value in enumerate(values):
        array[row, 0] = value
    return array


def structs(*records: Mapping[str, object]) -> np.ndarray:
    """A MATLAB struct array of one row."""
    array = np.empty((1, len(records)), [(name, object) for name in records[0]])
    for column, record in enumerate(records):
        array[0, column] = tuple(record.values())
    return array


def pack(layout: Layout, unpacked: Path, into: Path) -> None:
    """Turn an unpacked folder into the official archives; what no archive holds is copied beside them."""
    into.mkdir(parents=True, exist_ok=True)
    packed: set[str] = set()
    for name, tops in layout.archives.items():
        packed.update(tops)
        files = [path for top in tops for path in sorted([unpacked / top, *(unpacked / top).rglob("*")])]
        write_archive(into / name, {str(p.relative_to(unpacked)): p.read_bytes() for p in files if p.is_file()})
    for path in unpacked.iterdir():
        if path.name not in packed and path.is_file():
            (into / path.name).write_bytes(path.read_bytes())


def write_archive(path: Path, files: Mapping[str, bytes]) -> None:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        return
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


def aircraft(root: Path) -> None:
    data = root / "fgvc-aircraft-2013b" / "data"
    planes = {
        "0034309": ("Boeing 707-320", "Boeing 707", "Boeing", "train"),
        "0034958": ("F-16A/B", "F-16", "Lockheed Martin", "val"),
        "1025794": ("Boeing 707-320", "Boeing 707", "Boeing", "test"),
    }
    for name in planes:
        picture(data / "images" / f"{name}.jpg")
    for part, members in (("train", ["train"]), ("val", ["val"]), ("trainval", ["train", "val"]), ("test", ["test"])):
        for position, level in enumerate(("variant", "family", "manufacturer")):
            lines = [f"{name} {facts[position]}" for name, facts in planes.items() if facts[3] in members]
            text(data / f"images_{level}_{part}.txt", *lines)
    text(data / "images_box.txt", "0034309 3 4 11 9", "0034958 1 1 12 10", "1025794 11 9 3 4")


def cars_whole(root: Path) -> None:
    names = ["AM General Hummer SUV 2000", "Dodge Challenger SRT8 2011", "Acura TL Type-S 2008"]
    records = []
    for number, (label, test) in enumerate([(1, 0), (2, 0), (3, 1)], start=1):
        picture(root / "car_ims" / f"{number:06d}.jpg")
        box = {"bbox_x1": 2, "bbox_y1": 3, "bbox_x2": 10, "bbox_y2": 9}
        records.append({"relative_im_path": f"car_ims/{number:06d}.jpg", **box, "class": label, "test": test})
    class_names = np.empty((1, 3), object)
    class_names[0, :] = names
    mat(root / "cars_annos.mat", annotations=structs(*records), class_names=class_names)


def cars_devkit(root: Path) -> None:
    class_names = np.empty((1, 2), object)
    class_names[0, :] = ["Audi TT Hatchback 2011", "Ram C/V Cargo Van Minivan 2012"]
    mat(root / "devkit" / "cars_meta.mat", class_names=class_names)
    for split, file, labels in (
        ("train", "devkit/cars_train_annos.mat", [1, 2, 1]),
        ("test", "cars_test_annos_withlabels.mat", [2, 1]),
    ):
        records = []
        for number, label in enumerate(labels, start=1):
            picture(root / f"cars_{split}" / f"{number:05d}.jpg")
            box = {"bbox_x1": 1, "bbox_y1": 1, "bbox_x2": 12, "bbox_y2": 10}
            records.append({**box, "class": label, "fname": f"{number:05d}.jpg"})
        mat(root / file, annotations=structs(*records))


def pets(root: Path) -> None:
    for name in ("Abyssinian_100", "american_bulldog_7", "Abyssinian_2"):
        picture(root / "images" / f"{name}.jpg")
        picture(root / "annotations" / "trimaps" / f"{name}.png", "L")
    text(root / "annotations" / "trimaps" / "._Abyssinian_2.png", "not a picture")
    text(root / "annotations" / "trainval.txt", "Abyssinian_100 1 1 1", "american_bulldog_7 2 2 1")
    text(root / "annotations" / "test.txt", "#Image CLASS-ID SPECIES BREED", "Abyssinian_2 1 1 1")


def cub(root: Path) -> None:
    home = root / "CUB_200_2011"
    paths = [
        "001.Black_footed_Albatross/Black_Footed_Albatross_0046_18.jpg",
        "002.Laysan_Albatross/Laysan_Albatross_0002_1027.jpg",
        "001.Black_footed_Albatross/Black_Footed_Albatross_0009_34.jpg",
        "002.Laysan_Albatross/Laysan_Albatross_0003_1033.jpg",
    ]
    for number, path in enumerate(paths):
        picture(home / "images" / path, "L" if number == 3 else "RGB")
        picture(root / "segmentations" / path.replace(".jpg", ".png"), "L")
    text(home / "images.txt", *(f"{n} {path}" for n, path in enumerate(paths, start=1)))
    text(home / "classes.txt", "1 001.Black_footed_Albatross", "2 002.Laysan_Albatross")
    text(home / "image_class_labels.txt", "1 1", "2 2", "3 1", "4 2")
    text(home / "train_test_split.txt", "1 0", "2 1", "3 1", "4 1")
    text(home / "bounding_boxes.txt", "1 1.0 2.0 5.0 6.0", "2 0.0 0.0 12.0 10.0", "3 2.5 1.0 4.0 4.0", "4 0 0 1 1")


def dogs(root: Path) -> None:
    names = ["n02085620-Chihuahua/n02085620_10074.jpg", "n02085782-Japanese_spaniel/n02085782_1.jpg"]
    tests = ["n02085620-Chihuahua/n02085620_2650.jpg"]
    for name in (*names, *tests):
        picture(root / "Images" / name)
    mat(root / "train_list.mat", file_list=cells(*names), labels=np.array([[1], [2]]))
    mat(root / "test_list.mat", file_list=cells(*tests), labels=np.array([[1]]))


def flowers(root: Path) -> None:
    for number in range(1, 6):
        picture(root / "jpg" / f"image_{number:05d}.jpg")
    mat(root / "imagelabels.mat", labels=np.array([[77, 77, 3, 3, 77]], np.uint8))
    mat(root / "setid.mat", trnid=np.array([[4, 1]]), valid=np.array([[3]]), tstid=np.array([[5, 2]]))


def stanford40(root: Path) -> None:
    for name in ("riding_a_horse_001.jpg", "running_010.jpg", "riding_a_horse_002.jpg"):
        picture(root / "JPEGImages" / name)
    splits = root / "ImageSplits"
    text(splits / "train.txt", "riding_a_horse_002.jpg", "running_010.jpg")
    text(splits / "test.txt", "riding_a_horse_001.jpg")
    text(splits / "actions.txt", "action_name number_of_images", "riding_a_horse 2", "running 1")


def mit67(root: Path) -> None:
    for name in ("kitchen/int474.jpg", "pantry/a b.jpg", "kitchen/k2.jpg"):
        picture(root / "Images" / name)
    text(root / "TrainImages.txt", "pantry/a b.jpg", "kitchen/int474.jpg")
    text(root / "TestImages.txt", "kitchen/k2.jpg", "kitchen/gone.jpg")


def dtd(root: Path) -> None:
    for name in ("banded/banded_0002.jpg", "banded/banded_0004.jpg", "woven/woven_0001.jpg", "woven/woven_0009.jpg"):
        picture(root / "dtd" / "images" / name)
    text(root / "dtd" / "labels" / "train1.txt", "banded/banded_0002.jpg")
    text(root / "dtd" / "labels" / "val1.txt", "woven/woven_0009.jpg")
    text(root / "dtd" / "labels" / "test1.txt", "banded/banded_0004.jpg", "woven/woven_0001.jpg")
    text(root / "dtd" / "labels" / "train2.txt", "woven/woven_0001.jpg")
    text(root / "dtd" / "labels" / "val2.txt", "banded/banded_0004.jpg")
    text(root / "dtd" / "labels" / "test2.txt", "banded/banded_0002.jpg")


def celeba(root: Path) -> None:
    """Person 7 has five pictures, person 12 four, person 3 one; the smallest number kept is set to four."""
    people = [7, 12, 7, 3, 7, 12, 12, 7, 12, 7]
    home = root / "CelebAMask-HQ"
    for number in range(10):
        picture(home / "CelebA-HQ-img" / f"{number}.jpg")
    mapping = [f"{n:>5}     {n + 40}           {n + 41:06d}.jpg" for n in range(10)]
    text(home / "CelebA-HQ-to-CelebA-mapping.txt", "idx  orig_idx  orig_file", *mapping)
    answers = [f"{n}.jpg {1 if n % 2 else -1} -1" for n in range(10)]
    text(home / "CelebAMask-HQ-attribute-anno.txt", "10", "Smiling Oval_Face", *answers)
    picture(home / "CelebAMask-HQ-mask-anno" / "0" / "00000_skin.png", "L")
    text(root / "identity_CelebA.txt", *(f"{n + 41:06d}.jpg {person}" for n, person in enumerate(people)))


def food11(root: Path) -> None:
    for name in ("training/0_0.jpg", "training/10_3.jpg", "validation/0_0.jpg", "evaluation/3_5.jpg"):
        picture(root / name)


def imagenet(root: Path) -> None:
    train = root / "ILSVRC" / "Data" / "CLS-LOC" / "train"
    for synset in ("n02690373", "n01440764"):
        for number in (10, 9):
            picture(train / synset / f"{synset}_{number}.JPEG")
    picture(root / "ILSVRC" / "Data" / "CLS-LOC" / "val" / "ILSVRC2012_val_00000001.JPEG")


def coco(root: Path) -> None:
    for number in (30, 9):
        picture(root / "train2017" / f"{number:012d}.jpg")
    text(root / "annotations" / "captions_train2017.json", "{}")


SPECIES = (
    "00000_Animalia_Annelida_Clitellata_Haplotaxida_Lumbricidae_Lumbricus_terrestris",
    "00001_Animalia_Chordata_Aves_Passeriformes_Parulidae_Setophaga_ruticilla",
)


def inaturalist(root: Path) -> None:
    for name in (f"{SPECIES[1]}/b.jpg", f"{SPECIES[0]}/c.jpg", f"{SPECIES[0]}/a.jpg"):
        picture(root / "train_mini" / name)


def inaturalist_json(root: Path) -> None:
    inaturalist(root)
    names = [f"{SPECIES[1]}/b.jpg", f"{SPECIES[0]}/a.jpg", f"{SPECIES[0]}/lost.jpg"]
    images = [{"id": n, "file_name": f"train_mini/{name}"} for n, name in enumerate(names)]
    text(root / "train_mini.json", json.dumps({"images": images, "annotations": []}))


def places(root: Path) -> None:
    names = ["a/airfield/00000001.jpg", "a/apartment_building/outdoor/00000002.jpg", "z/zoo/00000001.jpg"]
    for name in names:
        picture(root / "data_256" / name)
    text(root / "places365_train_challenge.txt", *(f"/{name} {n}" for n, name in enumerate(names)))


def webvision(root: Path) -> None:
    for name in ("google/q0001/x1.jpg", "google/q0007/y.jpg", "flickr/q0001/z.jpg"):
        picture(root / name)
    text(root / "info" / "synsets.txt", "n01440764 tench, Tinca tinca", "n01443537 goldfish, Carassius auratus")
    text(root / "info" / "train_filelist_google.txt", "google/q0007/y.jpg 1", "google/q0001/x1.jpg 0")
    text(root / "info" / "train_filelist_flickr.txt", "flickr/q0001/z.jpg 0")


def webfg(root: Path) -> None:
    for name in ("web-aircraft/train/F-16AB/1.jpg", "web-aircraft/val/F-16AB/2.jpg"):
        picture(root / name)
    picture(root / "web-bird" / "train" / "001.Albatross" / "1.jpg")
    picture(root / "web-car" / "train" / "Audi TT Hatchback 2011" / "9.jpg")


def everything(root: Path) -> None:
    for name, build in {"coco": coco, "inaturalist": inaturalist, "imagenet": imagenet, "places": places}.items():
        build(root / name)


RAM = "Ram C/V Cargo Van Minivan 2012"
TT = "Audi TT Hatchback 2011"
ALBATROSS, LAYSAN = "001.Black_footed_Albatross", "002.Laysan_Albatross"
PART = [("train", "n02690373", "n02690373/n02690373_10.JPEG"), ("train", "n02690373", "n02690373/n02690373_9.JPEG")]
TENCH = [("train", "n01440764", "n01440764/n01440764_10.JPEG"), ("train", "n01440764", "n01440764/n01440764_9.JPEG")]
COCO: list[Right] = [("train", None, "train2017/000000000009.jpg"), ("train", None, "train2017/000000000030.jpg")]
INAT: list[Right] = [
    ("train", SPECIES[0], f"{SPECIES[0]}/a.jpg"),
    ("train", SPECIES[0], f"{SPECIES[0]}/c.jpg"),
    ("train", SPECIES[1], f"{SPECIES[1]}/b.jpg"),
]
PLACES: list[Right] = [
    ("train", "airfield", "a/airfield/00000001.jpg"),
    ("train", "apartment_building_outdoor", "a/apartment_building/outdoor/00000002.jpg"),
    ("train", "zoo", "z/zoo/00000001.jpg"),
]

LAYOUTS: dict[str, Layout] = {
    "aircraft": Layout(
        aircraft,
        [
            ("train", "Boeing 707-320", "data/images/0034309.jpg"),
            ("train", "F-16A/B", "data/images/0034958.jpg"),
            ("test", "Boeing 707-320", "data/images/1025794.jpg"),
        ],
        {"fgvc-aircraft-2013b.tar.gz": ("fgvc-aircraft-2013b",)},
    ),
    "cars": Layout(
        cars_whole,
        [
            ("train", "AM General Hummer SUV 2000", "car_ims/000001.jpg"),
            ("train", "Dodge Challenger SRT8 2011", "car_ims/000002.jpg"),
            ("test", "Acura TL Type-S 2008", "car_ims/000003.jpg"),
        ],
        {"car_ims.tgz": ("car_ims",)},
    ),
    "cars devkit": Layout(
        cars_devkit,
        [
            ("train", TT, "cars_train/00001.jpg"),
            ("train", RAM, "cars_train/00002.jpg"),
            ("train", TT, "cars_train/00003.jpg"),
            ("test", RAM, "cars_test/00001.jpg"),
            ("test", TT, "cars_test/00002.jpg"),
        ],
        {"cars_train.tgz": ("cars_train",), "cars_test.tgz": ("cars_test",), "car_devkit.tgz": ("devkit",)},
    ),
    "pets": Layout(
        pets,
        [
            ("train", "Abyssinian", "images/Abyssinian_100.jpg"),
            ("train", "american_bulldog", "images/american_bulldog_7.jpg"),
            ("test", "Abyssinian", "images/Abyssinian_2.jpg"),
        ],
        {"images.tar.gz": ("images",), "annotations.tar.gz": ("annotations",)},
    ),
    "cub": Layout(
        cub,
        [
            ("train", LAYSAN, f"{LAYSAN}/Laysan_Albatross_0002_1027.jpg"),
            ("train", ALBATROSS, f"{ALBATROSS}/Black_Footed_Albatross_0009_34.jpg"),
            ("test", ALBATROSS, f"{ALBATROSS}/Black_Footed_Albatross_0046_18.jpg"),
        ],
        {"CUB_200_2011.tgz": ("CUB_200_2011",), "segmentations.tgz": ("segmentations",)},
        left_out={"grey": 1},
    ),
    "dogs": Layout(
        dogs,
        [
            ("train", "n02085620-Chihuahua", "n02085620-Chihuahua/n02085620_10074.jpg"),
            ("train", "n02085782-Japanese_spaniel", "n02085782-Japanese_spaniel/n02085782_1.jpg"),
            ("test", "n02085620-Chihuahua", "n02085620-Chihuahua/n02085620_2650.jpg"),
        ],
        {"images.tar": ("Images",), "lists.tar": ("train_list.mat", "test_list.mat")},
    ),
    "flowers": Layout(
        flowers,
        [
            ("train", "class_003", "image_00004.jpg"),
            ("train", "class_077", "image_00001.jpg"),
            ("train", "class_003", "image_00003.jpg"),
            ("test", "class_077", "image_00005.jpg"),
            ("test", "class_077", "image_00002.jpg"),
        ],
        {"102flowers.tgz": ("jpg",)},
    ),
    "stanford40": Layout(
        stanford40,
        [
            ("train", "riding_a_horse", "JPEGImages/riding_a_horse_002.jpg"),
            ("train", "running", "JPEGImages/running_010.jpg"),
            ("test", "riding_a_horse", "JPEGImages/riding_a_horse_001.jpg"),
        ],
        {"Stanford40_JPEGImages.zip": ("JPEGImages",), "Stanford40_ImageSplits.zip": ("ImageSplits",)},
    ),
    "mit67": Layout(
        mit67,
        [
            ("train", "pantry", "pantry/a b.jpg"),
            ("train", "kitchen", "kitchen/int474.jpg"),
            ("test", "kitchen", "kitchen/k2.jpg"),
        ],
        {"indoorCVPR_09.tar": ("Images",)},
        left_out={"missing": 1},
    ),
    "dtd": Layout(
        dtd,
        [
            ("train", "banded", "banded/banded_0002.jpg"),
            ("train", "woven", "woven/woven_0009.jpg"),
            ("test", "banded", "banded/banded_0004.jpg"),
            ("test", "woven", "woven/woven_0001.jpg"),
        ],
        {"dtd-r1.0.1.tar.gz": ("dtd",)},
    ),
    "celeba": Layout(
        celeba,
        [
            ("train", "person_7", "CelebA-HQ-img/0.jpg"),
            ("train", "person_7", "CelebA-HQ-img/2.jpg"),
            ("train", "person_7", "CelebA-HQ-img/4.jpg"),
            ("train", "person_7", "CelebA-HQ-img/7.jpg"),
            ("train", "person_12", "CelebA-HQ-img/1.jpg"),
            ("train", "person_12", "CelebA-HQ-img/5.jpg"),
            ("train", "person_12", "CelebA-HQ-img/6.jpg"),
            ("test", "person_7", "CelebA-HQ-img/9.jpg"),
            ("test", "person_12", "CelebA-HQ-img/8.jpg"),
        ],
        {"CelebAMask-HQ.zip": ("CelebAMask-HQ",)},
        settings={"min_images": 4},
    ),
    "food11": Layout(
        food11,
        [
            ("train", "Bread", "training/0_0.jpg"),
            ("train", "Vegetable-Fruit", "training/10_3.jpg"),
            ("train", "Bread", "validation/0_0.jpg"),
            ("test", "Egg", "evaluation/3_5.jpg"),
        ],
        {"Food-11.zip": ("training", "validation", "evaluation")},
    ),
    "imagenet": Layout(imagenet, [*TENCH, *PART], {"imagenet-object-localization-challenge.zip": ("ILSVRC",)}),
    "imagenet_sub_aircraft": Layout(imagenet, [*PART], {"imagenet-object-localization-challenge.zip": ("ILSVRC",)}),
    "coco": Layout(coco, COCO, {"train2017.zip": ("train2017",)}),
    "inaturalist": Layout(inaturalist, INAT, {"train_mini.tar.gz": ("train_mini",)}),
    "inaturalist json": Layout(
        inaturalist_json,
        [INAT[2], INAT[0]],
        {"train_mini.tar.gz": ("train_mini",), "train_mini.json.tar.gz": ("train_mini.json",)},
        left_out={"missing": 1},
    ),
    "places": Layout(
        places,
        PLACES,
        {
            "train_256_places365challenge.tar": ("data_256",),
            "filelist_places365-challenge.tar": ("places365_train_challenge.txt",),
        },
    ),
    "webvision": Layout(
        webvision,
        [
            ("train", "n01443537", "google/q0007/y.jpg"),
            ("train", "n01440764", "google/q0001/x1.jpg"),
            ("train", "n01440764", "flickr/q0001/z.jpg"),
        ],
        {"google.tar": ("google",), "flickr.tar": ("flickr",), "info.tar": ("info",)},
    ),
    "webfg": Layout(
        webfg,
        [
            ("train", "F-16A/B", "web-aircraft/train/F-16AB/1.jpg"),
            ("train", "001.Albatross", "web-bird/train/001.Albatross/1.jpg"),
            ("train", TT, f"web-car/train/{TT}/9.jpg"),
        ],
        {f"{part}.tar.gz": (part,) for part in ("web-aircraft", "web-bird", "web-car")},
    ),
    "everything": Layout(
        everything,
        [
            *COCO,
            *((s, f"inaturalist/{label}", path) for s, label, path in INAT),
            *((s, f"imagenet/{label}", path) for s, label, path in (*TENCH, *PART)),
            *((s, f"places/{label}", path) for s, label, path in PLACES),
        ],
        {},
    ),
}
