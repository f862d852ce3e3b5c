"""The chunked LM head against whole logits: values, gradients, memory."""

import itertools

import pytest
import torch

from sfpo_rllib.rl_modules.token_logprobs import logprobs_of_logits, token_logprobs

HIDDEN, VOCAB, TOKENS = 6, 11, 10


def inputs(dtype: torch.dtype, *, with_bias: bool) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Hidden states, weight and perhaps bias of a head, and targets."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(TOKENS, HIDDEN), (VOCAB, HIDDEN), *([(VOCAB,)] if with_bias else [])]
    tensors = [torch.randn(s, generator=generator, dtype=dtype).requires_grad_() for s in shapes]
    return tensors, torch.randint(VOCAB, (TOKENS,), generator=generator)


def gradients(outputs, tensors: list[torch.Tensor], which: str) -> tuple[torch.Tensor, ...]:
    """Gradients of a sum in which every token has a weight of its own."""
    logp, entropy = outputs
    weights = torch.linspace(-1.0, 2.0, TOKENS, dtype=logp.dtype)
    loss = {
        "logp": (logp.exp() * weights).sum(),
        "entropy": (entropy * weights).sum(),
        "both": (logp * entropy * weights).sum(),
    }[which]
    return torch.autograd.grad(loss, tensors)


@pytest.mark.parametrize("chunk", [1, 3, 5, 10, 64, None])
@pytest.mark.parametrize(
    ("temperature", "with_bias"), list(itertools.product([1.0, 0.7], [False, True]))
)
@pytest.mark.parametrize("which", ["logp", "entropy", "both"])
def test_chunks_give_what_whole_logits_give(chunk, temperature, with_bias, which):
    tensors, targets = inputs(torch.float64, with_bias=with_bias)
    hidden, weight, *bias = tensors
    logits = hidden @ weight.T + (bias[0] if bias else 0.0)
    expected = logprobs_of_logits(logits, targets, temperature=temperature)
    actual = token_logprobs(
        hidden,
        weight,
        targets,
        bias=bias[0] if bias else None,
        temperature=temperature,
        chunk_size=chunk,
    )
    for value, reference in zip(actual, expected, strict=True):
        torch.testing.assert_close(value, reference, rtol=1e-12, atol=1e-14)
    wanted = gradients(expected, tensors, which)
    for value, reference in zip(gradients(actual, tensors, which), wanted, strict=True):
        torch.testing.assert_close(value, reference, rtol=1e-12, atol=1e-14)


def test_gradients_are_those_of_finite_differences():
    (hidden, weight, bias), targets = inputs(torch.float64, with_bias=True)

    def function(hidden, weight, bias):
        return token_logprobs(hidden, weight, targets, bias=bias, temperature=0.8, chunk_size=4)

    assert torch.autograd.gradcheck(function, (hidden, weight, bias))


def test_a_backward_pass_can_be_run_twice():
    tensors, targets = inputs(torch.float64, with_bias=False)
    logp, _ = token_logprobs(*tensors, targets, chunk_size=4)
    first = torch.autograd.grad(logp.sum(), tensors, retain_graph=True)
    second = torch.autograd.grad(logp.sum(), tensors)
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-14, atol=1e-15)


def test_a_frozen_head_gets_no_gradient():
    (hidden, weight), targets = inputs(torch.float64, with_bias=False)
    token_logprobs(hidden, weight.detach(), targets)[0].sum().backward()
    assert hidden.grad is not None and weight.grad is None


def test_no_tokens_give_zero_gradients():
    (hidden, weight), _ = inputs(torch.float32, with_bias=False)
    logp, entropy = token_logprobs(hidden[:0], weight, torch.zeros(0, dtype=torch.long))
    assert logp.shape == entropy.shape == (0,)
    assert not torch.autograd.grad(logp.sum(), weight)[0].any()


def test_the_softmax_is_float32_where_the_products_are_bfloat16():
    (hidden, weight), targets = inputs(torch.float32, with_bias=False)
    logp, entropy = token_logprobs(hidden, weight, targets, compute_dtype=torch.bfloat16)
    logits = (hidden.bfloat16() @ weight.bfloat16().T).float()
    expected = logprobs_of_logits(logits, targets)
    torch.testing.assert_close((logp, entropy), expected, rtol=1e-6, atol=1e-6)
    for grad in torch.autograd.grad(logp.sum(), (hidden, weight)):
        assert grad.dtype == torch.float32
