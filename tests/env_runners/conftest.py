"""What several tests of environments and rollouts need."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_model)


@pytest.fixture
def until() -> Iterator[threading.Event]:
    """What stuck environments wait for."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def bench(tokenizer: Any) -> Callable[..., Any]:
    """Rollouts of environments that are at work in threads."""
    from scripted import Acts, Bench

    def make(num_env_threads: int, env_class: type = Acts, **kwargs: Any) -> Bench:
        # A reply is a function of its request's random stream, as an engine's is.
        return Bench(
            tokenizer,
            lambda request: (str(request.seed % 1000), request.seed % 5 == 0),
            env_class=env_class,
            num_env_threads=num_env_threads,
            **kwargs,
        )

    return make
