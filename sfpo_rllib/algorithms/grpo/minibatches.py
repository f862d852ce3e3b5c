"""A rollout batch cut up, mini-batches of micro-batches, and the log-probs that it is given."""

import itertools
from typing import Any

import torch
from ray.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule

from sfpo_rllib.core.balance import micro_batches, prompts_together
from sfpo_rllib.core.losses import token_weights
from sfpo_rllib.rl_modules.causal_lm import (
    ATTENTION_MASK,
    BEHAVIOUR_LOGP,
    ENTROPY,
    INPUT_IDS,
    LOGP,
    LOSS_MASK,
    REFERENCE_LOGP,
    WEIGHTS_VERSION,
    for_models,
)

WEIGHTS = "token_weights"
START_LOGP = "start_logp"
START_ENTROPY = "start_entropy"
ROW = "row"  # of the sequence in the rollout batch, group by group, (B,)
PLACE = "place"  # in the order that it was shuffled into, (B,)

Batch = dict[str, torch.Tensor]
Minibatches = list[list[Batch]]  # of micro-batches


def cut(
    rollouts: Batch,
    rows: torch.Tensor,
    *,
    num_tokens: float,
    num_sequences: float,
    aggregation: str,
    longest_episode: int,
    max_tokens: int,
    packed: bool,
    shares_prompts: bool = False,
) -> list[Batch]:
    """Micro-batches of the sequences of a mini-batch that count somewhere.

    Args:
        rollouts: The token batch.
        rows: Of the sequences, (B,).
        num_tokens: That count in the mini-batch, over all learners.
        num_sequences: In which one does, over all learners.
        aggregation: See `core.token_weights`.
        longest_episode: Most tokens that can be sampled in an episode.
        max_tokens: Of a micro-batch, with its padding unless `packed`.
        packed: Whether they are computed without padding.
        shares_prompts: Whether a prompt is computed once in a micro-batch: then sequences that have
            the same stay together.

    Returns:
        The columns of `rollouts`, and `WEIGHTS`, of each micro-batch, as wide as its longest
        sequence.
    """
    mask = rollouts[LOSS_MASK][rows]
    counted = mask.any(dim=1)
    # Where nothing counts there is no gradient. One sequence stays for DDP's backward pass.
    counted[0] |= not counted.any()
    rows = rows[counted]
    weights = token_weights(
        mask[counted],
        aggregation=aggregation,
        num_tokens=num_tokens,
        num_sequences=num_sequences,
        max_tokens=longest_episode,
    )
    lengths = rollouts[ATTENTION_MASK][rows].sum(dim=1)
    if shares_prompts:
        spread = _with_their_prompts(rollouts, rows, lengths.tolist(), max_tokens)
    else:
        spread = micro_batches(lengths.tolist(), max_tokens=max_tokens, packed=packed)
    parts = []
    for indices in spread:
        part = torch.tensor(indices, device=rows.device)
        width = int(lengths[part].max())
        micro = {
            # Cut first: what is picked out would hold the width of the batch all the same.
            name: (column[:, :width] if column.ndim > 1 else column)[rows[part]]
            for name, column in rollouts.items()
        }
        micro[WEIGHTS] = weights[:, :width][part]
        parts.append(micro)
    return parts


def _with_their_prompts(
    rollouts: Batch, rows: torch.Tensor, lengths: list[int], max_tokens: int
) -> list[list[int]]:
    prompt_lengths = rollouts[LOSS_MASK][rows].int().argmax(dim=1).tolist()
    ids = rollouts[INPUT_IDS][rows].cpu().numpy()
    prompts = [row[:n].tobytes() for row, n in zip(ids, prompt_lengths, strict=True)]
    return prompts_together(prompts, prompt_lengths, lengths, max_tokens=max_tokens)


def note_start(micro: Batch, outputs: Batch, *, with_entropy: bool) -> None:
    """Adds to a micro-batch what the policy says of its tokens before the first step."""
    micro[START_LOGP] = outputs[LOGP].detach()
    if with_entropy:
        micro[START_ENTROPY] = outputs[ENTROPY].detach()


def add_reference_logp(module: TorchRLModule, minibatches: Minibatches) -> None:
    """Adds the log-probs of the module's reference."""
    for micro in itertools.chain.from_iterable(minibatches):
        micro[REFERENCE_LOGP] = module.reference_logp(for_models(micro))


def engine_logp_diff(minibatches: Minibatches, version: int) -> torch.Tensor:
    """What the engine's log-probs and those at the start of the batch differ by.

    Args:
        minibatches: With `START_LOGP`.
        version: Of the weights at the start.

    Returns:
        Sum of |difference| over the tokens that were sampled under these weights, nats, their
        number, and the sum over all tokens: (3,), float64.
    """
    micros = list(itertools.chain.from_iterable(minibatches))
    sums = torch.zeros(3, dtype=torch.float64, device=micros[0][LOSS_MASK].device)
    for micro in micros:
        mask = micro[LOSS_MASK]
        diff = (micro[START_LOGP] - micro[BEHAVIOUR_LOGP]).abs().double()
        present = mask
        if WEIGHTS_VERSION in micro:
            present = mask & (micro[WEIGHTS_VERSION] >= version).unsqueeze(1)
        sums += torch.stack([diff[present].sum(), present.sum().double(), diff[mask].sum()])
    return sums


def moved(tree: Any, device: Any) -> Any:
    """Nested lists and dicts, their tensors on another device."""
    if isinstance(tree, list):
        return [moved(branch, device) for branch in tree]
    if isinstance(tree, dict):
        return {name: moved(branch, device) for name, branch in tree.items()}
    return tree.to(device) if isinstance(tree, torch.Tensor) else tree
