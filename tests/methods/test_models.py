"""What each method does beside its loss: teachers, queues, prototypes, centres, masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from simcore.backbones import create_backbone
from simcore.errors import UsageError
from simcore.methods._heads import DirectionLinear, mlp
from simcore.methods._method import Method
from simcore.methods._patches import encode_visible
from simcore.methods._teacher import ema_decay
from simcore.methods.byol import BYOL
from simcore.methods.dino import DINO
from simcore.methods.mae import MAE
from simcore.methods.moco import MoCo
from simcore.methods.simclr_explicit_sampling_memory import SimCLRExplicitSamplingMemory
from simcore.methods.simsiam import SimSiam
from simcore.methods.swav import SwAV
from simcore.training import FitSettings, Moment, ViewBatch
from simcore.training.optimizer import make_optimizer


class Net(nn.Module):
    """A backbone of 5 features that takes images of any size."""

    num_features = 5

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.body(x)
        return result


def moment(epoch: int = 0, step: int = 0, epochs: int = 10) -> Moment:
    return Moment(epoch, step, epochs, 4, 4 * epochs)


def views(num: int = 4, sizes: Sequence[int] = (8, 8), seed: int = 0) -> ViewBatch:
    generator = torch.Generator().manual_seed(seed)
    made = [torch.randn(num, 3, size, size, generator=generator) for size in sizes]
    return ViewBatch(views=made, is_target=torch.arange(num) < num // 2)


def build(method: Method, backbone: nn.Module | None = None) -> Any:
    torch.manual_seed(0)
    return method.build(backbone or Net())


def step(model: Any, batch: ViewBatch, now: Moment) -> None:
    optimizer = make_optimizer(model, FitSettings(lr=0.1))
    model.training_step(batch, now).loss.backward()
    model.before_update(now)
    optimizer.step()
    model.after_step(now)


def equal(one: nn.Module, two: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


SMALL = {"hidden_dim": 8, "projection_dim": 4}


def test_byols_target_starts_as_the_online_network_and_follows_it() -> None:
    model = build(BYOL(**SMALL, initial_ema=0.9))
    assert equal(model.target.module[0], model.backbone)
    before = model.target.module[0].body[0].weight.clone()
    step(model, views(), moment())
    online = model.backbone.body[0].weight
    assert torch.allclose(model.target.module[0].body[0].weight, 0.9 * before + 0.1 * online)
    assert not any(parameter.requires_grad for parameter in model.target.parameters())


def test_building_a_method_leaves_batch_statistics_untouched() -> None:
    for method in (BYOL(**SMALL), DINO(out_dim=8, hidden_dim=8), MoCo(), SwAV(**SMALL)):
        norm = build(method).backbone.body[1]
        assert torch.equal(norm.running_mean, torch.zeros(5))
        assert int(norm.num_batches_tracked) == 0


@pytest.mark.parametrize(
    ("schedule", "epoch", "step", "expected"),
    [("epoch", 0, 3, 0.996), ("epoch", 5, 20, 0.998), ("epoch", 5, 23, 0.998), ("step", 5, 20, 0.998),
     ("step", 0, 0, 0.996), ("constant", 9, 39, 0.996)],
)  # fmt: skip
def test_the_ema_decay_rises_from_its_start_to_1(schedule: str, epoch: int, step: int, expected: float) -> None:
    assert ema_decay(0.996, schedule, moment(epoch, step)) == pytest.approx(expected, abs=1e-12)


def test_simsiams_views_are_seen_once_each_and_targets_take_no_gradient() -> None:
    model = build(SimSiam(hidden_dim=8, projection_dim=4, predictor_dim=8))
    model.training_step(views(), moment()).loss.backward()
    assert int(model.backbone.body[1].num_batches_tracked) == 2
    assert model.predictor[0].weight.grad is not None


def test_simsiams_paper_preset_ends_its_projector_in_normalisation() -> None:
    model = build(SimSiam.preset("paper", hidden_dim=8, projection_dim=6, predictor_dim=3))
    assert sum(isinstance(layer, nn.Linear) for layer in model.projector) == 3
    assert isinstance(model.projector[-1], nn.BatchNorm1d)
    assert model.predictor[0].out_features == 3


def test_mocos_queue_takes_each_steps_keys_in_place_of_the_oldest() -> None:
    model = build(MoCo(queue_size=6, projection_dim=4))
    start = model.queue.clone()
    assert torch.allclose(start.norm(dim=1), torch.ones(6))
    keys = []
    for number in range(2):
        batch = views(4, seed=number)
        with torch.no_grad():
            keys.append(normalize(model.key_network(batch.views[1])))
        step(model, batch, moment())
    assert torch.allclose(model.queue[:2], keys[1][2:], atol=1e-6)
    assert torch.allclose(model.queue[2:4], keys[0][2:], atol=1e-6)
    assert torch.allclose(model.queue[4:], keys[1][:2], atol=1e-6)
    assert int(model.queue_next) == 2


def test_mocos_queue_may_be_shorter_than_a_batch() -> None:
    model = build(MoCo(queue_size=3, projection_dim=4))
    step(model, views(4), moment())
    assert torch.allclose(model.queue.norm(dim=1), torch.ones(3))
    assert int(model.queue_next) == 1


def test_swavs_prototypes_are_of_unit_length_and_held_at_first() -> None:
    model = build(SwAV(**SMALL, num_prototypes=6, freeze_prototypes=1))
    step(model, views(), moment(epoch=0))
    held = model.prototypes.weight.clone()
    step(model, views(seed=1), moment(epoch=0, step=1))
    assert torch.allclose(model.prototypes.weight, normalize(held))
    step(model, views(seed=2), moment(epoch=1, step=4))
    assert not torch.allclose(model.prototypes.weight, normalize(held))
    model.training_step(views(), moment(epoch=1))
    assert torch.allclose(model.prototypes.weight.norm(dim=1), torch.ones(6))


def test_swav_takes_crops_of_two_sizes() -> None:
    model = build(SwAV(**SMALL, num_prototypes=6))
    output = model.training_step(views(4, (12, 12, 6, 6, 6)), moment())
    assert torch.isfinite(output.loss)
    assert output.features.shape == (4, 5)
    assert int(model.backbone.body[1].num_batches_tracked) == 2  # once a size


def test_swavs_queue_holds_the_newest_projections_and_is_used_once_full() -> None:
    model = build(SwAV(**SMALL, num_prototypes=6, queue_length=6, queue_from_epoch=2))
    step(model, views(), moment(epoch=1))
    assert not model.queue.any()
    step(model, views(), moment(epoch=2))
    assert model.queue[:, :4].any(dim=2).all()
    assert not model.queue[:, 4:].any()
    first = model.queue[:, :2].clone()
    step(model, views(seed=1), moment(epoch=2))
    assert torch.equal(model.queue[:, 4:], first)
    assert torch.isfinite(model.training_step(views(seed=2), moment(epoch=2)).loss)


DINO_SMALL: dict[str, Any] = {"out_dim": 8, "hidden_dim": 8, "bottleneck_dim": 4}


def test_dinos_teacher_starts_as_the_student_and_is_what_is_kept() -> None:
    model = build(DINO(**DINO_SMALL))
    assert equal(model.exported, model.backbone)
    assert equal(model.teacher_head.module, model.head)
    assert model.exported is not model.backbone
    step(model, views(4, (8, 8, 6)), moment())
    assert not equal(model.exported, model.backbone)


def test_dinos_teacher_drops_no_paths() -> None:
    method = DINO(**DINO_SMALL)
    student = create_backbone("test_vit", seed=0, image_size=32, **method.backbone_settings("test_vit"))
    model = build(method, student)
    rates = [m.drop_prob for m in student.modules() if hasattr(m, "drop_prob")]
    assert max(rates) == pytest.approx(0.1)
    assert not any(m.drop_prob for m in model.exported.modules() if hasattr(m, "drop_prob"))


@pytest.mark.parametrize("cls", [DINO, SwAV])
def test_multi_crop_takes_a_vit_whose_patches_fit(cls: type[Any]) -> None:
    method = cls(hidden_dim=8)
    student = create_backbone("test_vit", seed=0, image_size=32, **method.backbone_settings("test_vit"))
    model = build(method, student)
    assert torch.isfinite(model.training_step(views(2, (32, 32, 16)), moment()).loss)
    with pytest.raises(UsageError, match="crops of 14 pixels"):
        model.training_step(views(2, (32, 32, 14)), moment())


def test_dinos_last_layer_is_held_at_first() -> None:
    model = build(DINO(**DINO_SMALL, freeze_last_layer=1))
    before = model.head[-1].weight.clone()
    step(model, views(), moment(epoch=0))
    assert torch.equal(model.head[-1].weight, before)
    step(model, views(seed=1), moment(epoch=1))
    assert not torch.equal(model.head[-1].weight, before)


def test_dinos_centre_follows_the_teachers_mean_output() -> None:
    model = build(DINO(**DINO_SMALL))
    batch = views()
    with torch.no_grad():
        outputs = model.teacher_head(model.teacher_backbone(torch.cat(list(batch.views))))
    step(model, batch, moment())
    assert torch.allclose(model.center, 0.1 * outputs.mean(dim=0, keepdim=True), atol=1e-6)


def test_dinos_teacher_temperature_warms_up_by_epoch() -> None:
    model = build(DINO(**DINO_SMALL, temp_warmup_epochs=4))
    temperatures = [model.teacher_temperature(moment(epoch)) for epoch in range(6)]
    assert temperatures == pytest.approx([0.04, 0.05, 0.06, 0.07, 0.07, 0.07])
    assert build(DINO(**DINO_SMALL)).teacher_temperature(moment(0)) == 0.07


def test_dino_and_swav_shorten_what_they_count_in_epochs() -> None:
    assert SwAV().rescaled(0.5).freeze_prototypes == 5
    assert SwAV().rescaled(0.01).freeze_prototypes == 1
    shortened = DINO().rescaled(0.25)
    assert (shortened.freeze_last_layer, shortened.temp_warmup_epochs) == (2, 500)


def test_a_direction_layer_is_a_linear_layer_with_rows_of_its_gains() -> None:
    layer = DirectionLinear(3, 4, learn_gain=True)
    with torch.no_grad():
        layer.gain.copy_(torch.tensor([[1.0], [2.0], [3.0], [4.0]]))
    x = torch.randn(5, 3)
    expected = torch.stack([g * x @ (w / w.norm()) for g, w in zip(layer.gain[:, 0], layer.weight, strict=True)], dim=1)
    assert torch.allclose(layer(x), expected, atol=1e-6)
    assert not DirectionLinear(3, 4, learn_gain=False).gain.requires_grad


def test_mlp_has_the_layers_it_says() -> None:
    kinds = [type(layer).__name__ for layer in mlp(3, 4, 2, num_layers=3)]
    assert kinds == ["Linear", "BatchNorm1d", "ReLU", "Linear", "BatchNorm1d", "ReLU", "Linear"]
    assert [type(layer).__name__ for layer in mlp(3, 4, 2, norm=False)] == ["Linear", "ReLU", "Linear"]


@pytest.mark.parametrize("name", ["test_vit", "mae_vit_base", "dino_vit_t16"])
def test_all_patches_visible_is_the_backbones_own_forward(name: str) -> None:
    vit = create_backbone(name, seed=0, image_size=32, **({} if name == "test_vit" else {"depth": 2})).eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = vit.forward_features(images)
        tokens = encode_visible(vit, images, torch.arange(4).expand(2, -1))
    assert torch.allclose(tokens, expected, atol=1e-5)


def test_visible_patches_keep_their_positions() -> None:
    vit = create_backbone("test_vit", seed=0, image_size=32).eval()
    images = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        one = encode_visible(vit, images, torch.tensor([[3, 1]]))
        two = encode_visible(vit, images, torch.tensor([[1, 3]]))
    assert torch.allclose(one[:, [0, 2, 1]], two, atol=1e-5)


def test_mae_hides_three_quarters_and_its_decoder_puts_patches_back_in_place() -> None:
    model = build(
        MAE(decoder_dim=16, decoder_depth=1, decoder_heads=2), create_backbone("test_vit", seed=0, image_size=64)
    )
    seen = []
    model.blocks.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    tokens, restore = torch.randn(1, 1 + 4, 64), torch.arange(16).flip(0)[None]
    model.decode(tokens, restore)
    placed = seen[0][0, 1:] - model_positions(16, 4)
    embedded = model.embed(tokens)[0, 1:]
    assert torch.allclose(placed[12:], embedded.flip(0), atol=1e-5)
    assert torch.allclose(placed[:12], model.hidden_token[0].expand(12, -1), atol=1e-5)
    batch = ViewBatch(views=[torch.randn(2, 3, 64, 64)], is_target=torch.ones(2, dtype=torch.bool))
    assert model.training_step(batch, moment()).features.shape == (2, 64)


def model_positions(dim: int, side: int) -> Tensor:
    from simcore.backbones.mae_vit import sine_cosine_positions

    return sine_cosine_positions(dim, side, side)[0, 1:]


def test_the_memory_remembers_images_outside_the_target_alone() -> None:
    model = build(SimCLRExplicitSamplingMemory(projection_dim=4, memory_size=6))
    batch = views(4)
    with torch.no_grad():
        projections = normalize(model.projector(model.backbone(torch.cat(list(batch.views)))))
    step(model, batch, moment())
    assert int(model.num_written) == 4
    assert torch.allclose(model.memory[:4], projections[[2, 3, 6, 7]], atol=1e-6)
    step(model, views(4, seed=1), moment())
    assert int(model.num_written) == 8
    assert model.memory.any(dim=1).all()
