"""Formulas of learning from noisy labels against literal loops and the papers' equations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.mixture import GaussianMixture

from simcore.errors import UsageError
from simcore.tasks._dividemix import (
    DivideMix,
    DivideMixSettings,
    clean_probability,
    normalised,
    prior_penalty,
    refine,
    warm_up_loss,
)
from simcore.tasks._noise import found_clean, symmetric_noise
from simcore.tasks._noisy_batches import DividedPlan, NoisyBatch
from simcore.tasks._supervised import Network
from simcore.tasks._two_networks import exchanged_losses, forgotten, num_kept, small_loss
from simcore.training import Moment


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


# Injected noise ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.0, 0.2, 0.4, 0.99])
def test_exactly_the_share_of_labels_is_made_wrong(rate):
    labels = np.arange(200) % 7
    noisy = symmetric_noise(labels, rate, num_classes=7, generator=np.random.default_rng(1))
    assert (noisy != labels).sum() == round(rate * 200)
    assert noisy.min() >= 0
    assert noisy.max() < 7
    assert noisy.dtype == labels.dtype


def test_every_other_class_is_as_likely():
    labels = np.zeros(30_000, np.int64)
    noisy = symmetric_noise(labels, 0.9, num_classes=4, generator=np.random.default_rng(0))
    counts = np.bincount(noisy, minlength=4)
    assert counts[0] == 3000
    assert counts[1:] == pytest.approx([9000] * 3, rel=0.05)


def test_noise_depends_on_the_generator_alone():
    labels = np.arange(50) % 3
    first, again, other = (
        symmetric_noise(labels, 0.3, num_classes=3, generator=np.random.default_rng(seed)) for seed in (5, 5, 6)
    )
    assert (first == again).all()
    assert (first != other).any()


@pytest.mark.parametrize(("rate", "classes"), [(1.0, 3), (-0.1, 3), (float("nan"), 3), (0.5, 1)])
def test_impossible_noise_is_refused(rate, classes):
    with pytest.raises(UsageError):
        symmetric_noise(np.zeros(10, np.int64), rate, num_classes=classes, generator=np.random.default_rng(0))


def test_precision_and_recall_of_what_is_held_clean():
    held = np.array([True, True, True, False, False])
    true = np.array([True, True, False, True, True])
    assert found_clean(held, true) == {"precision": pytest.approx(200 / 3), "recall": 50.0}
    assert found_clean(np.zeros(3, bool), np.ones(3, bool)) == {"precision": 0.0, "recall": 0.0}


# Co-teaching ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rate", "gradual", "exponent"), [(0.2, 10, 1.0), (0.45, 5, 2.0), (0.3, 1, 1.0)])
def test_forget_schedule_is_the_published_table(rate, gradual, exponent):
    table = np.full(20, rate**exponent)
    table[:gradual] = np.linspace(0, rate**exponent, gradual)
    assert [forgotten(epoch, rate, gradual, exponent) for epoch in range(20)] == pytest.approx(table)


def test_number_kept_is_rounded_down_but_never_none():
    assert [num_kept(10, share) for share in (0.0, 0.2, 0.25, 0.7, 0.99)] == [10, 8, 7, 3, 1]
    assert num_kept(10, 0.9) == 1


def test_small_losses_come_first_and_equal_ones_in_order():
    assert small_loss(torch.tensor([0.3, 0.1, 0.2, 0.1]), 3).tolist() == [1, 3, 2]


def test_networks_exchange_the_rows_of_small_loss():
    draws = generator()
    first, second = (torch.randn(6, 4, generator=draws, requires_grad=True) for _ in range(2))
    labels = torch.tensor([0, 1, 2, 3, 0, 1])
    losses, chosen = exchanged_losses([first, second], labels, 3)

    def loss(logits, row):
        said = logits.detach()[row]
        return -math.log(math.exp(said[labels[row]]) / sum(math.exp(value) for value in said))

    of_first = sorted(range(6), key=lambda row: loss(first, row))[:3]
    of_second = sorted(range(6), key=lambda row: loss(second, row))[:3]
    assert chosen[0].tolist() == of_second
    assert chosen[1].tolist() == of_first
    assert losses[0].item() == pytest.approx(sum(loss(first, row) for row in of_second) / 3, rel=1e-5)
    assert losses[1].item() == pytest.approx(sum(loss(second, row) for row in of_first) / 3, rel=1e-5)
    losses.sum().backward()
    assert (first.grad.abs().sum(1) > 0).nonzero()[:, 0].tolist() == sorted(of_second)


# DivideMix -----------------------------------------------------------------------------------------------------------


def two_heaps(num=60, seed=0):
    draws = np.random.default_rng(seed)
    return np.concatenate([draws.normal(0.1, 0.03, num), draws.normal(0.7, 0.1, num // 2)])


def test_clean_probability_is_that_of_the_component_of_small_losses():
    losses = two_heaps()
    probability = clean_probability(losses, seed=3)
    mixture = GaussianMixture(2, max_iter=10, tol=1e-2, reg_covar=5e-4, random_state=3).fit(losses[:, None])
    density = np.stack(
        [
            weight * np.exp(-((losses - mean) ** 2) / (2 * variance)) / np.sqrt(variance)
            for weight, mean, variance in zip(
                mixture.weights_, mixture.means_[:, 0], mixture.covariances_[:, 0, 0], strict=True
            )
        ]
    )
    assert probability == pytest.approx((density / density.sum(0))[mixture.means_.argmin()], abs=1e-6)
    assert (probability[:60] > 0.9).all()
    assert (probability[60:] < 0.1).all()


def test_images_without_a_loss_are_never_clean_and_equal_losses_always():
    losses = np.concatenate([two_heaps(), [np.nan]])
    assert clean_probability(losses, seed=0)[-1] == 0
    assert (clean_probability(losses, seed=0)[:-1] == clean_probability(two_heaps(), seed=0)).all()
    assert clean_probability([0.0, 0.0, np.nan], seed=0).tolist() == [1.0, 1.0, 0.0]
    assert clean_probability([np.nan, np.nan], seed=0).tolist() == [0.0, 0.0]


def test_losses_are_moved_to_the_unit_range():
    assert normalised(torch.tensor([1.0, 3.0, torch.nan, 2.0])).tolist() == pytest.approx(
        [0, 1, math.nan, 0.5], nan_ok=True
    )
    assert normalised(torch.tensor([2.0, 2.0])).tolist() == [0.0, 0.0]


def test_refinement_by_a_literal_loop():
    labels = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    said = torch.tensor([[0.2, 0.5, 0.3], [0.1, 0.1, 0.8]])
    believed, temperature = torch.tensor([0.75, 0.1]), 0.5
    found = refine(labels, said, believed, temperature)
    for row in range(2):
        mixed = [believed[row] * labels[row, c] + (1 - believed[row]) * said[row, c] for c in range(3)]
        powers = [float(value) ** (1 / temperature) for value in mixed]
        assert found[row].tolist() == pytest.approx([power / sum(powers) for power in powers], rel=1e-5)


def test_penalty_is_the_divergence_of_the_uniform_prior_from_the_mean_prediction():
    logits = torch.randn(5, 4, generator=generator())
    mean = logits.softmax(1).mean(0)
    assert prior_penalty(logits).item() == pytest.approx(sum(0.25 * math.log(0.25 / value) for value in mean), rel=1e-5)
    assert prior_penalty(torch.eye(4) * 50).item() == pytest.approx(0, abs=1e-6)


def test_warm_up_penalises_confidence_where_asked():
    logits, labels = torch.randn(6, 3, generator=generator()), torch.tensor([0, 1, 2, 0, 1, 2])
    plain = torch.nn.functional.cross_entropy(logits, labels)
    negative_entropy = sum(float(p) * math.log(p) for row in logits.softmax(1) for p in row) / 6
    assert warm_up_loss(logits, labels, 0.0).item() == pytest.approx(plain.item(), rel=1e-6)
    assert warm_up_loss(logits, labels, 0.5).item() == pytest.approx(plain.item() + 0.5 * negative_entropy, rel=1e-5)


def settings(**changes):
    values = {"warm_up": 2, "threshold": 0.2, "num_losses": 3, "temperature": 0.5, "alpha": 0.75, "weight": 75.0}
    return DivideMixSettings(**{**values, "ramp": 4, "confidence_penalty": 0.0, "seed": 0, **changes})


def networks(num_classes=3):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return [Network(torch.nn.Flatten(), torch.nn.Linear(12, num_classes)) for _ in range(2)]


def model_of(num_images=90, **changes):
    return DivideMix(networks(), num_images, num_classes=3, settings=settings(**changes))


def test_each_network_is_given_what_the_other_one_calls_clean():
    model = model_of()
    easy, hard = two_heaps(), two_heaps(seed=1)[::-1].copy()
    model.note_losses(torch.from_numpy(np.stack([easy, hard])).float())
    held = model.division(2)
    assert (held[1] == (np.arange(90) < 60)).mean() > 0.95
    assert (held[0] == (np.arange(90) >= 30)).mean() > 0.95
    assert model.division(1) is None


def test_losses_are_averaged_over_the_last_epochs():
    model = model_of(num_losses=2)
    rounds = [np.stack([two_heaps(seed=seed)] * 2) for seed in range(3)]
    for losses in rounds:
        model.note_losses(torch.from_numpy(losses).float())
    last = [normalised(torch.from_numpy(losses[0]).float()).double() for losses in rounds[1:]]
    expected = clean_probability((sum(last) / 2).numpy(), seed=0)
    assert model.probability[0].numpy() == pytest.approx(expected, abs=1e-5)


def test_a_network_that_would_be_given_nothing_is_given_all():
    model = model_of()
    model.probability.zero_()
    assert model.held_clean().all()


def test_unlabelled_weight_rises_after_the_warm_up():
    model = model_of()
    at = [model.unlabelled_weight(Moment(step // 10, step, 8, 10, 80)) for step in (0, 20, 40, 60, 79)]
    assert at == [0.0, 0.0, 37.5, 75.0, 75.0]


def test_divided_loss_is_equation_12_without_mixing():
    """With a share of mixup towards 0 images stay as they are, so every term can be written down."""
    model = model_of(num_images=8, alpha=1e-6)
    model.probability.copy_(torch.rand(2, 8, generator=generator(3)))
    draws = generator(1)
    views = [torch.randn(5, 3, 2, 2, generator=draws) for _ in range(2)]
    labels, rows = torch.tensor([0, 1, 2, 0, 1]), torch.tensor([4, 2, 0, 1, 7])
    batch = NoisyBatch(views=views, labels=labels, rows=rows, sizes=(2, 3, 0, 0))
    moment = Moment(4, 40, 8, 10, 80)
    output = model.training_step(batch, moment)
    own, peer = model.all_networks
    said = [[network(view).softmax(1).detach() for view in views] for network in (own, peer)]

    def sharpened(values):
        powers = [float(value) ** 2 for value in values]
        return [power / sum(powers) for power in powers]

    supervised = unsupervised = 0.0
    for view in range(2):
        for row in range(5):
            if row < 2:
                w = float(model.probability[1, rows[row]])
                mean = [(said[0][0][row, c] + said[0][1][row, c]) / 2 for c in range(3)]
                goal = sharpened([w * (c == labels[row]) + (1 - w) * mean[c] for c in range(3)])
                supervised -= sum(goal[c] * math.log(said[0][view][row, c]) for c in range(3)) / 4
            else:
                goal = sharpened([sum(said[n][v][row, c] for n in (0, 1) for v in (0, 1)) / 4 for c in range(3)])
                unsupervised += sum((goal[c] - float(said[0][view][row, c])) ** 2 for c in range(3)) / (6 * 3)
    mean = torch.cat(said[0]).mean(0)
    penalty = sum(math.log((1 / 3) / value) / 3 for value in mean)
    assert output.logs["supervised"].item() == pytest.approx(supervised, rel=1e-4)
    assert output.logs["unsupervised"].item() == pytest.approx(unsupervised, rel=1e-4)
    assert output.loss.item() == pytest.approx(supervised + 37.5 * unsupervised + penalty, rel=1e-4)


# Divided batches -----------------------------------------------------------------------------------------------------


def test_divided_batches_hold_what_each_network_may_believe():
    clean = np.zeros((2, 20), bool)
    clean[0, :13], clean[1, 5:] = True, True
    plan = DividedPlan(num_images=20, batch_size=8, seed=3, clean=clean)
    assert plan.steps_per_epoch == DividedPlan(num_images=20, batch_size=8, seed=3).steps_per_epoch == 3
    seen = [[], [], [], []]
    for epoch in (4, 5):
        for step in range(3):
            rows = plan.rows(epoch, step)
            sizes = plan.sizes(rows, epoch, step)
            assert sizes == (8, 7, 8, 5)
            for part, cut in zip(seen, np.split(rows, np.cumsum(sizes)[:-1]), strict=True):
                part.append(cut)
    wanted = [np.flatnonzero(mask) for held in clean for mask in (held, ~held)]
    for part, rows in zip(seen, wanted, strict=True):
        assert set(np.concatenate(part)) == set(rows)


def test_unreadable_images_leave_their_part():
    clean = np.zeros((2, 10), bool)
    clean[:, :5] = True
    plan = DividedPlan(num_images=10, batch_size=10, seed=0, clean=clean)
    rows = plan.rows(0, 0)
    readable = rows[~np.isin(rows, [0, 1, 9])]
    assert plan.sizes(readable, 0, 0) == (3, 4, 3, 4)
