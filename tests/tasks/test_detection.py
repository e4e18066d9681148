"""Detection from files to figures, and each of its rules against an independent statement."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import tv_tensors

from simcore.cli import main
from simcore.embedding import load_encoder
from simcore.errors import SimcoreError, SimcoreWarning, UsageError
from simcore.images import open_images
from simcore.images.boxes import Boxes, boxes_of
from simcore.tasks._coco_form import CocoForm
from simcore.tasks._detection_scenes import BoxScenes, SafeCrop, WholeScene, boxed_sets
from simcore.tasks._detection_score import average_precision
from simcore.tasks._detector import Detector, Found, Suppression, anchors
from simcore.tasks._pyramid import pyramid_of
from simcore.tasks._scenes import fitted, seeded
from simcore.tasks.detection import Detection, load_detector

pytest.importorskip("faster_coco_eval", reason="needs the extra [detection]")

QUICK = {
    "min_size": 32,
    "max_size": 48,
    "epochs": 2,
    "batch_size": 4,
    "anchor_size": 8,
    "num_workers": 0,
    "device": "cpu",
}
COLOURS = {3: (230, 40, 40), 7: (40, 230, 60)}


@pytest.fixture(scope="module")
def encoder():
    return load_encoder("timm:test_resnet@random", image_size=32, device="cpu")


def write(folder, num_images=6, seed=0, size=(40, 32)):
    """Rectangles of two colours, and an image with nothing on it; category ids with a gap, image ids in tens."""
    generator = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for i in range(num_images):
        pixels = generator.integers(0, 60, (size[1], size[0], 3)).astype(np.uint8)
        for category in COLOURS if i else ():
            wide, high = generator.integers(8, 16, 2)
            left, top = generator.integers(0, size[0] - wide), generator.integers(0, size[1] - high)
            pixels[top : top + high, left : left + wide] = COLOURS[category]
            box = [int(left), int(top), int(wide), int(high)]
            annotations.append({"id": len(annotations) + 1, "image_id": 10 * i, "category_id": category, "bbox": box})
        Image.fromarray(pixels).save(folder / f"{i}.png")
        images.append({"id": 10 * i, "file_name": f"{i}.png", "width": size[0], "height": size[1]})
    categories = [{"id": 7, "name": "green"}, {"id": 3, "name": "red"}]
    path = folder / "boxes.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    root = tmp_path_factory.mktemp("boxes")
    return write(root / "train"), write(root / "test", seed=1)


@pytest.fixture
def sources(files):
    return tuple(map(open_images, files))


def boxes(edges, labels=None, crowd=None):
    edges = np.array(edges, np.float64).reshape(-1, 4)
    labels = np.zeros(len(edges), np.int64) if labels is None else np.array(labels, np.int64)
    return Boxes(edges, labels, np.zeros(len(edges), bool) if crowd is None else np.array(crowd, bool))


def test_the_command_line_leaves_a_detector_and_boxes_with_the_ids_of_the_source(files, tmp_path, capsys):
    words = ["evaluate", "detection", "--encoder", "timm:test_resnet@random", "--image-size", "32"]
    words += [
        "--train",
        f"coco:{files[0]}",
        "--test",
        str(files[1]),
        "--out",
        str(tmp_path / "out"),
        "--min-score",
        "0",
    ]
    words += [word for key, value in QUICK.items() for word in (f"--{key.replace('_', '-')}", str(value))]
    assert main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert 0 <= told["mean_ap"] <= 100
    truth = json.loads((tmp_path / "out" / "truth.json").read_text())
    original = json.loads(files[1].read_text())
    assert [(a["image_id"], a["category_id"], a["bbox"]) for a in truth["annotations"]] == [
        (a["image_id"], a["category_id"], a["bbox"]) for a in original["annotations"]
    ]
    found = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert {entry["category_id"] for entry in found} <= {3, 7}
    assert {entry["image_id"] for entry in found} <= {10 * i for i in range(6)}
    assert all(min(entry["bbox"][:2]) >= 0 and entry["bbox"][0] + entry["bbox"][2] <= 40.001 for entry in found)


def test_the_help_tells_the_forms_of_sources(capsys):
    with pytest.raises(SystemExit):
        main(["evaluate", "detection", "--help"])
    said = capsys.readouterr().out
    assert all(word in said for word in ("coco:", "voc:", "column", "--backbone-lr-scale", "simcore predict"))


@pytest.mark.parametrize("group_norm", [False, True])
def test_what_was_left_finds_the_same_boxes_again(encoder, sources, tmp_path, group_norm):
    task = Detection(**QUICK, min_score=0.0, channels=32, group_norm=group_norm)
    task.run(encoder, *sources, out=tmp_path, quiet=True)
    detector = load_detector(tmp_path)
    norms = [module for module in detector.model.network.head.modules() if isinstance(module, torch.nn.GroupNorm)]
    assert len(norms) == (8 if group_norm else 0)  # four layers in each of the two heads
    assert detector.classes == ("red", "green")
    kept = json.loads((tmp_path / "predictions.json").read_text())
    again = [
        (10 * row, {"red": 3, "green": 7}[detector.classes[label]], round(score, 6))
        for (row, *_), found in detector(sources[1])
        for label, score in zip(found.boxes.labels, found.scores.tolist(), strict=True)
    ]
    assert [(entry["image_id"], entry["category_id"]) for entry in kept] == [entry[:2] for entry in again]
    assert [entry["score"] for entry in kept] == pytest.approx([entry[2] for entry in again], abs=1e-5)
    with pytest.raises(SimcoreError, match="cannot be read"):
        load_detector(tmp_path / "nothing")


@pytest.mark.slow
def test_it_learns_to_find_a_bright_square(encoder, tmp_path):
    """Trained and measured on the same eight images; a detector that learns nothing finds none of them."""
    generator = np.random.default_rng(0)
    lines = ["path,label,boxes"]
    for i in range(8):
        left, top = generator.integers(0, 16, 2)
        pixels = np.full((32, 32, 3), 20, np.uint8)
        pixels[top : top + 16, left : left + 16] = 250
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
        lines.append(f"{i}.png,square,{left} {top} {left + 16} {top + 16}")
    (tmp_path / "list.csv").write_text("\n".join(lines) + "\n")
    source = open_images(tmp_path / "list.csv")
    settings = {**QUICK, "epochs": 150, "lr": 3e-4, "batch_size": 4, "anchor_size": 16}
    untrained = Detection(**{**settings, "epochs": 1, "lr": 0.0}).run(encoder, source, source, quiet=True)
    assert untrained.metrics["mean_ap50"] < 10
    trained = Detection(**settings).run(encoder, source, source, quiet=True)
    assert trained.metrics["mean_ap50"] > 80


def test_an_interrupted_training_goes_on_to_the_same_figures(encoder, sources, tmp_path, monkeypatch):
    task = Detection(**QUICK, min_score=0.0)
    whole = task.run(encoder, *sources, quiet=True)
    step, calls = Detector.training_step, []

    def cut(self, batch, moment):
        calls.append(moment.step)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return step(self, batch, moment)

    fit_settings = Detection.fit_settings
    monkeypatch.setattr(Detection, "fit_settings", lambda self: _often(fit_settings(self)))
    monkeypatch.setattr(Detector, "training_step", cut)
    with pytest.raises(KeyboardInterrupt):
        task.run(encoder, *sources, out=tmp_path, quiet=True)
    resumed = task.run(encoder, *sources, out=tmp_path, quiet=True)
    assert calls[4] > 0
    assert resumed.metrics == whole.metrics
    assert resumed.parents == whole.parents


def _often(settings):
    import dataclasses

    return dataclasses.replace(settings, save_minutes=0.0)


def test_training_under_reduced_precision_gives_numbers(encoder, sources):
    report = Detection(**QUICK, precision="bf16-mixed").run(encoder, *sources, quiet=True)
    assert all(np.isfinite(value) for value in report.metrics.values())


def test_a_frozen_backbone_keeps_its_weights_and_statistics(encoder, sources, tmp_path):
    Detection(**QUICK).run(encoder, *sources, out=tmp_path, quiet=True)
    body = load_detector(tmp_path).model.body.body.model.state_dict()
    before = encoder.backbone.state_dict()
    assert len(body) > 10
    assert all(value.equal(before[name]) for name, value in body.items())


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_convnext", "test_vit"])
def test_backbones_of_every_kind_give_a_pyramid_with_all_weights(name):
    encoder = load_encoder(f"timm:{name}@random", image_size=160 if name == "test_vit" else 64, device="cpu")
    pyramid = pyramid_of(encoder).eval()
    with torch.no_grad():
        maps = pyramid(torch.zeros(1, 3, 64, 96))
    assert pyramid.strides == (8, 16, 32)
    assert [tuple(each.shape[1:]) for each in maps] == [
        (channels, 64 // stride, 96 // stride) for channels, stride in zip(pyramid.channels, (8, 16, 32), strict=True)
    ]


def test_the_pyramid_gives_what_the_backbone_itself_gives(encoder):
    images = torch.rand(2, 3, 64, 64)
    encoder.backbone.eval()
    with torch.no_grad():
        (*_, last) = pyramid_of(encoder).eval()(images)
        assert torch.allclose(last, encoder.backbone.forward_features(images))


def test_anchors_double_from_level_to_level():
    made = anchors(32, 5)
    assert made.sizes == tuple((s, int(s * 2 ** (1 / 3)), int(s * 2 ** (2 / 3))) for s in (32, 64, 128, 256, 512))
    assert made.num_anchors_per_location() == [9] * 5


def scenes(sources, **changes):
    sets = boxed_sets(*sources)
    settings = {"short_side": 32, "long_side": 48, **changes}
    return BoxScenes(source=sets.train, numbers=sets.numbers(sets.train), **settings)


def test_boxes_stay_on_what_they_frame_whatever_is_drawn(sources):
    """After crop, flip and resize the pixels inside a box have the colour of its class; none is lost."""
    maker = scenes(sources, short_side=64, long_side=200)
    for row in range(1, 6):
        for seed in range(8):
            with seeded(seed):
                scene = maker.scene(row, augmented=True)
            assert sorted(scene.labels.tolist()) == [0, 1]
            assert scene.boxes.min() >= 0
            height, width = scene.pixels.shape[1:]
            assert (scene.boxes[:, 2::2] <= width).all()
            assert (scene.boxes[:, 3::2] <= height).all()
            left, top, right, bottom = scene.boxes[-1].round().int().tolist()  # the later one is drawn on top
            inner = scene.pixels[:, top + 3 : bottom - 3, left + 3 : right - 3].float()
            colour = torch.tensor(COLOURS[(3, 7)[int(scene.labels[-1])]]).float()
            assert (inner.flatten(1).mean(1) - colour).abs().max() < 12


def test_a_scene_depends_on_its_seed_alone(sources):
    maker = scenes(sources)
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    (piece,) = (maker.piece([(2, 11)]),)
    assert torch.random.get_rng_state().equal(before)
    torch.manual_seed(6)
    again = maker.piece([(1, 4), (2, 11)])
    assert piece.scenes[0].pixels.equal(again.scenes[1].pixels)
    assert piece.scenes[0].boxes.equal(again.scenes[1].boxes)


def test_a_safe_crop_holds_every_box_and_reaches_every_border():
    image = tv_tensors.Image(torch.zeros(3, 30, 40, dtype=torch.uint8))
    given = tv_tensors.BoundingBoxes(
        torch.tensor([[10.0, 8, 20, 12], [15, 5, 30, 20]]), format="XYXY", canvas_size=(30, 40)
    )
    sides = []
    for seed in range(300):
        with seeded(seed):
            params = SafeCrop().make_params([image, given])
        sides.append(
            (params["left"], params["top"], params["left"] + params["width"], params["top"] + params["height"])
        )
    low, high = np.min(sides, 0), np.max(sides, 0)
    assert (high[:2] <= [10, 5]).all()
    assert (low[2:] >= [30, 20]).all()
    assert (low[:2] <= 1).all()
    assert (high[2:] >= [39, 29]).all()
    empty = tv_tensors.BoundingBoxes(torch.zeros(0, 4), format="XYXY", canvas_size=(30, 40))
    assert SafeCrop().make_params([image, empty]) == {"top": 0, "left": 0, "height": 30, "width": 40}


@pytest.mark.parametrize(
    ("size", "expected"), [((100, 100), (200, 200)), ((100, 150), (200, 300)), ((100, 400), (83, 333))]
)
def test_the_short_side_is_resized_unless_the_long_one_passes_its_limit(size, expected):
    assert fitted(*size, 200, 333) == expected


def test_the_truth_of_an_image_lies_inside_it_though_no_file_told_its_size(tmp_path):
    Image.new("RGB", (20, 10)).save(tmp_path / "a.png")
    (tmp_path / "list.csv").write_text("path,label,boxes\na.png,x,-5 2 9 99;30 0 40 5;3 3 4 4\n")
    source = open_images(tmp_path / "list.csv")
    whole = BoxScenes(source=source, numbers=np.array([0]), short_side=16, long_side=64).scene(0, augmented=False)
    assert whole.truth.edges.tolist() == [[0, 2, 9, 10], [3, 3, 4, 4]]
    assert whole.pixels.shape == (3, 16, 32)


def literal_suppression(edges, scores, iou):
    left = sorted(range(len(edges)), key=lambda i: -scores[i])
    kept = []
    while left:
        best = left.pop(0)
        kept.append(best)
        left = [i for i in left if overlap(edges[best], edges[i]) <= iou]
    return kept


def overlap(one, other):
    wide = max(0.0, min(one[2], other[2]) - max(one[0], other[0]))
    high = max(0.0, min(one[3], other[3]) - max(one[1], other[1]))
    areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (one, other)]
    return wide * high / (sum(areas) - wide * high)


@pytest.mark.parametrize("across", [True, False])
def test_suppression_against_a_literal_loop(across):
    generator = np.random.default_rng(4)
    corners = generator.uniform(0, 30, (40, 2))
    edges = np.concatenate([corners, corners + generator.uniform(5, 20, (40, 2))], 1)
    scores, labels = generator.uniform(size=40), generator.integers(0, 3, 40)
    answer = {
        "boxes": torch.from_numpy(edges).float(),
        "scores": torch.from_numpy(scores).float(),
        "labels": torch.from_numpy(labels),
    }
    kept = Suppression(iou=0.2, across_classes=across)(answer)
    if across:
        expected = literal_suppression(edges, scores, 0.2)
    else:
        of_class = [np.flatnonzero(labels == c) for c in range(3)]
        expected = [c[i] for c in of_class for i in literal_suppression(edges[c], scores[c], 0.2)]
        expected = sorted(expected, key=lambda i: -scores[i])
    assert kept["scores"].tolist() == pytest.approx(scores[expected].tolist())
    assert kept["labels"].tolist() == labels[expected].tolist()


def test_what_has_no_area_in_the_image_is_not_found():
    edges = torch.tensor([[0.0, 0, 0, 9], [2, 3, 8, 9], [4, 9, 7, 9]])
    answer = {"boxes": edges, "scores": torch.tensor([0.9, 0.8, 0.7]), "labels": torch.tensor([0, 1, 0])}
    kept = Suppression()(answer)
    assert kept["boxes"].tolist() == [[2, 3, 8, 9]]
    assert kept["labels"].tolist() == [1]


def random_sets(seed, num_images=12, num_classes=3):
    generator = np.random.default_rng(seed)
    found, truth = [], []
    for row in range(num_images):
        count = int(generator.integers(0, 6))
        corners = generator.uniform(0, 80, (count, 2))
        edges = np.concatenate([corners, corners + generator.uniform(4, 60, (count, 2))], 1)
        truth.append(boxes(edges, generator.integers(0, num_classes, count), generator.uniform(size=count) < 0.15))
        near = edges + generator.normal(scale=3.0, size=edges.shape)
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
        noise = generator.uniform(0, 50, (3, 2))
        every = np.concatenate([near, np.concatenate([noise, noise + 20], 1)])
        labels = np.concatenate([truth[-1].labels, generator.integers(0, num_classes, 3)])
        order = np.argsort(-(scores := generator.uniform(size=len(every))), kind="stable")
        scored = boxes(every[order], labels[order]), scores[order].astype(np.float32)
        found.append(Found(row, (200, 200), *scored))
    return found, truth


@pytest.mark.parametrize("seed", range(4))
def test_average_precision_against_pycocotools(seed, tmp_path):
    coco = pytest.importorskip("pycocotools.coco", reason="a second opinion, in the extra [dev]")
    from pycocotools.cocoeval import COCOeval

    found, truth = random_sets(seed)
    figures, per_class = average_precision(found, truth, ["a", "b", "c"])
    for row in range(len(found)):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{row:02d}.png")
    source = open_images(tmp_path)
    form = CocoForm.of(source, ["a", "b", "c"], [1, 2, 3])
    there = {one.row: (one.size, true) for one, true in zip(found, truth, strict=True)}
    (tmp_path / "truth.json").write_text(json.dumps(form.truth(there)))
    known = coco.COCO(str(tmp_path / "truth.json"))
    scorer = COCOeval(known, known.loadRes([entry for one in found for entry in form.results(one)]), "bbox")
    scorer.evaluate()
    scorer.accumulate()
    scorer.summarize()
    names = {"mean_ap": 0, "mean_ap50": 1, "mean_ap75": 2, "mean_recall": 8}
    for name, place in names.items():
        assert figures[name] == pytest.approx(100 * scorer.stats[place], abs=0.002), name
    precision = scorer.eval["precision"][:, :, :, 0, 2]
    for number, name in enumerate("abc"):
        of_class = precision[:, :, number]
        assert per_class[name] == pytest.approx(100 * of_class[of_class > -1].mean(), abs=0.002)


def test_truth_given_back_as_found_is_perfect_for_every_class():
    _, truth = random_sets(9)
    truth = [boxes(true.edges, true.labels) for true in truth]
    found = [Found(row, (200, 200), true, np.ones(len(true), np.float32)) for row, true in enumerate(truth)]
    figures, per_class = average_precision(found, truth, ["a", "b", "c"])
    assert figures["mean_ap"] == pytest.approx(100)
    assert per_class == pytest.approx({"a": 100, "b": 100, "c": 100})


def test_images_that_say_nothing_and_unknown_classes_are_told_and_left_out(tmp_path, encoder):
    for name in "abcd":
        Image.new("RGB", (32, 32)).save(tmp_path / f"{name}.png")
    (tmp_path / "boxed.csv").write_text("path,boxes\na.png,1 1 9 9 cat\nb.png,\n")
    (tmp_path / "plain.csv").write_text("path\nc.png\n")
    (tmp_path / "test.csv").write_text("path,boxes\nd.png,1 1 9 9 cat;2 2 8 8 gnu\n")
    train, test = (open_images(tmp_path / f"{name}.csv") for name in ("boxed", "test"))
    mixed = train + open_images(f"list:{tmp_path / 'plain.csv'}")
    with pytest.warns(SimcoreWarning) as told:
        sets = boxed_sets(mixed, test)
    said = " | ".join(str(warning.message) for warning in told)
    assert "1 of 3 train images say nothing of boxes" in said
    assert "'gnu' (1)" in said
    assert sets.details()["num_test_boxes"] == 1
    assert len(sets.train) == 2
    with pytest.raises(SimcoreError, match="no train image has a box"):
        boxed_sets(open_images(tmp_path), test)


@pytest.mark.parametrize(
    "wrong",
    [
        {"min_size": 0},
        {"min_size": 400},
        {"nms_iou": 0.0},
        {"anchor_size": 0},
        {"channels": 0},
        {"channels": 48, "group_norm": True},
        {"backbone_lr_scale": -1.0},
        {"epochs": 0},
    ],
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(UsageError, match="--"):
        Detection(**wrong)


def test_found_boxes_come_back_in_pixels_of_the_whole_image(encoder, sources):
    model = Detector(encoder, num_classes=2, anchor_size=8, backbone_lr_scale=0.0, seed=0).eval()
    scene = WholeScene(0, torch.randint(0, 255, (3, 32, 40), dtype=torch.uint8), (400, 320), boxes([]))
    (found,) = model.detect([scene], Suppression(min_score=0.0))
    small = scene._replace(size=(40, 32))
    (near,) = model.detect([small], Suppression(min_score=0.0))
    assert len(found.boxes) > 0
    assert np.allclose(found.boxes.edges, near.boxes.edges * 10)
    assert len(boxes_of(sources[0], 0)) == 0
