"""Where tensors live: `auto`, `cpu` or `cuda`."""

import torch

from elbound.errors import ConfigError


def choose_device(name: str) -> torch.device:
    """`auto` is CUDA where there is one. Raises ConfigError for a device that is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind = name.partition(":")[0]
    if kind not in ("cpu", "cuda"):
        raise ConfigError(f"device must be auto, cpu or cuda. Got {name!r} instead", where="device")
    if kind == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device is cuda, but torch sees no CUDA device here", where="device")
    return torch.device(name)
