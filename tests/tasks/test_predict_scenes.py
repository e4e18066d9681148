"""Trained detectors and segmenters in use: boxes as COCO JSON and masks as PNG, of any source, whole or absent."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from simcore import pipeline
from simcore.cli import main
from simcore.embedding import load_encoder
from simcore.errors import SimcoreError, SimcoreWarning, UsageError
from simcore.images import open_images
from simcore.images.boxes import boxes_of
from simcore.tasks._predict import head_at
from simcore.tasks._predict_scenes import predict_scenes
from simcore.tasks.detection import Detection, load_detector
from simcore.tasks.segmentation import Segmentation, load_segmenter

pytest.importorskip("faster_coco_eval", reason="needs the extra [detection]")
pytest.importorskip("segmentation_models_pytorch", reason="needs the extra [segmentation]")

QUICK = {"epochs": 1, "batch_size": 4, "num_workers": 0, "device": "cpu"}
SMALL = ["--num-workers", "0", "--device", "cpu", "--quiet"]
SIZES = {"a/0.png": (40, 32), "a/1.png": (33, 51), "b/0.png": (64, 20)}


@pytest.fixture(scope="module")
def heads(tmp_path_factory):
    """Both kinds, hardly trained, on squares of two classes."""
    root = tmp_path_factory.mktemp("heads")
    generator = np.random.default_rng(0)
    lines = ["path,label,boxes,mask"]
    for i in range(4):
        pixels, mask = generator.integers(0, 60, (32, 32, 3)).astype(np.uint8), np.zeros((32, 32), np.uint8)
        pixels[4:20, 4:20], mask[4:20, 4:20] = 220, 1
        Image.fromarray(pixels).save(root / f"{i}.png")
        Image.fromarray(mask).save(root / f"mask{i}.png")
        lines.append(f"{i}.png,{'light' if i % 2 else 'bright'},4 4 20 20,mask{i}.png")
    (root / "list.csv").write_text("\n".join(lines) + "\n")
    source, encoder = open_images(root / "list.csv"), load_encoder("timm:test_resnet@random", image_size=32)
    settings = {"min_size": 32, "max_size": 48, "anchor_size": 8, "min_score": 0.0}
    Detection(**QUICK, **settings).run(encoder, source, source, out=root / "boxes", quiet=True)
    Segmentation(**QUICK, crop_size=32).run(encoder, source, source, out=root / "masks", quiet=True)
    return {"detector": root / "boxes", "segmenter": root / "masks"}


@pytest.fixture
def photos(tmp_path):
    """Images of several sizes, two of one name, and a file that is none."""
    generator = np.random.default_rng(1)
    for name, (width, height) in SIZES.items():
        place = tmp_path / "photos" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(place)
    (tmp_path / "photos" / "a" / "broken.png").write_bytes(b"no image")
    return tmp_path / "photos"


def test_boxes_come_as_one_coco_file_in_pixels_of_the_images(heads, photos, tmp_path, capsys):
    words = ["predict", str(photos), "--head", str(heads["detector"]), "--out", str(tmp_path / "found.json")]
    assert main([*words, *SMALL, "--json"]) == 0
    said = capsys.readouterr()
    told = json.loads(said.out)
    assert (told["num_images"], told["num_skipped"]) == (3, 1)
    assert "1 images cannot be read: a/broken.png" in said.err
    found = json.loads((tmp_path / "found.json").read_text())
    assert {image["file_name"]: (image["width"], image["height"]) for image in found["images"]} == SIZES
    assert found["categories"] == [{"id": 1, "name": "bright"}, {"id": 2, "name": "light"}]
    assert told["num_boxes"] == len(found["annotations"]) > 0
    assert [entry["id"] for entry in found["annotations"]] == list(range(1, told["num_boxes"] + 1))
    size_of = {image["id"]: (image["width"], image["height"]) for image in found["images"]}
    for entry in found["annotations"]:
        (left, top, wide, high), (width, height) = entry["bbox"], size_of[entry["image_id"]]
        assert left >= 0 <= top
        assert left + wide <= width + 1e-5
        assert top + high <= height + 1e-5
        assert entry["area"] == wide * high
        assert 0 <= entry["score"] <= 1


def test_the_file_holds_what_the_detector_itself_says(heads, photos, tmp_path):
    (photos / "a" / "broken.png").unlink()
    direct = list(load_detector(heads["detector"])(open_images(photos, split="all")))
    pipeline.predict(heads["detector"], photos, out=photos / "found.json", num_workers=0, device="cpu", quiet=True)
    again = open_images(f"coco:{photos / 'found.json'}")  # simcore reads it as a source with boxes
    assert again.classes == ("bright", "light")
    for row, (_, found) in enumerate(direct):
        assert np.allclose(boxes_of(again, row).edges, found.boxes.edges, atol=1e-4)
        assert boxes_of(again, row).labels.tolist() == found.boxes.labels.tolist()


def test_pycocotools_reads_the_file(heads, photos, tmp_path):
    coco = pytest.importorskip("pycocotools.coco", reason="a second opinion, in the extra [dev]")
    (photos / "a" / "broken.png").unlink()
    pipeline.predict(heads["detector"], photos, out=tmp_path / "found.json", num_workers=0, device="cpu", quiet=True)
    known = coco.COCO(str(tmp_path / "found.json"))
    assert {image["file_name"] for image in known.loadImgs(known.getImgIds())} == set(SIZES)
    assert {category["name"] for category in known.loadCats(known.getCatIds())} == {"bright", "light"}
    assert len(known.getAnnIds()) == len(json.loads((tmp_path / "found.json").read_text())["annotations"])


def test_ids_of_images_differ_though_names_and_numbers_are_alike(heads, photos, tmp_path):
    for name in "ab":
        width, height = SIZES[f"{name}/0.png"]
        images = [{"id": 7, "file_name": "0.png", "width": width, "height": height}]
        content = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "bright"}]}
        (photos / name / "boxes.json").write_text(json.dumps(content))
    both = open_images(photos / "a" / "boxes.json") + open_images(photos / "b" / "boxes.json")
    pipeline.predict(heads["detector"], both, out=tmp_path / "found.json", num_workers=0, device="cpu", quiet=True)
    found = json.loads((tmp_path / "found.json").read_text())
    assert [image["file_name"] for image in found["images"]] == ["0.png", "0.png"]
    assert [image["width"] for image in found["images"]] == [40, 64]
    assert len({image["id"] for image in found["images"]}) == 2


def test_masks_come_in_a_folder_at_the_size_of_the_images(heads, photos, tmp_path, capsys):
    words = ["predict", str(photos), "--head", str(heads["segmenter"]), "--out", str(tmp_path / "out")]
    assert main([*words, *SMALL, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {"out": str(tmp_path / "out"), "num_images": 3, "num_skipped": 1}
    index = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert index["classes"] == ["0", "1"]
    assert [entry["id"] for entry in index["images"]] == list(SIZES)
    with pytest.warns(SimcoreWarning, match="cannot be read"):
        direct = list(load_segmenter(heads["segmenter"])(open_images(photos, split="all")))
    for entry, (_, classes) in zip(index["images"], direct, strict=True):
        with Image.open(tmp_path / "out" / entry["mask"]) as picture:
            assert picture.mode == "P"
            assert picture.size == SIZES[entry["id"]]
            assert (np.asarray(picture) == classes).all()
    assert len(list((tmp_path / "out" / "masks").iterdir())) == 3


@pytest.mark.parametrize("kind", ["detector", "segmenter"])
def test_the_answer_does_not_depend_on_batches_and_processes(kind, heads, photos, tmp_path):
    (photos / "a" / "broken.png").unlink()
    content = []
    for name, settings in {"one": {"batch_size": 1, "num_workers": 0}, "many": {"num_workers": 2}}.items():
        out = tmp_path / (f"{name}.json" if kind == "detector" else name)
        pipeline.predict(heads[kind], photos, out=out, device="cpu", quiet=True, **settings)
        content.append(out)
    if kind == "detector":
        one, many = (json.loads(path.read_text())["annotations"] for path in content)
        assert [entry["image_id"] for entry in one] == [entry["image_id"] for entry in many]
        assert np.allclose([entry["score"] for entry in one], [entry["score"] for entry in many], atol=1e-5)
    else:
        one, many = ([path.read_bytes() for path in sorted(folder.rglob("*.*"))] for folder in content)
        assert one == many


@pytest.mark.parametrize("kind", ["detector", "segmenter"])
def test_reduced_precision(kind, heads, photos, tmp_path):
    (photos / "a" / "broken.png").unlink()
    out = tmp_path / ("found.json" if kind == "detector" else "out")
    settings = {"num_workers": 0, "device": "cpu", "precision": "bf16-mixed", "quiet": True}
    assert pipeline.predict(heads[kind], photos, out=out, **settings).num_images == 3


@pytest.mark.parametrize("kind", ["detector", "segmenter"])
def test_a_break_leaves_nothing(kind, heads, photos, tmp_path, monkeypatch):
    def broken(self, row):
        raise KeyboardInterrupt

    monkeypatch.setattr("simcore.tasks._scenes.PlainScenes.plain", broken)
    out = tmp_path / "out" / ("found.json" if kind == "detector" else "masks")
    with pytest.raises(KeyboardInterrupt):
        pipeline.predict(heads[kind], photos, out=out, num_workers=0, device="cpu", quiet=True)
    assert list((tmp_path / "out").iterdir()) == []


def test_nothing_readable_gives_a_file_of_nothing_and_a_warning(heads, tmp_path):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "broken.png").write_bytes(b"no image")
    with pytest.warns(SimcoreWarning, match="1 images cannot be read"):
        pipeline.predict(heads["detector"], tmp_path / "bad", out=tmp_path / "f.json", num_workers=0, quiet=True)
    found = json.loads((tmp_path / "f.json").read_text())
    assert (found["images"], found["annotations"], len(found["categories"])) == ([], [], 2)


def test_what_makes_no_sense_is_refused_before_anything_is_read(heads, photos, tmp_path):
    def predict(kind, name, **more):
        return pipeline.predict(heads[kind], photos, out=tmp_path / name, device="cpu", quiet=True, **more)

    with pytest.raises(UsageError, match=r"boxes of a detector are written as \.json"):
        predict("detector", "found.csv")
    with pytest.raises(UsageError, match="into a folder"):
        predict("segmenter", "masks.json")
    for more in ({"encoder": "runs/a"}, {"top": 5}, {"engine": "ray"}):
        with pytest.raises(UsageError, match="takes no --encoder"):
            predict("detector", "found.json", **more)
    with pytest.raises(UsageError, match="--precision"):
        predict("detector", "found.json", precision="8")
    with pytest.raises(UsageError, match="--batch-size"):
        predict_scenes(heads["detector"], "detector", open_images(photos), tmp_path / "f.json", batch_size=0)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("precious")
    with pytest.raises(SimcoreError, match="exists already"):
        predict("segmenter", "full")
    assert not (tmp_path / "found.json").exists()


def test_a_store_is_no_source_of_images(heads, store, tmp_path):
    with pytest.raises(UsageError, match="looks at images"):
        pipeline.predict(heads["detector"], store([[0.0]], ["x"]), out=tmp_path / "found.json")


def test_the_kind_of_a_head_is_seen_from_what_is_there(heads, tmp_path):
    assert head_at(heads["detector"])[1] == "detector"
    assert head_at(heads["segmenter"] / "segmenter.safetensors")[1] == "segmenter"
    assert head_at(tmp_path / "gone.safetensors")[1] == "head"  # whose absence is told where it is opened
    with pytest.raises(SimcoreError, match="holds nothing that"):
        head_at(tmp_path)
    for name in ("detector", "head"):
        (tmp_path / f"{name}.safetensors").write_bytes(b"")
    with pytest.raises(UsageError, match="holds a head and a detector"):
        head_at(tmp_path)
