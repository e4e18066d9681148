"""Losses on labelled and unlabelled images, against literal loops over the papers' equations."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from simcore.tasks._mixup import mixup
from simcore.tasks._open_models import OpenMatch, SelfTraining
from simcore.tasks._pseudo_labels import Alignment
from simcore.tasks._semi_batches import SemiBatch
from simcore.tasks._semi_losses import (
    masked_mean,
    one_vs_all,
    open_entropy,
    outlier_probability,
    rotated,
    soft_consistency,
    soft_cross_entropy,
    squared_difference,
)
from simcore.tasks._semi_models import Basis, FixMatch, FlexMatch, MixMatch, ReMixMatch
from simcore.tasks._supervised import Network
from simcore.training import Moment

CLASSES, DIM = 3, 4


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def softmax(scores):
    powers = [math.exp(score) for score in scores]
    return [power / sum(powers) for power in powers]


def test_soft_cross_entropy_and_squared_difference():
    logits, targets = drawn(5, CLASSES), drawn(5, CLASSES, seed=1).softmax(1)
    weights = torch.tensor([1.0, 0.0, 1.0, 1.0, 0.0])
    entropies, squares = [], []
    for row, goal in zip(logits.tolist(), targets.tolist(), strict=True):
        said = softmax(row)
        entropies.append(-sum(q * math.log(p) for p, q in zip(said, goal, strict=True)))
        squares.append(sum((p - q) ** 2 for p, q in zip(said, goal, strict=True)))
    assert soft_cross_entropy(logits, targets).item() == pytest.approx(sum(entropies) / 5, rel=1e-5)
    masked = sum(entropy * weight for entropy, weight in zip(entropies, weights.tolist(), strict=True)) / 5
    assert soft_cross_entropy(logits, targets, weights).item() == pytest.approx(masked, rel=1e-5)
    assert squared_difference(logits, targets).item() == pytest.approx(sum(squares) / (5 * CLASSES), rel=1e-5)


def test_inlier_classifiers():
    one, other, labels = drawn(5, 2, CLASSES), drawn(5, 2, CLASSES, seed=1), torch.tensor([0, 1, 2, 2, 0])
    right, entropy, apart = [], [], []
    for image in range(5):
        two_way = [softmax(one[image, :, j].tolist()) for j in range(CLASSES)]  # (inlier, outlier) of each class
        again = [softmax(other[image, :, j].tolist()) for j in range(CLASSES)]
        y = int(labels[image])
        hardest = min(two_way[j][1] for j in range(CLASSES) if j != y)
        right.append(-math.log(two_way[y][0]) - math.log(hardest))
        entropy += [-sum(p * math.log(p) for p in pair) for pair in two_way]
        apart.append(sum((two_way[j][t] - again[j][t]) ** 2 for j in range(CLASSES) for t in (0, 1)))
    assert one_vs_all(one, labels).item() == pytest.approx(sum(right) / 5, rel=1e-5)
    assert open_entropy(one).item() == pytest.approx(sum(entropy) / (5 * CLASSES), rel=1e-5)
    assert soft_consistency(one, other).item() == pytest.approx(sum(apart) / 5, rel=1e-5)


def test_an_outlier_is_judged_by_the_class_that_it_looks_most_like():
    logits, scores = drawn(6, CLASSES), drawn(6, 2, CLASSES, seed=1)
    for image, got in enumerate(outlier_probability(logits, scores).tolist()):
        best = max(range(CLASSES), key=lambda j: logits[image, j].item())
        assert got == pytest.approx(softmax(scores[image, :, best].tolist())[1], rel=1e-5)


def test_losses_are_finite_and_differentiable_where_classifiers_are_certain():
    sure = torch.full((2, 2, CLASSES), 200.0)
    sure[:, 1] = -200.0
    sure.requires_grad_()
    loss = one_vs_all(sure, torch.tensor([0, 1])) + open_entropy(sure)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(sure.grad).all()


def test_masked_mean_and_rotations():
    assert masked_mean(torch.tensor([2.0, 4.0, 9.0]), torch.tensor([1.0, 1.0, 0.0])).item() == 3.0
    assert masked_mean(torch.tensor([2.0]), torch.tensor([0.0])).item() == 0.0
    images = drawn(4, 3, 5, 5)
    turned = rotated(images, torch.tensor([0, 1, 2, 3]))
    for turn in range(4):
        assert turned[turn].equal(torch.rot90(images[turn], turn, (1, 2)))


# --- whole steps of the methods, on a network without batch normalisation, so that images do not meet in it


class Flat(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)[:, :DIM]


def basis(**more):
    head = nn.Linear(DIM, CLASSES)
    with torch.no_grad():
        head.weight.copy_(drawn(CLASSES, DIM, seed=9))
        head.bias.copy_(drawn(CLASSES, seed=8))
    return Basis(network=Network(Flat(), head), dim=DIM, num_classes=CLASSES, seed=0, **more)


def batch(num_labelled=1, num_unlabelled=2):
    return SemiBatch(
        labelled=[drawn(4, 1, 2, 2, seed=20 + i) for i in range(num_labelled)],
        labels=torch.tensor([0, 1, 2, 1]),
        unlabelled=[drawn(6, 1, 2, 2, seed=30 + i) for i in range(num_unlabelled)],
        rows=torch.tensor([7, 2, 5, 0, 1, 3]),
    )


NOW = Moment(epoch=3, step=30, num_epochs=10, steps_per_epoch=10, num_steps=100)
HALF = {"temperature": 0.5, "alpha": 0.75}


def said(model, images):
    return [softmax(row) for row in model.network(images).tolist()]


def cross_entropy(model, images, targets):
    each = [
        -sum(q * math.log(p) for p, q in zip(row, goal, strict=True))
        for row, goal in zip(said(model, images), targets, strict=True)
    ]
    return sum(each) / len(each)


def sharper(rows):
    return [[p**2 / sum(q**2 for q in row) for p in row] for row in rows]


def averaged(*views):
    return [[sum(ps) / len(ps) for ps in zip(*rows, strict=True)] for rows in zip(*views, strict=True)]


def test_mixmatch_is_equations_2_to_5():
    model, given = MixMatch(basis(), **HALF, weight=75.0), batch()
    got = model.training_step(given, NOW).loss.item()
    targets = sharper(averaged(*(said(model, view) for view in given.unlabelled)))
    goals = torch.tensor([*torch.eye(3)[given.labels].tolist(), *targets, *targets])
    images = torch.cat([*given.labelled, *given.unlabelled])
    mixed, goals = mixup(images, goals, 0.75, model.generator(NOW), at_least_half=True)
    squares = [
        (p - q) ** 2
        for row, goal in zip(said(model, mixed[4:]), goals[4:].tolist(), strict=True)
        for p, q in zip(row, goal, strict=True)
    ]
    supervised = cross_entropy(model, mixed[:4], goals[:4].tolist())
    assert got == pytest.approx(supervised + 75.0 * 0.3 * sum(squares) / len(squares), rel=1e-4)


def test_remixmatch_is_its_algorithm_1():
    shares = torch.tensor([0.5, 0.25, 0.25])
    weights = {"weight": 1.5, "anchor_weight": 0.5, "rotation_weight": 0.5}
    model, given = ReMixMatch(basis(), **HALF, **weights, align=Alignment(shares)), batch(1, 3)
    got = model.training_step(given, NOW).loss.item()
    weak, first, second = given.unlabelled
    guesses = said(model, weak)
    mean = [sum(row[c] for row in guesses) / 6 for c in range(3)]  # the first batch begins the moving average
    aligned = [[p * s / m for p, s, m in zip(row, shares.tolist(), mean, strict=True)] for row in guesses]
    targets = sharper([[p / sum(row) for p in row] for row in aligned])
    goals = torch.tensor([*torch.eye(3)[given.labels].tolist(), *targets, *targets, *targets])
    generator = model.generator(NOW)
    images = torch.cat([given.labelled[0], first, second, weak])
    mixed, goals = mixup(images, goals, 0.75, generator, at_least_half=True)
    quarters = torch.randint(4, (6,), generator=generator)
    turned = torch.stack([torch.rot90(image, int(turn), (1, 2)) for image, turn in zip(first, quarters, strict=True)])
    rotation = nn.functional.cross_entropy(model.rotation_head(model.network.backbone(turned)), quarters).item()
    wanted = cross_entropy(model, mixed[:4], goals[:4].tolist())
    wanted += 0.3 * 1.5 * cross_entropy(model, mixed[4:], goals[4:].tolist())
    wanted += 0.3 * 0.5 * cross_entropy(model, first, targets) + 0.5 * rotation
    assert got == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("hard_labels", [True, False])
def test_fixmatch_is_equations_3_and_4(hard_labels):
    settings = {"weight": 2.0, "threshold": 0.7, "temperature": 0.5, "hard_labels": hard_labels}
    model, given = FixMatch(basis(), **settings), batch()
    got = model.training_step(given, NOW)
    weak, strong = given.unlabelled
    terms = []
    for guessed, asked in zip(said(model, weak), said(model, strong), strict=True):
        goal = [float(p == max(guessed)) for p in guessed] if hard_labels else sharper([guessed])[0]
        entropy = -sum(q * math.log(p) for p, q in zip(asked, goal, strict=True))
        terms.append(entropy if max(guessed) >= 0.7 else 0.0)
    assert 0 < sum(term > 0 for term in terms) < 6
    supervised = cross_entropy(model, given.labelled[0], torch.eye(3)[given.labels].tolist())
    assert got.loss.item() == pytest.approx(supervised + 2.0 * sum(terms) / 6, rel=1e-5)
    assert got.logs["used"].item() == pytest.approx(sum(term > 0 for term in terms) / 6)


def test_flexmatch_is_fixmatch_with_the_thresholds_before_the_batch():
    settings = {"weight": 1.0, "threshold": 0.7, "temperature": 0.5, "hard_labels": True}
    flex = FlexMatch(basis(), num_unlabelled=9, warm_up=False, **settings)
    everything = FixMatch(basis(), **{**settings, "threshold": 0.0})
    given = batch()
    assert flex.training_step(given, NOW).loss.item() == pytest.approx(everything.training_step(given, NOW).loss.item())
    thresholds = flex.thresholds()
    assert thresholds.max().item() == pytest.approx(0.7)
    weak, strong = given.unlabelled
    terms = []
    for guessed, asked in zip(said(flex, weak), said(flex, strong), strict=True):
        best = guessed.index(max(guessed))
        terms.append(-math.log(asked[best]) if max(guessed) >= thresholds[best] else 0.0)
    supervised = cross_entropy(flex, given.labelled[0], torch.eye(3)[given.labels].tolist())
    assert flex.training_step(given, NOW).loss.item() == pytest.approx(supervised + sum(terms) / 6, rel=1e-5)


def test_self_training_is_its_weighted_sum():
    teacher = basis().network
    with torch.no_grad():
        teacher.head.weight.mul_(-1.0)
    model, given = SelfTraining(basis(), teacher=teacher, weight=0.3, temperature=2.0), batch(1, 1)
    got = model.train().training_step(given, NOW).loss
    view = given.unlabelled[0]
    taught = [softmax([score / 2.0 for score in row]) for row in teacher(view).tolist()]
    wanted = 0.7 * cross_entropy(model, given.labelled[0], torch.eye(3)[given.labels].tolist())
    assert got.item() == pytest.approx(wanted + 0.3 * cross_entropy(model, view, taught), rel=1e-5)
    assert not model.teacher.training
    got.backward()
    assert all(parameter.grad is None for parameter in model.teacher.parameters())


@pytest.mark.parametrize("start_epoch", [3, 4])
def test_openmatch_is_equation_5_and_labels_inliers_alone(start_epoch):
    weights = {"entropy_weight": 0.1, "consistency_weight": 0.5, "threshold": 0.4}
    model = OpenMatch(basis(), num_unlabelled=8, start_epoch=start_epoch, **weights)
    with torch.no_grad():
        model.open_weight.copy_(drawn(6, DIM, seed=5))
    model.inliers[[2, 5, 0]] = 1.0  # of the batch's rows 7, 2, 5, 0, 1, 3
    given = batch(2, 3)
    got = model.training_step(given, NOW).loss.item()
    one, other, strong = given.unlabelled
    images = torch.cat(list(given.labelled))
    scores = [model.open_logits(model.network.backbone(part)) for part in (images, one, other)]
    labels = torch.cat([given.labels, given.labels])
    wanted = cross_entropy(model, images, torch.eye(3)[labels].tolist()) + one_vs_all(scores[0], labels).item()
    wanted += 0.1 * (open_entropy(scores[1]) + open_entropy(scores[2])).item() / 2
    wanted += 0.5 * soft_consistency(scores[1], scores[2]).item()
    if start_epoch == 3:
        terms = []
        for row in (1, 2, 3):
            guessed, asked = said(model, one)[row], said(model, strong)[row]
            terms.append(-math.log(asked[guessed.index(max(guessed))]) if max(guessed) >= 0.4 else 0.0)
        wanted += sum(terms) / 3
    assert got == pytest.approx(wanted, rel=1e-5)


def test_averaged_weights_follow():
    model = FixMatch(basis(ema_decay=0.75), weight=1.0, threshold=0.5, temperature=0.5, hard_labels=True)
    start = model.network.head.weight.detach().clone()
    with torch.no_grad():
        model.network.head.weight.add_(1.0)
    model.after_step(NOW)
    torch.testing.assert_close(model.chosen.head.weight, start + 0.25)
