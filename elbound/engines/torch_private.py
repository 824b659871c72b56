"""The only use of private names of torch. Without them a detector has no trace, and small batches take longer."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


def graph_of(module: nn.Module, x: Tensor) -> Callable[[Tensor], Tensor]:
    """The operations of `module` on `x` as one function, with its tensors as constants.

    It does what `torch.jit.freeze(torch.jit.trace(...))` does, but its memory is freed with the function: torch's own
    would stay registered with the process, 12 MB for a detector of 32 columns, each time that a version is swapped in
    (pytorch issue 35600). Raises ImportError or AttributeError where this torch does not have what it uses.
    """
    from torch.jit._trace import _get_trace_graph, _unique_state_dict

    graph, _ = _get_trace_graph(module, (x,))
    inputs, first = list(graph.inputs()), next(iter(graph.nodes()))
    tensors = _unique_state_dict(module, keep_vars=True).values()
    for place, tensor in zip(inputs[1:], tensors, strict=True):
        constant = graph.create("prim::Constant")
        constant.t_("value", tensor.detach())
        constant.insertBefore(first)
        place.replaceAllUsesWith(constant.output())
    for place in range(len(inputs) - 1, 0, -1):
        graph.eraseInput(place)
    torch._C._jit_pass_constant_propagation(graph)
    torch._C._jit_pass_optimize_frozen_graph(graph, True)
    function: Callable[[Tensor], Tensor] = torch._C._create_function_from_graph("score", graph)
    return function
