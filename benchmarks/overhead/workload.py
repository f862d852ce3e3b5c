"""What is measured: updates of a character-level Llama by a rule, with AdamW."""

import tempfile
from dataclasses import dataclass

import torch
from transformers import LlamaForCausalLM

from sfpo_rllib.core import Updater, UpdateRule
from sfpo_rllib.rl_modules.char_llama import build_char_llama


@dataclass(frozen=True)
class Size:
    """Of model and batch."""

    hidden_size: int
    num_layers: int
    batch_size: int
    num_tokens: int


class Workload:
    """A model, its optimizer, and a batch.

    The loss is the likelihood of random tokens: rules see none of it, and a policy's loss has the
    same matrices in it.

    Attributes:
        device: Where it runs.
        parameters: The trainable weights.
    """

    def __init__(self, size: Size, device: torch.device, seed: int = 0) -> None:
        """Builds the model and takes one step, after which AdamW has its moments."""
        with tempfile.TemporaryDirectory() as folder:
            build_char_llama(
                folder,
                alphabet="0123456789+=",
                hidden_size=size.hidden_size,
                num_layers=size.num_layers,
                seed=seed,
            )
            self._model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).to(device)
        self.device = device
        self.parameters = list(self._model.parameters())
        self._optimizer = torch.optim.AdamW(self.parameters, lr=1e-5)
        self._batch = torch.randint(
            self._model.config.vocab_size,
            (size.batch_size, size.num_tokens),
            generator=torch.Generator().manual_seed(seed),
        ).to(device)
        self._run_pass(self._batch)

    @property
    def weight_bytes(self) -> int:
        """Of the trainable weights."""
        return sum(param.nbytes for param in self.parameters)

    @property
    def resident_bytes(self) -> int:
        """Of the tensors that outlive an update: weights, AdamW's moments, the batch."""
        moments = [
            value
            for state in self._optimizer.state.values()
            for value in state.values()
            if isinstance(value, torch.Tensor)
        ]
        return sum(tensor.nbytes for tensor in [*self.parameters, *moments, self._batch])

    def update(self, rule: UpdateRule) -> None:
        """One update by the rule. Starts without gradients and leaves none."""
        updater: Updater[torch.Tensor, None] = Updater(rule)
        updater.update(
            self._batch, self._run_pass, parameters=self.parameters, optimizers=[self._optimizer]
        )
        self._optimizer.zero_grad(set_to_none=True)

    def synchronize(self) -> None:
        """Waits for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def _run_pass(self, batch: torch.Tensor) -> None:
        self._optimizer.zero_grad(set_to_none=True)
        self._model(input_ids=batch, labels=batch, use_cache=False).loss.backward()
        self._optimizer.step()
