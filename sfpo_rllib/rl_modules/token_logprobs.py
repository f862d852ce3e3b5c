"""Log-probs and entropies of tokens through the LM head, a chunk of logits at a time.

The logits of a batch are its largest tensor by far: at a vocabulary of 150k, 600 kB a token. Here
they never exist whole, neither forward nor backward.
"""

from typing import Any

import torch
from torch.autograd.function import once_differentiable

# Logits of a chunk, in float32: 128 MiB. A forward pass holds two such buffers, a backward one.
CHUNK_ELEMENTS = 1 << 25


def token_logprobs(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    targets: torch.Tensor,
    *,
    bias: torch.Tensor | None = None,
    temperature: float = 1.0,
    compute_dtype: torch.dtype | None = None,
    chunk_tokens: int | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-prob of each target token, and the entropy of the distribution it stands in.

    Both are differentiable in `hidden`, `weight` and `bias`, once. What is kept from forward to
    backward, besides the inputs, is the last chunk's probabilities: it is the only one, or the
    others are computed again.

    Args:
        hidden: Hidden states that predict the targets, shape (N, H).
        weight: Of the LM head, shape (V, H).
        targets: Token ids, shape (N,).
        bias: Of the LM head, shape (V,).
        temperature: Logits are divided by it, as they are in sampling.
        compute_dtype: Of the matrix products; by default that of `hidden`. Softmax and results are
            at least float32.
        chunk_tokens: Tokens whose logits exist at once; by default as many as take 128 MiB.

    Returns:
        Log-probs and entropies (nats), each of shape (N,).
    """
    dtype = hidden.dtype if compute_dtype is None else compute_dtype
    size = chunk_tokens or max(CHUNK_ELEMENTS // weight.shape[0], 1)
    logp, entropy = _TokenLogprobs.apply(hidden, weight, bias, targets, temperature, dtype, size)
    return logp, entropy


def logprobs_of_logits(
    logits: torch.Tensor, targets: torch.Tensor, *, temperature: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same from whole logits, shape (N, V)."""
    log_probs = (_float(logits) / temperature).log_softmax(-1)
    logp = log_probs.gather(1, targets.unsqueeze(1)).squeeze(1)
    return logp, -torch.linalg.vecdot(log_probs.exp(), log_probs)


class _TokenLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        targets: torch.Tensor,
        temperature: float,
        compute_dtype: torch.dtype,
        size: int,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        head = weight.to(compute_dtype)
        logp, entropy, probs = [], [], None
        for part, target in zip(hidden.split(size), targets.split(size), strict=True):
            log_probs = _log_softmax(part, head, bias, temperature)
            logp.append(log_probs.gather(1, target.unsqueeze(1)).squeeze(1))
            probs = log_probs.exp()
            entropy.append(-torch.linalg.vecdot(probs, log_probs))
        ctx.save_for_backward(hidden, weight, bias, targets)
        ctx.settings = temperature, compute_dtype, size
        ctx.last_probs = probs if any(ctx.needs_input_grad) else None
        ctx.set_materialize_grads(False)
        return torch.cat(logp), torch.cat(entropy)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
        hidden, weight, bias, targets = ctx.saved_tensors
        temperature, compute_dtype, size = ctx.settings
        grad_logp, grad_entropy = grads
        needs_hidden, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        head = weight.to(compute_dtype)
        grad_hidden = torch.zeros_like(hidden) if needs_hidden else None
        grad_weight = torch.zeros_like(weight) if needs_weight else None
        grad_bias = torch.zeros_like(bias) if needs_bias else None
        last_probs, ctx.last_probs = ctx.last_probs, None
        for start in reversed(range(0, len(hidden), size)):
            rows = slice(start, start + size)
            part = hidden[rows]
            if last_probs is None or grad_entropy is not None:
                log_probs = _log_softmax(part, head, bias, temperature)
                probs = log_probs.exp()
            else:
                log_probs, probs = None, last_probs
            last_probs = None
            grad = _grad_logits(
                probs,
                log_probs,
                targets[rows],
                None if grad_logp is None else grad_logp[rows],
                None if grad_entropy is None else grad_entropy[rows],
            ).div_(temperature)
            if grad_bias is not None:
                grad_bias += grad.sum(0)
            grad = grad.to(compute_dtype)
            if grad_hidden is not None:
                grad_hidden[rows] = grad @ head
            if grad_weight is not None:
                grad_weight += grad.T @ part.to(compute_dtype)
        return grad_hidden, grad_weight, grad_bias, None, None, None, None


def _log_softmax(
    hidden: torch.Tensor, head: torch.Tensor, bias: torch.Tensor | None, temperature: float
) -> torch.Tensor:
    """Log-probs of the whole vocabulary, shape (n, V), float32 at least."""
    logits = _float(hidden.to(head.dtype) @ head.T)
    if bias is not None:
        logits += bias
    if temperature != 1.0:
        logits /= temperature
    return logits.log_softmax(-1)


def _float(tensor: torch.Tensor) -> torch.Tensor:
    """As float32, or float64 if it is."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _grad_logits(
    probs: torch.Tensor,
    log_probs: torch.Tensor | None,
    targets: torch.Tensor,
    grad_logp: torch.Tensor | None,
    grad_entropy: torch.Tensor | None,
) -> torch.Tensor:
    """Gradient of what `token_logprobs` returns in the tempered logits, in place of `probs`.

    d logp / d l_j = [j is the target] - p_j, and d entropy / d l_j = -p_j (log p_j + entropy).
    """
    factor = torch.zeros_like(probs[:, :1])
    if grad_logp is not None:
        factor -= grad_logp.unsqueeze(1)
    if grad_entropy is not None:
        assert log_probs is not None
        entropy = -torch.linalg.vecdot(probs, log_probs).unsqueeze(1)
        factor = factor - grad_entropy.unsqueeze(1) * (log_probs + entropy)
    grad = probs.mul_(factor)
    if grad_logp is not None:
        grad.scatter_add_(1, targets.unsqueeze(1), grad_logp.unsqueeze(1).to(grad.dtype))
    return grad
