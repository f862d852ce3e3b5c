"""What the environment must not have."""

import importlib
import importlib.util


def check_torchvision() -> None:
    """Imports torchvision, if it is there, before transformers does.

    Raises:
        ImportError: If it does not match torch, with what mends it. transformers would say that
            LlamaForCausalLM cannot be imported.
    """
    if importlib.util.find_spec("torchvision") is None:
        return
    try:
        importlib.import_module("torchvision")
    except Exception as error:
        raise ImportError(
            "torchvision is installed but does not match torch, which breaks transformers; run "
            f"`pip uninstall -y torchvision torchaudio torchcodec` ({type(error).__name__})"
        ) from error
