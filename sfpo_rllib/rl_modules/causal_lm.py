"""A transformers causal language model as an RLModule."""

import contextlib
import logging
from collections.abc import Collection
from typing import Any, Self

import torch
from ray.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule
from ray.rllib.utils.annotations import override
from ray.rllib.utils.typing import StateDict
from torch.distributed.device_mesh import DeviceMesh
from transformers import PreTrainedModel

from sfpo_rllib.checkpoints import SavedAsTensors
from sfpo_rllib.core.step_guard import require_finite
from sfpo_rllib.rl_modules.loading import (
    fill,
    frozen_copy,
    is_read_once,
    load_model,
    read_once,
)
from sfpo_rllib.rl_modules.lora import adapter_weights, add_lora, cast_base, without_adapter
from sfpo_rllib.rl_modules.model_settings import MODEL_CONFIG_KEYS
from sfpo_rllib.rl_modules.packing import (
    PACKED_ATTENTION,
    PACKED_SDPA,
    is_packed,
    leave_packing,
    packed_inputs,
)
from sfpo_rllib.rl_modules.sharding import gather, load, own_device, shard_module
from sfpo_rllib.rl_modules.token_logprobs import logprobs_of_logits, token_logprobs
from sfpo_rllib.rl_modules.weights import DTYPES, differing, pack_weights, tied_names

logger = logging.getLogger(__name__)

# Columns of the token batch, each of shape (B, T) unless said otherwise.
INPUT_IDS = "input_ids"  # int32
ATTENTION_MASK = "attention_mask"  # bool; True on tokens, which stand on the left
LOSS_MASK = "loss_mask"  # True on tokens the policy produced
BEHAVIOUR_LOGP = "behaviour_logp"  # the engine's log-probs of those tokens: rollout log-probs
ADVANTAGES = "advantages"  # (B,)
NUM_TURNS = "num_turns"  # of the episode, (B,), where the loss needs them
WEIGHTS_VERSION = "weights_version"  # of those that sampled it, (B,), where it may be an older one
REFERENCE_LOGP = "reference_logp"  # where there is a reference

# What the forward pass returns, each of shape (B, T), at the position of the token itself.
LOGP = "logp"
ENTROPY = "entropy"

ADDED_BY_CONFIG = {
    "temperature": 1.0,  # divides the logits, as in sampling
    "holds_reference": False,  # the model as it was loaded: a frozen copy, or the adapter off
}


class CausalLMModule(TorchRLModule, SavedAsTensors):
    """Any transformers causal LM, trained in float32 masters and computed in `dtype`.

    With `dtype="bfloat16"` the forward pass runs under autocast, while weights, gradients and
    optimizer stay float32: at the learning rates of RL an AdamW step is below half a unit in the
    last place of a bfloat16 weight and would be lost.

    With `lora` an adapter is trained, and weights and states are the adapter's alone. The model it
    is added to is held in `dtype`.

    `model_config` takes the fields of `ModelSettings`; the algorithm's config adds those of
    `ADDED_BY_CONFIG`.
    """

    @override(TorchRLModule)
    def setup(self) -> None:
        # RLModuleSpec.build() swallows an AttributeError raised in here and tries an old
        # constructor instead, which hides the cause.
        try:
            self._setup()
        except AttributeError as error:
            raise RuntimeError(f"CausalLMModule could not be set up: {error}") from error

    def _setup(self) -> None:
        config = {**MODEL_CONFIG_KEYS, **ADDED_BY_CONFIG, **self.model_config}
        self.compute_dtype = DTYPES[config["dtype"]]
        self.temperature = float(config["temperature"])
        attention = config["attn_implementation"]
        self._unpacked_attention = attention
        self.packing = config["packing"] is True or (
            config["packing"] == "auto" and attention in PACKED_ATTENTION
        )
        if self.packing:
            attention = PACKED_ATTENTION[attention]
        # A setup() of the user's own may look at the weights.
        self.is_read_once = is_read_once() and type(self).setup is CausalLMModule.setup
        with contextlib.nullcontext() if self.is_read_once else read_once(is_first=None):
            self.lm: PreTrainedModel = load_model(config, attention)
        kinds = sorted({str(p.dtype) for p in self.lm.parameters() if p.dtype != torch.float32})
        if kinds:
            raise ValueError(
                f"model_config['model']={config['model']!r}: must have weights that can be trained "
                f"in float32, and some are {', '.join(kinds)}: it is quantized"
            )
        # transformers checkpoints activations in train mode only.
        self._needs_train_mode = bool(config["gradient_checkpointing"])
        if self._needs_train_mode:
            self.lm.gradient_checkpointing_enable({"use_reentrant": False})
            _zero_dropout(self.lm)
        self.lora: dict[str, Any] | None = config["lora"]
        self.holds_reference = bool(config["holds_reference"])
        if self.lora is not None:
            add_lora(self.lm, self.lora)
        # No part of `weights`: it is loaded with the model, never saved.
        self.reference: PreTrainedModel | None = None
        if self.holds_reference and self.lora is None:
            self.reference = frozen_copy(self.lm, self.compute_dtype)
        # Of a sharded module, between gather_weights() and release_weights().
        self._gathered: dict[str, torch.Tensor] | None = None
        self.is_sharded = False
        self.train()
        self._head_is_all = False
        if self.lm.device.type != "meta":
            if attention == PACKED_SDPA:
                self.packing = is_packed(self.lm, config["packing"])
            self._head_is_all = _head_is_all(self.lm)
            if not self._head_is_all:
                logger.warning(
                    "%s makes its logits by more than its output layer: they are held whole in "
                    "training, which takes more memory.",
                    type(self.lm).__name__,
                )
        self._settle_packing()
        if self.lora is not None:  # after the checks, which compare in float32
            cast_base(self.lm, self.compute_dtype)

    @property
    def shares_prompts(self) -> bool:
        """Whether sequences of a micro-batch with the same prompt have it computed once."""
        return self.packing and self.lm.config._attn_implementation == PACKED_SDPA

    def fill(self, device: torch.device) -> None:
        """Moves the module to a device, with the weights that the first process has read.

        Collective; for a module that `is_read_once`.
        """
        self._agree(device)
        fill(self, device)

    def _agree(self, device: torch.device) -> None:
        """What the first process has found out of the model, and others could not. Collective."""
        found = torch.tensor([int(self._head_is_all), int(self.packing)], device=device)
        torch.distributed.broadcast(found, src=0)
        self._head_is_all, self.packing = map(bool, found.tolist())
        self._settle_packing()

    def _settle_packing(self) -> None:
        if not self.packing:
            leave_packing((self.lm, self.reference), self._unpacked_attention)

    @override(TorchRLModule)
    def train(self, mode: bool = True) -> Self:
        # RLlib turns train mode on for every forward_train(), which walks through all layers.
        wanted = mode and self._needs_train_mode
        if (self.training, self.lm.training) == (mode, wanted):
            return self
        # Dropout would make log-probs differ from the engine's at equal weights.
        super().train(mode)
        self.lm.train(wanted)
        if self.reference is not None:
            self.reference.eval()
        return self

    @override(TorchRLModule)
    def _forward_train(
        self, batch: dict[str, torch.Tensor], **kwargs: Any
    ) -> dict[str, torch.Tensor]:
        """Log-probs and entropies of the tokens in `batch` that the policy produced.

        Args:
            batch: `input_ids` and `attention_mask`, (B, T), padded on the right; `loss_mask`,
                (B, T).
            kwargs: Forward compatibility.

        Returns:
            `logp` and `entropy` (nats) of each token given those before it, float32, (B, T), 0
            where `loss_mask` is False. Both carry gradients.
        """
        return self._score(self.lm, batch)

    @torch.no_grad()
    def reference_logp(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """`logp` of `forward_train` under the reference, shape (B, T), without gradient.

        Raises:
            ValueError: If the module holds no reference.
        """
        if not self.holds_reference:
            raise ValueError("holds_reference=False: must be True for log-probs of a reference")
        if self.reference is not None:
            return self._score(self.reference, batch)[LOGP]
        with without_adapter(self.lm):
            return self._score(self.lm, batch)[LOGP]

    def _score(
        self, lm: PreTrainedModel, batch: dict[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        head = lm.get_output_embeddings() if self._head_is_all else None
        ids = batch[INPUT_IDS]
        trained = batch[LOSS_MASK][:, 1:]  # nothing predicts the first token
        targets = ids[:, 1:][trained]
        if self.packing:
            tokens, mask = batch[ATTENTION_MASK].bool(), batch[LOSS_MASK]
            prompt_lens = mask.int().argmax(dim=1) if self.shares_prompts else None
            inputs, packed = packed_inputs(ids, tokens, prompt_lens)
            predicting: Any = (0, packed[:, :-1][trained])
        else:
            predicting = torch.nn.functional.pad(trained, (0, 1))
            # Padding stands on the right, where causal attention never looks from a token that
            # counts. Without a mask the fast attention kernels can be used.
            inputs = {"input_ids": ids}
        with self._autocast(ids.device):
            model = lm if head is None else lm.base_model
            output = model(**inputs, use_cache=False)[0][predicting]
        if head is None:  # they are logits
            logp, entropy = logprobs_of_logits(output, targets, temperature=self.temperature)
        else:
            logp, entropy = token_logprobs(
                output,
                head.weight,
                targets,
                bias=head.bias,
                temperature=self.temperature,
                compute_dtype=self.compute_dtype,
            )

        def at_tokens(values: torch.Tensor) -> torch.Tensor:
            spread = values.new_zeros(trained.shape).masked_scatter(trained, values)
            return torch.nn.functional.pad(spread, (1, 0))

        return {LOGP: at_tokens(logp), ENTROPY: at_tokens(entropy)}

    def _autocast(self, device: torch.device) -> contextlib.AbstractContextManager[Any]:
        if self.compute_dtype.itemsize >= 4:
            return contextlib.nullcontext()
        return torch.autocast(device.type, dtype=self.compute_dtype)

    def shard(self, mesh: DeviceMesh) -> None:
        """Shards the parameters by FSDP2, and moves them to the devices of a mesh.

        From then on forward passes are collective, and the weights must be gathered to be read.
        """
        if self.is_read_once:
            self._agree(own_device(mesh))
        shard_module(
            self,
            [self.lm] if self.reference is None else [self.lm, self.reference],
            mesh,
            compute_dtype=self.compute_dtype,
            forward_methods=["forward_train", "reference_logp"],
            fills=self.is_read_once,
        )
        self.is_sharded = True

    def gather_weights(self, *, for_engines: bool = False) -> None:
        """Holds the whole weights in host memory, on the first process. Collective.

        Args:
            for_engines: In the compute dtype, for `get_state(inference_only=True)` alone.
        """
        dtype = self.compute_dtype if for_engines else None
        self._gathered = gather(self._own_weights(), dtype)

    def release_weights(self) -> None:
        """Lets go of what `gather_weights` holds."""
        self._gathered = None

    def weights(self) -> dict[str, torch.Tensor]:
        """The float32 masters under transformers' names, tied ones under every name they have.

        With `lora` the adapter's, under the names of peft's files.

        Raises:
            RuntimeError: If they are sharded and have not been gathered.
        """
        if not self.is_sharded:
            return self._own_weights()
        if self._gathered is None:
            raise RuntimeError(
                "the weights are sharded over the learners; ask the learner group for them, which "
                "gathers them first"
            )
        return self._gathered

    def own_weights(self) -> dict[str, torch.Tensor]:
        """The tensors themselves, tied ones once: shards, if the module is sharded."""
        return self._unique(self._own_weights())

    def _own_weights(self) -> dict[str, torch.Tensor]:
        if self.lora is not None:
            return adapter_weights(self.lm)
        return {name: tensor.detach() for name, tensor in self.lm.state_dict().items()}

    def _unique(self, weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Tied weights once, under the name transformers loads them from."""
        tied = tied_names(self.lm)
        return {name: tensor for name, tensor in weights.items() if name not in tied}

    @override(TorchRLModule)
    def get_state(
        self,
        components: str | Collection[str] | None = None,
        *,
        not_components: str | Collection[str] | None = None,
        inference_only: bool = False,
        **kwargs: Any,
    ) -> StateDict:
        """The masters as numpy arrays, or with `inference_only` what the engines load.

        Raises:
            FloatingPointError: If engines would load weights that are not finite.
        """
        tensors = self._unique(self.weights())
        if inference_only:
            buffers = {name for name, _ in self.lm.named_buffers()}  # may be masks of -inf
            require_finite({name: t for name, t in tensors.items() if name not in buffers})
            return pack_weights(tensors, self.compute_dtype)
        return {name: tensor.cpu().numpy().copy() for name, tensor in tensors.items()}

    @override(TorchRLModule)
    def set_state(self, state: StateDict) -> None:
        """Loads a state from `get_state()`.

        Raises:
            ValueError: If a weight is missing, unknown, or of another shape.
        """
        own = self.own_weights()
        if wrong := differing(own, state):
            raise ValueError(
                f"module state: {len(wrong)} weights missing, unknown or of another shape, "
                f"e.g. {wrong[:3]}; it must come from the same model"
            )
        for name, tensor in own.items():
            load(tensor, state[name])


def for_models(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A micro-batch with ids and mask as models want them, int64; they are held smaller."""
    names = [name for name in (INPUT_IDS, ATTENTION_MASK) if name in batch]
    return {**batch, **{name: batch[name].long() for name in names}}


def forward_train(module: TorchRLModule, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The outputs of a module's `forward_train`, which may be a class of the user's own.

    Raises:
        ValueError: If they are not `logp` and `entropy`, one of each a token.
    """
    outputs = module.forward_train(for_models(batch))
    shape = batch[INPUT_IDS].shape
    for name in (LOGP, ENTROPY):
        given = outputs[name].shape if name in outputs else None
        if given != shape:
            raise ValueError(
                f"rl_module_spec={type(module.unwrapped()).__name__}: forward_train() must return "
                f"{name!r} of each token, shape {tuple(shape)}, as CausalLMModule's does; "
                + (f"it returned {sorted(outputs)}" if given is None else f"got {tuple(given)}")
            )
    return outputs


@torch.no_grad()
def _head_is_all(lm: PreTrainedModel) -> bool:
    """Whether logits are nothing but the output layer on the backbone's last hidden states.

    Some models scale, cap or project them further; a few tokens show it, whatever the config says.
    """
    head = lm.get_output_embeddings()
    if type(head) is not torch.nn.Linear or lm.base_model is lm:
        return False
    ids = torch.arange(min(8, head.out_features), device=head.weight.device).unsqueeze(0)
    attention = lm.config._attn_implementation
    lm.set_attn_implementation("eager")  # flash kernels need the device that comes later
    hidden = lm.base_model(input_ids=ids, use_cache=False).last_hidden_state
    same = torch.equal(head(hidden), lm(input_ids=ids, use_cache=False).logits)
    lm.set_attn_implementation(attention)
    return same


def _zero_dropout(model: torch.nn.Module) -> None:
    """Sets every dropout probability to 0, those of layers and those that layers merely keep."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        for name, value in list(vars(module).items()):
            if "drop" in name and isinstance(value, float):
                setattr(module, name, 0.0)
