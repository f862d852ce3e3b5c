"""What an engine is to hold on its device, and what that takes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

GB = 10**9
USABLE = 0.95  # of a device; the rest is for the CUDA context and fragmentation


@dataclass(frozen=True)
class EngineLoad:
    """What an engine is to hold, and on what.

    Attributes:
        context: Tokens of the longest sequence.
        reply_tokens: Of the longest reply.
        num_sequences: No more are asked for at once.
        gpu_share: The fraction of a GPU that it is given.
        settings: The user's `engine_kwargs`.
        weights: Bytes of the model in the compute dtype.
        kv_bytes_per_token: Keys and values of one token in all layers.
        on_gpu: Whether its device is a GPU.
        device: Bytes of its device; None if that is not known here.
    """

    context: int
    reply_tokens: int
    num_sequences: int
    gpu_share: float
    settings: Mapping[str, Any]
    weights: int = 0
    kv_bytes_per_token: int = 0
    on_gpu: bool = False
    device: int | None = None

    @property
    def usable(self) -> int | None:
        """Bytes of its device, without what is not for use; None if that is not known here."""
        return self.device and int(USABLE * self.device)


@dataclass(frozen=True)
class EngineMemory:
    """Bytes on each device of one engine.

    Attributes:
        weights: In the compute dtype, a share of them under tensor parallelism.
        kv_cache: For keys and values; None if that is not known.
        kv_bytes_per_token: Keys and values of one token.
        limit: What it may use; None if that is not known.
        keeps_cache: Whether the cache is there while nothing is sampled.
    """

    weights: int
    kv_cache: int | None
    kv_bytes_per_token: int
    limit: int | None
    keeps_cache: bool = True

    @property
    def peak(self) -> int:
        """The most at once."""
        return self.weights + (self.kv_cache or 0)

    @property
    def resident(self) -> int:
        """What is there while nothing is sampled."""
        return self.peak if self.keeps_cache else self.weights

    @property
    def cached_tokens(self) -> int | None:
        """Tokens that the cache holds; None if that is not known."""
        return None if self.kv_cache is None else max(self.kv_cache, 0) // self.kv_bytes_per_token


def in_gb(size: int) -> str:
    """Bytes for people."""
    return f"{size / GB:.{1 if size >= GB or size == 0 else 4}f}"
