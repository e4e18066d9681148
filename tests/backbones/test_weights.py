"""Loading by exact names and shapes; nothing loads in silence."""

from __future__ import annotations

import pytest
import torch
import torchvision

from simcore.backbones import create_backbone, load_weights
from simcore.errors import SimcoreError


@pytest.fixture
def trained():
    """Tensors of a ResNet-10 that no fresh one has."""
    return create_backbone("resnet10", seed=5).state_dict()


@pytest.fixture
def fresh():
    return create_backbone("resnet10", seed=0)


def same(model, tensors):
    state = model.state_dict()
    return all(torch.equal(state[name], tensors[name]) for name in state)


@pytest.mark.parametrize(
    "prefix",
    [
        "",
        "module.",
        "backbone.",
        "module.backbone.",
        "encoder_q.",
        "module.encoder_q.",
        "model.",
        "encoder.",
        "module.encoder.",
        "base_encoder.",
        "student.backbone.",
        "_orig_mod.module.backbone.",
    ],
)
@pytest.mark.parametrize("nested", ["", "state_dict", "model"])
def test_known_prefixes_load_bit_for_bit(fresh, trained, prefix, nested):
    tensors = {prefix + name: value for name, value in trained.items()}
    report = load_weights(fresh, {nested: tensors, "epoch": 3} if nested else tensors)
    assert same(fresh, trained)
    assert (report.prefix, report.group) == (prefix, nested)
    assert report.num_loaded == report.num_tensors == len(trained)
    assert report.missing == report.left_over == report.mismatched == ()


def test_an_unknown_prefix_is_an_error_with_counts(fresh, trained):
    before = {name: value.clone() for name, value in fresh.state_dict().items()}
    tensors = {"other.thing." + name: value for name, value in trained.items()}
    for partial in (False, True):
        with pytest.raises(SimcoreError, match=rf"0 of {len(trained)} tensors fit .*other\.thing\.conv1\.weight"):
            load_weights(fresh, tensors, partial=partial)
    assert same(fresh, before)


def test_half_the_tensors_are_an_error_unless_partial(fresh, trained):
    half = dict(list(trained.items())[::2])
    before = {name: value.clone() for name, value in fresh.state_dict().items()}
    total = len(trained)
    with pytest.raises(SimcoreError, match=rf"{len(half)} of {total} tensors fit, {total - len(half)} are missing"):
        load_weights(fresh, half)
    assert same(fresh, before)
    report = load_weights(fresh, half, partial=True)
    assert report.num_loaded == len(half)
    assert set(report.missing) == set(trained) - set(half)
    assert same(fresh, {**before, **half})


def test_heads_are_left_over_and_told(fresh, trained):
    heads = {"fc.weight": torch.zeros(10, 512), "module.projector.0.bias": torch.zeros(3), "queue": torch.zeros(2, 2)}
    report = load_weights(fresh, {**trained, **heads})
    assert set(report.left_over) == set(heads)
    assert "3 left over (fc.weight, module.projector.0.bias, queue)" in report.describe()
    assert same(fresh, trained)


def test_moco_momentum_encoder_is_left_over(fresh, trained):
    tensors = {f"module.encoder_q.{name}": value for name, value in trained.items()}
    tensors |= {f"module.encoder_k.{name}": torch.zeros_like(value) for name, value in trained.items()}
    report = load_weights(fresh, {"state_dict": tensors})
    assert same(fresh, trained)
    assert len(report.left_over) == len(trained)


def test_of_teacher_and_student_the_teacher_is_taken(fresh, trained):
    student = {f"module.backbone.{name}": torch.zeros_like(value) for name, value in trained.items()}
    teacher = {f"backbone.{name}": value for name, value in trained.items()}
    assert load_weights(fresh, {"student": student, "teacher": teacher}).group == "teacher"
    assert same(fresh, trained)


def test_of_a_run_of_dino_the_teacher_is_taken(fresh, trained):
    tensors = {f"backbone.{name}": torch.zeros_like(value) for name, value in trained.items()}
    tensors |= {f"teacher_backbone.module.{name}": value for name, value in trained.items()}
    report = load_weights(fresh, {"model": tensors, "optimizer": {"state": {0: {"step": torch.tensor(1.0)}}}})
    assert report.prefix == "teacher_backbone.module."
    assert same(fresh, trained)


def test_other_shapes_are_listed(fresh, trained):
    tensors = {**trained, "conv1.weight": torch.zeros(64, 3, 3, 3)}
    with pytest.raises(
        SimcoreError, match=r"1 have another shape: conv1.weight is \[64, 3, 3, 3\], not \[64, 3, 7, 7\]"
    ):
        load_weights(fresh, tensors)
    report = load_weights(fresh, tensors, partial=True)
    assert report.num_loaded == len(trained) - 1
    assert len(report.mismatched) == 1


def test_weights_of_a_deeper_network_do_not_load_in_silence():
    deeper = create_backbone("resnet34", seed=0).state_dict()
    model = create_backbone("resnet18", seed=0)
    with pytest.raises(SimcoreError, match=r"more of the same parts .* larger backbone"):
        load_weights(model, deeper)


def test_batch_counters_may_be_absent(fresh, trained):
    tensors = {name: value for name, value in trained.items() if not name.endswith("num_batches_tracked")}
    report = load_weights(fresh, tensors)
    assert report.complete
    assert same(fresh, trained)


def test_nan_weights_are_refused(fresh, trained):
    trained["layer1.0.conv1.weight"] = torch.full((64, 64, 3, 3), torch.nan)
    with pytest.raises(SimcoreError, match="1 tensors hold NaN or infinity"):
        load_weights(fresh, trained)


def test_half_precision_weights_load_into_float32(fresh, trained):
    load_weights(fresh, {name: value.half() if value.is_floating_point() else value for name, value in trained.items()})
    assert fresh.conv1.weight.dtype == torch.float32
    assert torch.equal(fresh.conv1.weight, trained["conv1.weight"].half().float())


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_torchvision_resnets_load(name):
    torch.manual_seed(0)
    theirs = torchvision.models.get_model(name).eval()
    ours = create_backbone(name, seed=0).eval()
    report = load_weights(ours, theirs.state_dict())
    assert report.left_over == ("fc.weight", "fc.bias")
    theirs.fc = torch.nn.Identity()
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images))


def test_nothing_to_load(fresh):
    with pytest.raises(SimcoreError, match="holds no tensors"):
        load_weights(fresh, {"epoch": 3, "args": {"lr": 0.1}})
