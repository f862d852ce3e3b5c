"""The slow-fast update: its three stages, its memory, and what it does when a pass raises."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.profiler import ProfilerActivity, profile, record_function

from sfpo_rllib.core import slow_fast_update
from sfpo_rllib.core.slow_fast import Reposition

LR = {"sgd": 0.5, "adamw": 0.05}
BETAS, EPS, WEIGHT_DECAY = (0.9, 0.99), 1e-8, 0.1

Weights = dict[str, np.ndarray]
MiniBatch = tuple[np.ndarray, np.ndarray]


def regression_batches(count: int) -> list[list[MiniBatch]]:
    """Two batches of `count` mini-batches of unequal inputs for a tanh regression."""
    rng = np.random.default_rng(0)
    return [
        [(rng.normal(size=(5, 3)), rng.uniform(-1, 1, size=(5, 2))) for _ in range(count)]
        for _ in range(2)
    ]


def initial_weights() -> Weights:
    rng = np.random.default_rng(1)
    return {"w": rng.normal(size=(3, 2)), "b": rng.normal(size=2)}


class StraightLine:
    """The same training written out: no autograd, no optimizer class, nothing of the package."""

    def __init__(self, optimizer: str) -> None:
        self.optimizer = optimizer
        self.theta = initial_weights()
        self.m = {name: np.zeros_like(value) for name, value in self.theta.items()}
        self.v = {name: np.zeros_like(value) for name, value in self.theta.items()}
        self.t = 0

    def step(self, minibatch: MiniBatch) -> None:
        x, y = minibatch
        out = np.tanh(x @ self.theta["w"] + self.theta["b"])
        # L = sum((out - y)^2) / (2 n), tanh' = 1 - tanh^2
        delta = (out - y) * (1.0 - out**2) / len(x)
        gradient = {"w": x.T @ delta, "b": delta.sum(axis=0)}
        self.t += 1
        lr = LR[self.optimizer]
        for name, g in gradient.items():
            if self.optimizer == "sgd":
                self.theta[name] = self.theta[name] - lr * g
                continue
            self.m[name] = BETAS[0] * self.m[name] + (1 - BETAS[0]) * g
            self.v[name] = BETAS[1] * self.v[name] + (1 - BETAS[1]) * g**2
            m_hat = self.m[name] / (1 - BETAS[0] ** self.t)
            v_hat = self.v[name] / (1 - BETAS[1] ** self.t)
            decayed = self.theta[name] * (1 - lr * WEIGHT_DECAY)
            self.theta[name] = decayed - lr * m_hat / (np.sqrt(v_hat) + EPS)

    def run_pass(self, batch: list[MiniBatch]) -> None:
        for minibatch in batch:
            self.step(minibatch)

    def sfpo(self, batch: list[MiniBatch], fast_steps: int, alpha: float) -> None:
        if alpha == 0:
            self.run_pass(batch)
            return
        start = dict(self.theta)
        for _ in range(fast_steps):
            self.run_pass(batch)
        for name in self.theta:
            self.theta[name] = start[name] + alpha * (self.theta[name] - start[name])
        self.run_pass(batch)


class TorchRegression:
    """The regression under autograd and a torch optimizer, in float64."""

    def __init__(self, optimizer: str) -> None:
        self.params = {
            name: torch.nn.Parameter(torch.from_numpy(value))
            for name, value in initial_weights().items()
        }
        self.optimizer: torch.optim.Optimizer
        if optimizer == "sgd":
            self.optimizer = torch.optim.SGD(self.params.values(), lr=LR["sgd"])
        else:
            self.optimizer = torch.optim.AdamW(
                self.params.values(),
                lr=LR["adamw"],
                betas=BETAS,
                eps=EPS,
                weight_decay=WEIGHT_DECAY,
            )

    def run_pass(self, batch: list[MiniBatch]) -> float:
        for x, y in batch:
            out = torch.tanh(torch.from_numpy(x) @ self.params["w"] + self.params["b"])
            loss = (out - torch.from_numpy(y)).square().sum() / (2 * len(x))
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
        return loss.item()


@pytest.mark.parametrize("num_minibatches", [1, 3])
@pytest.mark.parametrize("alpha", [0, 0.5, 0.8, 1])
@pytest.mark.parametrize("fast_steps", [1, 3, 7])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_equals_the_three_stages_written_out(optimizer, fast_steps, alpha, num_minibatches):
    expected, actual = StraightLine(optimizer), TorchRegression(optimizer)
    for batch in regression_batches(num_minibatches):  # the second one goes on from the first
        expected.sfpo(batch, fast_steps, alpha)
        slow_fast_update(
            actual.params.values(),
            lambda batch=batch: actual.run_pass(batch),
            fast_steps=fast_steps,
            alpha=alpha,
        )
        for name, param in actual.params.items():
            np.testing.assert_allclose(param.detach(), expected.theta[name], rtol=0, atol=1e-6)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_alpha_one_is_bitwise_the_reuse_of_the_batch_for_all_passes(optimizer):
    (batch, _), fast_steps = regression_batches(2), 3
    plain, sfpo = TorchRegression(optimizer), TorchRegression(optimizer)
    losses = [plain.run_pass(batch) for _ in range(fast_steps + 1)]
    results = slow_fast_update(
        sfpo.params.values(), lambda: sfpo.run_pass(batch), fast_steps=fast_steps, alpha=1.0
    )
    assert results == losses
    for name, param in plain.params.items():
        assert torch.equal(param, sfpo.params[name])


@pytest.mark.parametrize(("alpha", "num_passes"), [(0, 1), (0.0, 1), (1e-9, 6), (1, 6)])
def test_runs_so_many_passes_and_returns_their_results_in_order(alpha, num_passes):
    calls = iter(range(100))
    results = slow_fast_update(
        [torch.zeros(2)], lambda: f"pass {next(calls)}", fast_steps=5, alpha=alpha
    )
    assert results == [f"pass {i}" for i in range(num_passes)]


def test_takes_k_three_and_alpha_point_eight_by_default():
    param = torch.zeros(1, dtype=torch.float64)
    slow_fast_update([param], lambda: param.add_(1.0))
    assert param.item() == pytest.approx(0.8 * 3 + 1)


def add_to(params: list[torch.Tensor], amount: float) -> Callable[[], None]:
    """A pass that adds `amount` everywhere."""

    def run_pass() -> None:
        for param in params:
            param.detach().add_(amount)

    return run_pass


def test_dtypes_may_be_mixed():
    dtypes = [torch.bfloat16, torch.float16, torch.float32, torch.float64]
    params = [torch.full((4,), 1.0, dtype=dtype) for dtype in dtypes]
    slow_fast_update(params, add_to(params, 0.5), fast_steps=4, alpha=0.25)
    for param, dtype in zip(params, dtypes, strict=True):
        # start + alpha K d + d; every value on the way is exact in each of the dtypes
        assert torch.equal(param, torch.full((4,), 1.0 + 0.25 * 4 * 0.5 + 0.5, dtype=dtype))


def test_a_tensor_given_twice_counts_once():
    tied, other = torch.zeros(9), torch.zeros(16)
    measured: list[Reposition] = []
    slow_fast_update(
        iter([tied, other, tied]),
        add_to([tied, other], 1.0),
        fast_steps=2,
        alpha=0.5,
        on_reposition=measured.append,
    )
    assert torch.equal(tied, torch.full((9,), 2.0))
    assert torch.equal(other, torch.full((16,), 2.0))
    assert measured[0].displacement_norm == pytest.approx(math.sqrt(9 + 16) * 2.0)


def test_only_the_given_tensors_are_touched():
    trained, frozen, counter = torch.zeros(3), torch.ones(3), torch.zeros(1)

    def run_pass() -> None:
        trained.add_(1.0)
        counter.add_(1.0)

    version = frozen._version
    slow_fast_update([trained], run_pass, fast_steps=3, alpha=0.5)
    assert counter.item() == 4.0  # not pulled back
    assert frozen._version == version


def test_parameters_keep_identity_gradient_and_need_of_gradient():
    param = torch.nn.Parameter(torch.zeros(2))
    address = param.data_ptr()

    def run_pass() -> None:
        param.grad = None
        (param.sum() * 2.0).backward()
        with torch.no_grad():
            param.sub_(param.grad)

    slow_fast_update([param], run_pass, fast_steps=2, alpha=0.5)
    assert param.data_ptr() == address
    assert param.requires_grad and param.is_leaf
    assert torch.equal(param.grad, torch.full((2,), 2.0))


@pytest.mark.parametrize("alpha", [0.25, 1.0])
def test_reposition_is_reported_once_with_its_norms(alpha):
    params = [torch.zeros(3, 4), torch.zeros(5, dtype=torch.float64), torch.tensor(0.0)]
    measured: list[Reposition] = []
    slow_fast_update(
        params, add_to(params, 0.5), fast_steps=3, alpha=alpha, on_reposition=measured.append
    )
    (reposition,) = measured
    displacement = math.sqrt(12 + 5 + 1) * 3 * 0.5
    assert reposition.displacement_norm == pytest.approx(displacement)
    assert reposition.pull_back_norm == pytest.approx(
        (1 - alpha) * displacement, rel=1e-6, abs=1e-12
    )


def test_the_norm_of_low_precision_weights_is_summed_in_full_precision():
    param = torch.zeros(9_973, dtype=torch.bfloat16)
    measured: list[Reposition] = []
    slow_fast_update([param], add_to([param], 1.0), fast_steps=3, on_reposition=measured.append)
    assert measured[0].displacement_norm == pytest.approx(3 * math.sqrt(9_973), rel=1e-5)


def test_alpha_zero_reports_no_reposition():
    measured: list[Reposition] = []
    slow_fast_update([torch.zeros(2)], lambda: None, alpha=0.0, on_reposition=measured.append)
    assert measured == []


# Memory.

SIZES = (30_000, 10_000, 5_000)
SLACK = 1024  # scalars and norms, in bytes


def live_bytes(update: Callable[[], object]) -> tuple[int, list[int]]:
    """What the CPU allocator handed out during `update` and had not yet got back.

    Returns:
        The peak, and what was live at each start of a `record_function("pass")`, in bytes.
    """
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        update()
    events = profiler.profiler.kineto_results.events()
    live = peak = 0
    at_passes = []
    for event in sorted(events, key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            live += event.nbytes()
            peak = max(peak, live)
        elif event.name() == "pass":
            at_passes.append(live)
    return peak, at_passes


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("measure_norms", [False, True])
def test_keeps_one_copy_of_the_parameters_and_no_larger_temporary(measure_norms, dtype):
    params = [torch.zeros(size, dtype=dtype) for size in SIZES]
    sizes = [param.nbytes for param in params]

    def run_pass() -> None:
        with record_function("pass"):
            for param in params:
                param.neg_()

    def update() -> None:
        on_reposition = (lambda reposition: None) if measure_norms else None
        slow_fast_update(params, run_pass, alpha=0.8, on_reposition=on_reposition)

    peak, at_passes = live_bytes(update)
    assert len(at_passes) == 4
    for live in at_passes:
        assert sum(sizes) <= live <= sum(sizes) + SLACK
    assert peak <= sum(sizes) + SLACK + (max(sizes) if measure_norms else 0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_keeps_one_copy_of_the_parameters_on_a_gpu(dtype):
    params = [torch.zeros(size * 100, dtype=dtype, device="cuda") for size in SIZES]
    sizes = [param.nbytes for param in params]
    slack = 1 << 16  # blocks are rounded up, and reductions have a workspace
    before = torch.cuda.memory_allocated()
    at_passes = []

    def run_pass() -> None:
        at_passes.append(torch.cuda.memory_allocated() - before)
        for param in params:
            param.neg_()

    torch.cuda.reset_peak_memory_stats()
    slow_fast_update(params, run_pass, on_reposition=lambda reposition: None)
    assert len(at_passes) == 4
    assert max(at_passes) <= sum(sizes) + slack
    peak = torch.cuda.max_memory_allocated() - before
    assert peak <= sum(sizes) + max(sizes) + slack
    assert torch.cuda.memory_allocated() <= before


# Failure.


class Broken(BaseException):
    """Not an Exception, as KeyboardInterrupt is not."""


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, Broken])
@pytest.mark.parametrize(("alpha", "failing"), [(0.0, 0), *((0.8, k) for k in range(4))])
def test_a_pass_that_raises_puts_the_parameters_back_exactly(alpha, failing, error):
    generator = torch.Generator().manual_seed(0)
    dtypes = (torch.float64, torch.float32, torch.bfloat16)
    params = [torch.randn(7, generator=generator).to(dtype) for dtype in dtypes]
    start = [param.clone() for param in params]
    passes = iter(range(4))

    def run_pass() -> None:
        for param in params:
            param.mul_(1.7)
            if param is params[1] and next(passes) == failing:
                raise error("half way through the pass")

    with pytest.raises(error, match="half way"):
        slow_fast_update(params, run_pass, fast_steps=3, alpha=alpha)
    assert all(map(torch.equal, params, start))


def test_a_callback_that_raises_puts_the_parameters_back():
    param = torch.zeros(3)

    def refuse(reposition: Reposition) -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        slow_fast_update([param], add_to([param], 1.0), on_reposition=refuse)
    assert torch.equal(param, torch.zeros(3))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        *(({"fast_steps": k}, "fast_steps=") for k in (0, -1, 1.5, 3.0, True, "3", None)),
        *(({"alpha": a}, "alpha=") for a in (-0.1, 1.1, math.nan, math.inf, "0.8", None)),
    ],
)
def test_settings_out_of_range_are_refused_by_name_before_any_pass(settings, message):
    def run_pass() -> None:
        raise AssertionError("ran")

    with pytest.raises(ValueError, match=f"^{message}.*: must be"):
        slow_fast_update([torch.zeros(1)], run_pass, **settings)


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64])
def test_parameters_that_are_not_floating_are_refused_before_any_pass(dtype):
    def run_pass() -> None:
        raise AssertionError("ran")

    params = [torch.zeros(1), torch.zeros(1, dtype=dtype)]
    with pytest.raises(ValueError, match=f"^parameters: dtype {dtype}, must be floating"):
        slow_fast_update(params, run_pass)
