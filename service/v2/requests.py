"""The body of an inference: a JSON document, and after it the raw bytes of its binary tensors."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from elbound.errors import DecodeError
from elbound.files.json import load_json
from elbound.files.limits import TableLimits
from elbound.schema import doubled_names, list_names
from service.v2.tensors import DATATYPES, MAX_RANK, MAX_SHOWN, Announced, Tensor, label_of

HEADER_LENGTH = "inference-header-content-length"
"""The header that says how many bytes of a body are JSON where binary tensors follow."""
MAX_LENGTH_DIGITS = 15
MAX_SIDE = 2**53
NOT_OFFERED = ("shared_memory_region", "classification")
"""Parameters that would be passed over to the caller's harm."""


@dataclass(frozen=True)
class WantedOutput:
    """An output that is asked for, and whether as binary data."""

    name: str
    binary: bool


@dataclass(frozen=True)
class InferRequest:
    """What is asked: the `inputs`, and the `outputs`, all of them where that is None."""

    id: str | None
    inputs: tuple[Tensor, ...]
    outputs: tuple[WantedOutput, ...] | None
    binary: bool
    timeout_us: int | None

    def without_inputs(self) -> "InferRequest":
        """What is asked, once its inputs are read."""
        return replace(self, inputs=())


def read_request(body: bytes, header_length: str | None, limits: TableLimits) -> InferRequest:
    """The request of a `body`. Raises DecodeError that names the field, LimitExceeded."""
    text = _json_part(body, header_length)
    found = load_json(text, max_json_depth=limits.max_json_depth, max_bytes=limits.max_bytes)
    document = _object(found, "the body")
    parameters = _parameters(document, "the request")
    inputs = _list(document, "inputs")
    if not inputs:
        raise DecodeError("the request needs inputs", code="request_invalid", where="inputs")
    limits.check(columns=len(inputs))
    raw = memoryview(body)[len(body) if header_length is None else int(header_length) :]
    tensors, used, decoded_bytes = [], 0, 0
    for one in inputs:
        tensor, size = _input(one, raw[used:], limits)
        used += size
        decoded_bytes += tensor.values.nbytes
        limits.check(size=decoded_bytes)
        tensors.append(tensor)
    if used < len(raw):
        raise _invalid(f"{len(raw) - used:,} bytes follow the binary data of the inputs", HEADER_LENGTH)
    _check_doubled([tensor.name for tensor in tensors], "inputs")
    binary = _flag(parameters, "binary_data_output", "the request")
    outputs = [_output(one, binary) for one in _list(document, "outputs")] if "outputs" in document else []
    _check_doubled([output.name for output in outputs], "outputs")
    return InferRequest(
        id=None if document.get("id") is None else _text(document, "id", "the request"),
        inputs=tuple(tensors),
        outputs=tuple(outputs) or None,
        binary=binary,
        timeout_us=_whole(parameters, "timeout", "the request"),
    )


def _json_part(body: bytes, header_length: str | None) -> bytes:
    if header_length is None:
        return body
    if not (header_length.isascii() and header_length.isdigit() and len(header_length) <= MAX_LENGTH_DIGITS):
        raise _invalid(f"{HEADER_LENGTH} must be a whole number. Got {header_length[:40]!r} instead", HEADER_LENGTH)
    if int(header_length) > len(body):
        raise _invalid(f"{HEADER_LENGTH} is {int(header_length):,}; the body has {len(body):,} bytes", HEADER_LENGTH)
    return body[: int(header_length)]


def _input(found: object, raw: memoryview, limits: TableLimits) -> tuple[Tensor, int]:
    """An input, and how many of the `raw` bytes are its own."""
    document = _object(found, "an input")
    name = _text(document, "name", "an input")
    where = label_of(name)
    datatype = _text(document, "datatype", where)
    if datatype not in DATATYPES:
        raise _invalid(f"{where} has datatype {datatype[:40]!r}; known are {', '.join(DATATYPES)}", "datatype")
    announced = Announced(name, _shape(document, where), datatype)
    limits.check(rows=announced.shape[0], size=announced.binary_bytes or 0)
    parameters = _parameters(document, where)
    size = _whole(parameters, "binary_data_size", where)
    if size is None:
        return announced.from_json(document.get("data")), 0
    if document.get("data") is not None:
        raise _invalid(f"{where} has both data and binary_data_size", "data")
    if size > len(raw):
        raise _invalid(
            f"{where} has a binary_data_size of {size:,}; {len(raw):,} bytes are left "
            f"after the JSON of {HEADER_LENGTH} bytes and the inputs before",
            "binary_data_size",
        )
    return announced.from_binary(raw[:size]), size


def _output(found: object, binary: bool) -> WantedOutput:
    document = _object(found, "an output")
    name = _text(document, "name", "an output")
    where = f"output {name[:MAX_SHOWN]!r}"
    parameters = _parameters(document, where)
    return WantedOutput(name, _flag(parameters, "binary_data", where) if "binary_data" in parameters else binary)


def _shape(document: dict[str, object], where: str) -> tuple[int, ...]:
    shape = document.get("shape")
    if not isinstance(shape, list) or not 1 <= len(shape) <= MAX_RANK:
        raise _invalid(f"{where} needs a shape of 1 to {MAX_RANK} sides", "shape")
    if any(type(side) is not int or not 1 <= side <= MAX_SIDE for side in shape):
        raise _invalid(f"{where} needs a shape of whole numbers of at least 1", "shape")
    return tuple(shape)


def _parameters(document: dict[str, object], where: str) -> dict[str, object]:
    """The parameters of `document`; unknown ones are passed over, as the protocol allows."""
    parameters = document.get("parameters")
    if parameters is None:
        return {}
    parameters = _object(parameters, f"parameters of {where}")
    for name in NOT_OFFERED:
        if parameters.get(name):
            raise _invalid(f"{where} has the parameter {name}, which is not offered here", name)
    return parameters


def _flag(parameters: dict[str, object], name: str, where: str) -> bool:
    value = parameters.get(name, False)
    if not isinstance(value, bool):
        raise _invalid(f"{name} of {where} must be true or false", name)
    return value


def _whole(parameters: dict[str, object], name: str, where: str) -> int | None:
    value = parameters.get(name)
    if value is not None and (type(value) is not int or not 0 <= value <= MAX_SIDE):
        raise _invalid(f"{name} of {where} must be a whole number of at least 0", name)
    return value


def _text(document: dict[str, object], name: str, where: str) -> str:
    value = document.get(name)
    if not isinstance(value, str):
        raise _invalid(f"{where} needs a string as its {name}", name)
    return value


def _list(document: dict[str, object], name: str) -> list[object]:
    value = document.get(name) or []
    if not isinstance(value, list):
        raise _invalid(f"{name} must be a list", name)
    return value


def _object(found: object, what: str) -> dict[str, object]:
    if not isinstance(found, dict):
        raise _invalid(f"{what} must be a JSON object", "body")
    return found


def _check_doubled(names: Sequence[str], field: str) -> None:
    doubled = doubled_names(names)
    if doubled:
        raise _invalid(f"{field} are given twice: {list_names(doubled)}", field)


def _invalid(message: str, where: str) -> DecodeError:
    return DecodeError(message, code="request_invalid", where=where)
