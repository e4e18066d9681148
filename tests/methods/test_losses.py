"""Every loss against a literal statement of its formula, one number at a time."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from simcore.methods._contrast import nt_xent
from simcore.methods._patches import patchify, pick
from simcore.methods.byol import regression_loss
from simcore.methods.dino import distillation
from simcore.methods.mae import painting_loss
from simcore.methods.moco import info_nce
from simcore.methods.simclr_explicit_sampling import hardest_loss
from simcore.methods.simclr_explicit_sampling_memory import memory_loss
from simcore.methods.simclr_sampling import debiased_hard_loss
from simcore.methods.swav import sinkhorn, swapped_prediction


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def cosine(a: Tensor, b: Tensor) -> float:
    return sum(float(x) * float(y) for x, y in zip(a, b, strict=True)) / (
        math.sqrt(sum(float(x) ** 2 for x in a)) * math.sqrt(sum(float(y) ** 2 for y in b))
    )


def pairs(num: int) -> list[tuple[int, int]]:
    return [(i, (i + num // 2) % num) for i in range(num)]


@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_nt_xent_is_equation_1_of_simclr(temperature: float) -> None:
    z = random(10, 6)
    terms = []
    for i, positive in pairs(10):
        others = sum(math.exp(cosine(z[i], z[k]) / temperature) for k in range(10) if k != i)
        terms.append(-math.log(math.exp(cosine(z[i], z[positive]) / temperature) / others))
    assert nt_xent(z, temperature).item() == pytest.approx(sum(terms) / 10, rel=1e-5)


def test_nt_xent_of_hand_values() -> None:
    # Two images whose views agree exactly and are orthogonal: each view has one positive and two zeros.
    z = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0], [0.0, 4.0]])
    assert nt_xent(z, 1.0).item() == pytest.approx(math.log(math.e + 2) - 1, rel=1e-6)


def test_nt_xent_equals_lightlys() -> None:
    losses = pytest.importorskip("lightly.loss", reason="lightly is for comparison only")
    z = random(64, 16)
    theirs = losses.NTXentLoss(temperature=0.07)(z[:32], z[32:])
    assert nt_xent(z, 0.07).item() == pytest.approx(theirs.item(), rel=1e-5)


def test_nt_xent_has_the_gradient_of_its_differences() -> None:
    z = random(6, 3).double().requires_grad_()
    loss = nt_xent(z.float(), 0.5)
    (gradient,) = torch.autograd.grad(loss, z)
    step = torch.zeros_like(z)
    step[2, 1] = 1e-3
    slope = (nt_xent((z + step).float(), 0.5) - nt_xent((z - step).float(), 0.5)) / 2e-3
    assert gradient[2, 1].item() == pytest.approx(slope.item(), rel=1e-2)


def test_regression_loss_is_2_minus_2_cosine_and_stops_the_targets_gradient() -> None:
    prediction, target = random(5, 4).requires_grad_(), random(5, 4, seed=1).requires_grad_()
    loss = regression_loss(prediction, target)
    assert loss.item() == pytest.approx(
        sum(2 - 2 * cosine(p, t) for p, t in zip(prediction.detach(), target.detach(), strict=True)) / 5
    )
    loss.backward()
    assert prediction.grad is not None
    assert target.grad is None


def test_info_nce_is_equation_1_of_moco() -> None:
    q, k, queue = normalize(random(4, 5)), normalize(random(4, 5, seed=1)), normalize(random(7, 5, seed=2))
    terms = []
    for i in range(4):
        own = math.exp(cosine(q[i], k[i]) / 0.2)
        terms.append(-math.log(own / (own + sum(math.exp(cosine(q[i], other) / 0.2) for other in queue))))
    assert info_nce(q, k, queue, 0.2).item() == pytest.approx(sum(terms) / 4, rel=1e-5)


def literal_sinkhorn(scores: Tensor, epsilon: float, rounds: int) -> list[list[float]]:
    num, num_prototypes = scores.shape
    q = [[math.exp(float(s) / epsilon) for s in row] for row in scores]
    for _ in range(rounds):
        for k in range(num_prototypes):
            share = sum(row[k] for row in q)
            for row in q:
                row[k] /= share * num_prototypes
        for row in q:
            share = sum(row)
            for k in range(num_prototypes):
                row[k] /= share * num
    return [[value * num for value in row] for row in q]


@pytest.mark.parametrize("epsilon", [0.02, 0.05, 0.5])
def test_sinkhorn_makes_prototypes_equally_used(epsilon: float) -> None:
    scores = normalize(random(12, 6)) @ normalize(random(4, 6, seed=1)).T
    codes = sinkhorn(scores, epsilon, 3)
    assert torch.allclose(codes, torch.tensor(literal_sinkhorn(scores, epsilon, 3)), rtol=1e-3, atol=1e-6)
    assert torch.allclose(codes.sum(dim=1), torch.ones(12), atol=1e-5)
    assert torch.allclose(sinkhorn(scores, epsilon, 300).sum(dim=0), torch.full((4,), 3.0), atol=1e-2)


def test_sinkhorn_of_hand_values() -> None:
    codes = sinkhorn(torch.tensor([[1.0, -1.0], [-1.0, 1.0]]), 0.02, 3)
    assert torch.allclose(codes, torch.eye(2), atol=1e-6)
    assert torch.allclose(sinkhorn(torch.zeros(4, 2), 0.02, 3), torch.full((4, 2), 0.5))


def test_swapped_prediction_leaves_out_a_crops_own_code() -> None:
    scores, codes = random(3, 2, 4), torch.softmax(random(2, 2, 4, seed=1), dim=-1)
    terms = []
    for crop in range(2):
        for other in range(3):
            if other == crop:
                continue
            for i in range(2):
                exponents = [math.exp(float(s) / 0.1) for s in scores[other, i]]
                shares = [math.log(e / sum(exponents)) for e in exponents]
                terms.append(-sum(float(c) * share for c, share in zip(codes[crop, i], shares, strict=True)))
    assert swapped_prediction(scores, codes, 0.1).item() == pytest.approx(sum(terms) / len(terms), rel=1e-5)


def test_distillation_is_the_cross_entropy_under_the_centred_sharpened_teacher() -> None:
    student, teacher, center = random(3, 2, 4), random(2, 2, 4, seed=1), random(1, 4, seed=2)
    terms = []
    for crop in range(2):
        for other in (o for o in range(3) if o != crop):
            for i in range(2):
                target = torch.softmax((teacher[crop, i] - center[0]) / 0.04, dim=0)
                predicted = torch.log_softmax(student[other, i] / 0.1, dim=0)
                terms.append(-sum(float(t) * float(p) for t, p in zip(target, predicted, strict=True)))
    loss = distillation(student, teacher, center, student_temperature=0.1, teacher_temperature=0.04)
    assert loss.item() == pytest.approx(sum(terms) / len(terms), rel=1e-5)


def test_patchify_cuts_line_by_line() -> None:
    images = torch.arange(2 * 3 * 4 * 6).view(2, 3, 4, 6).float()
    patches = patchify(images, 2)
    assert patches.shape == (2, 6, 12)
    for number, (row, column) in enumerate((r, c) for r in range(2) for c in range(3)):
        cell = images[1, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
        assert torch.equal(patches[1, number], cell.permute(1, 2, 0).reshape(-1))


def test_pick_takes_tokens_by_place() -> None:
    tokens, places = random(2, 5, 3), torch.tensor([[4, 0], [1, 1]])
    picked = pick(tokens, places)
    assert torch.equal(picked[0], tokens[0, [4, 0]])
    assert torch.equal(picked[1], tokens[1, [1, 1]])


@pytest.mark.parametrize("norm", [False, True])
def test_painting_loss_counts_hidden_patches_alone(norm: bool) -> None:
    painted, patches = random(2, 3, 4), random(2, 3, 4, seed=1)
    hidden = torch.tensor([[True, False, True], [True, True, False]])
    errors = []
    for i in range(2):
        for place in range(3):
            if hidden[i, place]:
                wanted = patches[i, place]
                if norm:
                    wanted = (wanted - wanted.mean()) / math.sqrt(wanted.var().item() + 1e-6)
                errors.append(
                    sum((float(a) - float(b)) ** 2 for a, b in zip(painted[i, place], wanted, strict=True)) / 4
                )
    assert painting_loss(painted, patches, hidden, norm=norm).item() == pytest.approx(sum(errors) / 4, rel=1e-5)


@pytest.mark.parametrize(("beta", "tau"), [(1.0, 0.01), (0.0, 0.01), (2.0, 0.3)])
def test_debiased_hard_loss_is_robinsons(beta: float, tau: float) -> None:
    z, temperature = random(8, 5), 0.5
    terms = []
    for i, positive in pairs(8):
        pos = math.exp(cosine(z[i], z[positive]) / temperature)
        negatives = [math.exp(cosine(z[i], z[k]) / temperature) for k in range(8) if k not in (i, positive)]
        importance = [math.exp(beta * math.log(e)) for e in negatives]
        mean = sum(importance) / len(importance)
        weighted = sum(w * e for w, e in zip(importance, negatives, strict=True)) / mean
        mass = max((-tau * 6 * pos + weighted) / (1 - tau), 6 * math.exp(-1 / temperature))
        terms.append(-math.log(pos / (pos + mass)))
    assert debiased_hard_loss(z, temperature, beta, tau).item() == pytest.approx(sum(terms) / 8, rel=1e-5)


def test_debiased_hard_loss_stays_finite_where_the_correction_exceeds_the_negatives() -> None:
    z = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]]).requires_grad_()
    loss = debiased_hard_loss(z, 0.07, 1.0, 0.01)
    loss.backward()
    assert math.isfinite(loss.item())
    assert torch.isfinite(z.grad).all()


def test_hardest_loss_keeps_the_most_similar_negatives() -> None:
    z, temperature, share = random(8, 5), 0.1, 0.5
    terms = []
    for i, positive in pairs(8):
        own = math.exp(cosine(z[i], z[positive]) / temperature)
        rest = sorted((cosine(z[i], z[k]) for k in range(8) if k not in (i, positive)), reverse=True)
        kept = [math.exp(s / temperature) for s in rest[: int(8 * share)]]
        terms.append(-math.log(own / (own + sum(kept))))
    expected = sum(terms) / 8 * temperature / 0.07
    assert hardest_loss(z, temperature, share).item() == pytest.approx(expected, rel=1e-5)


def test_hardest_loss_of_all_negatives_is_nt_xent() -> None:
    z = random(8, 5)
    assert hardest_loss(z, 0.07, 1.0).item() == pytest.approx(nt_xent(z, 0.07).item(), rel=1e-6)


def test_memory_loss_adds_the_most_similar_remembered() -> None:
    z, memory = random(6, 5), normalize(random(7, 5, seed=1))
    terms = []
    for i, positive in pairs(6):
        batch = [math.exp(cosine(z[i], z[k]) / 0.2) for k in range(6) if k != i]
        extra = sorted((cosine(z[i], m) for m in memory), reverse=True)[: int(7 * 0.5)]
        own = math.exp(cosine(z[i], z[positive]) / 0.2)
        terms.append(-math.log(own / (sum(batch) + sum(math.exp(s / 0.2) for s in extra))))
    assert memory_loss(z, memory, 0.2, 0.5).item() == pytest.approx(sum(terms) / 6, rel=1e-5)
    assert memory_loss(z, memory[:0], 0.2, 0.5).item() == pytest.approx(nt_xent(z, 0.2).item(), rel=1e-6)
