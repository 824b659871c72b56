"""Do the weights of a bundle fit its manifest? Answered from the header of their file, before a tensor is made."""

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import torch
from torch.overrides import TorchFunctionMode

from elbound.bundle.manifest import Manifest
from elbound.detector import Detector, item_values, kept_values
from elbound.errors import BundleCorrupt, BundleError

MAX_HEADER_BYTES = 4 << 20
VALUE_BYTES = 4
BY_SIZE = (torch.empty, torch.zeros, torch.ones, torch.full, torch.randn, torch.eye)

Shapes: TypeAlias = Mapping[str, tuple[int, ...]]


class Planned(TorchFunctionMode):
    """Tensors that are made by their size have it, and no memory: they lie on torch's device `meta`.

    What is made of values is real: it is no larger than they are, and operations on `meta` would import 800 modules,
    which takes 80 MB and half a second or more.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func not in BY_SIZE or kwargs.get("device") is not None:
            return func(*args, **kwargs)
        size = (*args, *args) if func is torch.eye else args[:1] if func is torch.full else args
        return torch.empty(*size, dtype=kwargs.get("dtype"), device="meta")


def tensor_shapes(data: bytes) -> Shapes:
    """The shape of each tensor by name, from the content of a safetensors file.

    The header is bounded before safetensors itself gets it. Raises ValueError, TypeError, KeyError, RecursionError.
    """
    size = int.from_bytes(data[:8], "little")
    if size > MAX_HEADER_BYTES:
        raise ValueError(f"its header has {size:,} bytes; at most {MAX_HEADER_BYTES:,} are read")
    header = json.loads(data[8 : 8 + size])
    return {name: tuple(map(int, one["shape"])) for name, one in header.items() if name != "__metadata__"}


def check_weights(manifest: Manifest, shapes: Shapes, *, file: str, max_bytes: int) -> None:
    """Raise BundleError where the detector takes more than `max_bytes`, BundleCorrupt where `shapes` are not its own.

    Memory is counted twice: for the tensors themselves, which are planned before they are made;
    and for the numbers that one item makes on its way through the widest layer.
    """
    for number, spec in enumerate(manifest.detector.models):
        values = max(item_values(spec, manifest.item), kept_values(spec, manifest.item))
        _check_bytes(values * VALUE_BYTES, f"manifest.json: detector.models.{number} needs", "to score", max_bytes)
    with Planned():
        needed = Detector(manifest.detector, manifest.item).state_dict()
    _check_bytes(sum(one.nbytes for one in needed.values()), "manifest.json: detector needs", "of weights", max_bytes)
    for name in sorted(needed.keys() | shapes.keys()):
        if name not in needed:
            raise BundleCorrupt(f"{file} has {name[:200]}, which its manifest's detector does not have", where=file)
        if name not in shapes:
            raise BundleCorrupt(f"{file} lacks {name[:200]}, which its manifest's detector has", where=file)
        if (wanted := tuple(needed[name].shape)) != shapes[name]:
            raise BundleCorrupt(
                f"{file} has {name[:200]} of shape {shapes[name]}, and the manifest says {wanted}", where=file
            )


def _check_bytes(size: int, what: str, of_what: str, max_bytes: int) -> None:
    if size > max_bytes:
        raise BundleError(
            f"{what} {size:,} bytes {of_what}; at most {max_bytes:,} are allowed (max_bundle_bytes)",
            code="bundle_too_large",
            where="manifest.json",
        )
