"""The whole objective: its terms against loops, and what it does not depend on."""

import math
from typing import Any

import pytest
import torch

from sfpo_rllib.core import LOSSES, Objective, PolicyLoss, kl_estimate, token_weights
from sfpo_rllib.core.importance import ENGINE_CORRECTIONS
from sfpo_rllib.core.metrics import accumulate, over_learners
from sfpo_rllib.core.objective import KL_ESTIMATORS

LENGTHS = [6, 1, 0, 4, 7, 2, 5, 3]
MASK = torch.arange(7) < torch.tensor(LENGTHS).unsqueeze(1)
MASK[4, 2:4] = False  # an environment's turn
NUM_FEATURES, NUM_CHOICES = 3, 5


def normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def batch_of(rows: torch.Tensor) -> dict[str, torch.Tensor]:
    """Features of each token, which choice was taken, and the columns of the batch."""
    shape = MASK.shape
    start = -normal(*shape, seed=2).abs() - 1
    return {
        name: column[rows]
        for name, column in {
            "features": normal(*shape, NUM_FEATURES, seed=0),
            "choices": normal(*shape, NUM_CHOICES, seed=1).argmax(dim=-1),
            "start_logp": start,
            "engine_logp": start + 0.5 * normal(*shape, seed=3),
            "reference_logp": start + 0.5 * normal(*shape, seed=4),
            "advantages": normal(len(MASK), 1, seed=5),
            "mask": MASK,
        }.items()
    }


def gradient_and_metrics(objective, parts):
    """Of a softmax policy's weights, the gradients of the parts accumulated as they come."""
    weight = (0.3 * normal(NUM_FEATURES, NUM_CHOICES, seed=6)).requires_grad_()
    totals: dict[str, torch.Tensor] = {}
    for rows in parts:
        batch = batch_of(torch.tensor(rows))
        width = max(int(batch["mask"].sum(dim=1).max()), 1) + 2 * int(4 in rows)
        batch = {n: c[:, :width] if c.shape[1] == 7 else c for n, c in batch.items()}
        logits = (batch.pop("features") @ weight).log_softmax(dim=-1)
        logp = logits.gather(-1, batch.pop("choices").unsqueeze(-1)).squeeze(-1)
        weights = token_weights(
            batch["mask"],
            aggregation=objective.loss.aggregation,
            num_tokens=float(MASK.sum()),
            num_sequences=float(MASK.any(dim=1).sum()),
            max_tokens=7,
            dtype=torch.float64,
        )
        entropy = -(logits.exp() * logits).sum(dim=-1)
        loss, metrics = objective(logp=logp, entropy=entropy, weights=weights, **batch)
        loss.backward()
        accumulate(totals, {"loss": loss.detach(), **metrics})
    return weight.grad, over_learners(totals, distributed=False)


PARTS = {
    "one by one": [[i] for i in range(8)],
    "pairs": [[0, 1], [2, 3], [4, 5], [6, 7]],
    "unequal, in another order": [[6], [3, 1, 0, 7, 4], [5, 2]],
    "reversed": [[7, 6, 5, 4, 3, 2, 1, 0]],
    "the empty one alone": [[2], [0, 1, 3, 4, 5, 6, 7]],
}


@pytest.mark.parametrize("parts", PARTS.values(), ids=PARTS.keys())
@pytest.mark.parametrize("correction", [None, *ENGINE_CORRECTIONS])
@pytest.mark.parametrize("name", LOSSES)
def test_gradient_and_metrics_do_not_depend_on_micro_batches_their_order_or_padding(
    name, correction, parts
):
    objective = Objective(
        LOSSES[name], kl_coeff=0.1, entropy_coeff=0.05, engine_correction=correction
    )
    expected, expected_metrics = gradient_and_metrics(objective, [list(range(8))])
    actual, metrics = gradient_and_metrics(objective, parts)
    scale = torch.linalg.vector_norm(expected)
    assert torch.linalg.vector_norm(actual - expected) < 1e-12 * scale
    assert metrics.keys() == expected_metrics.keys()
    for key, value in expected_metrics.items():
        assert metrics[key] == pytest.approx(value, rel=1e-12, abs=1e-12), key


def columns(*names: str) -> dict[str, torch.Tensor]:
    batch = batch_of(torch.arange(8))
    logp = batch["start_logp"] + 0.3 * normal(*MASK.shape, seed=7)
    entropy = normal(*MASK.shape, seed=8).abs()
    weights = MASK.double() / 11
    return {"logp": logp, "entropy": entropy, "weights": weights} | {
        name: batch[name] for name in ("start_logp", "engine_logp", "advantages", "mask", *names)
    }


def value_and_gradients(objective, batch):
    leaves = {name: batch[name].clone().requires_grad_() for name in ("logp", "entropy")}
    loss, metrics = objective(**{**batch, **leaves})
    loss.backward()
    return loss.detach(), leaves["logp"].grad, leaves["entropy"].grad, metrics


KL_BY_HAND = {
    "k1": lambda p, q: p - q,
    "k2": lambda p, q: (p - q) ** 2 / 2,
    "k3": lambda p, q: torch.exp(q - p) - 1 - (q - p),
}


@pytest.mark.parametrize("estimator", KL_ESTIMATORS)
def test_the_kl_term_equals_a_loop_over_tokens(estimator):
    batch = columns("reference_logp")
    plain = value_and_gradients(Objective(), batch)
    with_kl = value_and_gradients(Objective(kl_coeff=0.3, kl_estimator=estimator), batch)
    logp = batch["logp"].clone().requires_grad_()
    term, total = torch.zeros((), dtype=torch.float64), 0.0
    for i, t in MASK.nonzero().tolist():
        kl = KL_BY_HAND[estimator](logp[i, t], batch["reference_logp"][i, t])
        term = term + 0.3 * kl * batch["weights"][i, t]
        total += kl.item()
    term.backward()
    torch.testing.assert_close(with_kl[0] - plain[0], term.detach(), rtol=1e-10, atol=1e-14)
    torch.testing.assert_close(with_kl[1] - plain[1], logp.grad, rtol=1e-10, atol=1e-14)
    assert with_kl[3]["kl_to_reference"].item() == pytest.approx(total, rel=1e-10)


def test_estimators_are_of_the_kl_and_k2_has_its_gradient():
    logits = normal(6, seed=9).requires_grad_()
    q = normal(6, seed=10).log_softmax(dim=0)
    p = logits.log_softmax(dim=0)
    kl = (p.exp() * (p - q)).sum()
    (gradient,) = torch.autograd.grad(kl, logits, retain_graph=True)
    probabilities = p.detach().exp()
    for estimator in ("k1", "k3"):  # the mean over all choices is the KL itself
        mean = (probabilities * kl_estimate(p.detach() - q, estimator)).sum()
        assert mean.item() == pytest.approx(kl.item(), rel=1e-12)
    mean_gradients = {}
    for estimator in KL_ESTIMATORS:
        mean = (probabilities * kl_estimate(p - q, estimator)).sum()
        (mean_gradients[estimator],) = torch.autograd.grad(mean, logits, retain_graph=True)
    torch.testing.assert_close(mean_gradients["k2"], gradient)
    torch.testing.assert_close(mean_gradients["k1"], torch.zeros(6, dtype=torch.float64))
    reverse = (q.exp() * (q - p)).sum()
    torch.testing.assert_close(mean_gradients["k3"], torch.autograd.grad(reverse, logits)[0])


def test_k3_is_never_negative():
    assert (kl_estimate(torch.linspace(-3, 3, 101), "k3") >= 0).all()


def test_the_entropy_bonus_raises_entropy_by_its_weight_and_is_off_by_default():
    batch = columns()
    plain = value_and_gradients(Objective(), batch)
    bonus = value_and_gradients(Objective(entropy_coeff=0.3), batch)
    assert plain[2] is None, "an entropy that nobody asked for carries no gradient"
    torch.testing.assert_close(bonus[2], -0.3 * batch["weights"])
    expected = plain[0] - 0.3 * (batch["entropy"] * batch["weights"]).sum()
    torch.testing.assert_close(bonus[0], expected)
    assert torch.equal(bonus[1], plain[1])
    assert bonus[3]["entropy"].item() == pytest.approx(batch["entropy"][MASK].sum().item())


@pytest.mark.parametrize("junk", [math.nan, math.inf, -math.inf])
def test_tokens_that_do_not_count_change_nothing(junk):
    objective = Objective(kl_coeff=0.1, entropy_coeff=0.1, engine_correction="sequence_mask")
    clean = columns("reference_logp")
    dirty = {
        name: torch.where(MASK, column, junk)
        if column.shape == MASK.shape and name not in ("mask", "weights")
        else column
        for name, column in clean.items()
    }
    for actual, expected in zip(
        value_and_gradients(objective, dirty)[:3],
        value_and_gradients(objective, clean)[:3],
        strict=True,
    ):
        assert torch.equal(actual, expected)


def test_the_kl_and_the_entropy_are_not_weighted_by_what_corrects_for_the_engine():
    batch = columns("reference_logp")
    far = {**batch, "engine_logp": batch["start_logp"] - 5}  # every token masked
    objective = Objective(kl_coeff=0.1, entropy_coeff=0.1, engine_correction="token_mask")
    _, gradient, entropy_gradient, _ = value_and_gradients(objective, far)
    kl = batch["logp"] - batch["reference_logp"]
    torch.testing.assert_close(gradient, 0.1 * (1 - torch.exp(-kl)) * batch["weights"])
    torch.testing.assert_close(entropy_gradient, -0.1 * batch["weights"])


@pytest.mark.parametrize("name", LOSSES)
def test_a_masked_token_is_kept_out_however_far_the_policy_has_moved_on_it(name: str) -> None:
    batch = {n: c.float() if c.is_floating_point() else c for n, c in columns().items()}
    batch["engine_logp"] = batch["start_logp"].clone()
    batch["engine_logp"][0, 1] -= 5  # masked
    batch["start_logp"][0, 1] -= 200  # the exponential of that is infinite
    batch["engine_logp"][0, 1] -= 200
    loss, gradient, _, metrics = value_and_gradients(
        Objective(LOSSES[name], engine_correction="token_mask"), batch
    )
    assert loss.isfinite() and gradient.isfinite().all() and gradient[0, 1] == 0
    assert math.isfinite(metrics["kl_to_start"])


def test_a_reference_that_is_far_away_gives_a_finite_kl() -> None:
    log_ratio = torch.tensor([-200.0, 200.0], requires_grad=True)
    values = kl_estimate(log_ratio, "k3")
    values.sum().backward()
    assert log_ratio.grad is not None and log_ratio.grad.isfinite().all()
    assert values.isfinite().all()


def test_metrics_of_a_users_loss_may_be_numbers_and_have_no_gradient() -> None:
    def own(inputs: Any, clip: Any) -> Any:
        return inputs.logp.sum(), {"share": 0.25, "logp": inputs.logp.sum()}

    totals: dict[str, torch.Tensor] = {}
    for _ in range(2):
        metrics = value_and_gradients(Objective(PolicyLoss(own)), columns())[3]
        assert not metrics["logp"].requires_grad
        accumulate(totals, metrics)
    assert over_learners(totals, distributed=False)["share"] == 0.5


def test_kl_to_start_is_the_k3_estimate_of_how_far_the_policy_has_moved():
    batch = columns()
    metrics = value_and_gradients(Objective(), batch)[3]
    expected = sum(
        math.exp(x) - 1 - x for x in (batch["logp"] - batch["start_logp"])[MASK].tolist()
    )
    assert metrics["kl_to_start"].item() == pytest.approx(expected, rel=1e-10)
    batch["start_logp"] = batch["logp"]
    assert value_and_gradients(Objective(), batch)[3]["kl_to_start"] == 0


def test_a_kl_without_a_reference_is_refused():
    with pytest.raises(ValueError, match=r"^kl_coeff=0.1: must be 0 without reference log-probs"):
        Objective(kl_coeff=0.1)(**columns())


def test_an_unknown_estimator_is_refused():
    with pytest.raises(ValueError, match=r"^estimator='k4': must be one of \('k1', 'k2', 'k3'\)"):
        kl_estimate(torch.zeros(1), "k4")


NO_LOSSES = [None, torch.tensor(1.0), (torch.tensor(1.0),), (1.0, {}), (torch.ones(2), {})]


@pytest.mark.parametrize("returned", [*NO_LOSSES, (torch.tensor(1.0), None)], ids=str)
def test_what_an_own_loss_returns_must_be_a_scalar_and_metrics(returned: object) -> None:
    column = torch.zeros(1, 2)
    objective = Objective(loss=PolicyLoss(lambda inputs, clip: returned))  # type: ignore[arg-type,return-value]
    with pytest.raises(ValueError, match=r"loss=<function .*must return a pair, the loss as a sc"):
        objective(
            logp=column,
            entropy=column,
            start_logp=column,
            engine_logp=column,
            advantages=column,
            mask=column == 0,
            weights=column,
        )
