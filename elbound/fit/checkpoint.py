"""Save and resume a fit: weights, optimiser and step in one safetensors file, written beside and renamed.

The randomness of a step is a function of the seed and the step (`loop.py`), so no random state is needed
and a resumed run reaches the same weights as an uninterrupted one.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from elbound.bundle.files import replace_file
from elbound.errors import FitError


@dataclass(frozen=True)
class Checkpoint:
    """Where a fit stands: `step` steps are done, `skipped` of them without an update.

    `fingerprint` names the data and the settings.
    """

    fingerprint: str
    step: int
    skipped: int
    history: list[dict[str, float]]
    tensors: dict[str, Tensor]


def save_checkpoint(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    step: int,
    skipped: int,
    fingerprint: str,
    history: list[dict[str, float]],
) -> None:
    """Write atomically: after a kill at any moment the file is the old one or the new one.

    Raises FitError where the disk does not take it.
    """
    tensors = {f"model.{name}": value.detach() for name, value in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state[parameter].items():
            tensors[f"optimizer.{key}.{name}"] = value.detach()
    metadata = {"fingerprint": fingerprint, "step": str(step), "skipped": str(skipped), "history": json.dumps(history)}
    data = save({name: value.cpu().contiguous() for name, value in tensors.items()}, metadata)
    try:
        replace_file(path, data)
    except OSError as error:
        raise FitError(
            f"the checkpoint {path} could not be written: {error.strerror or error}", where=str(path)
        ) from error


def load_checkpoint(path: Path) -> Checkpoint:
    """Raises FitError where the file is missing or torn."""
    if not path.exists():
        raise FitError(f"there is no checkpoint {path} to resume; train without --resume", where=str(path))
    try:
        with safe_open(path, "pt") as file:
            metadata: Mapping[str, str] = file.metadata()
            return Checkpoint(
                fingerprint=metadata["fingerprint"],
                step=int(metadata["step"]),
                skipped=int(metadata["skipped"]),
                history=json.loads(metadata["history"]),
                tensors={name: file.get_tensor(name) for name in file.keys()},  # noqa: SIM118 - not a dict
            )
    except (SafetensorError, KeyError, ValueError, OSError, TypeError) as error:
        raise FitError(f"{path} is not a readable checkpoint: {error}", where=str(path)) from error


def restore(checkpoint: Checkpoint, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Put weights and optimiser state back; raises FitError where they do not fit the model."""
    weights = {name[6:]: value for name, value in checkpoint.tensors.items() if name.startswith("model.")}
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise FitError(f"the checkpoint is of another model: {error}") from error
    for name, parameter in model.named_parameters():
        state = {}
        for tensor_name, value in checkpoint.tensors.items():
            kind, _, rest = tensor_name.partition(".")
            key, _, owner = rest.partition(".")
            if kind == "optimizer" and owner == name:
                state[key] = value if key == "step" else value.to(parameter.device)
        optimizer.state[parameter].update(state)
