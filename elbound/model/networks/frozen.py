"""What a frozen, pretrained network sees in a photograph: its patches and the whole."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from elbound.model.networks.features import FeatureNet, input_shape, map_channels, map_shape
from elbound.schema import ImageSchema

FIT_IMAGES = 512
CHUNK = 16
MAX_FEATURE = 50.0


class FrozenFeatures(nn.Module):
    """Patches and the whole of an image in features of EfficientNet-Lite0: flat, `(n, places * 176 + 320)`.

    Places run row by row. At each of them stand the maps of blocks 2, 4 and 10, brought to one resolution and
    standardised by channel over training images (`local`), and at the end the last block's mean over places as
    it is (`deep`). The weights come from the extra `features` when the scales are learned, and from the bundle later.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, schema: ImageSchema) -> None:
        super().__init__()
        self.input_shape, self.map_shape = input_shape(schema), map_shape(schema)
        self.places = self.map_shape[0] * self.map_shape[1]
        self.bytes_a_value = 1 if schema.bits == 8 else 257
        self.net = FeatureNet()
        self.register_buffer("mean", torch.zeros(map_channels()))
        self.register_buffer("scale", torch.ones(map_channels()))

    def learn(self, x: Tensor) -> None:
        """Load the pretrained weights; learn the channels' scales from at most 512 images. Raises MissingExtra."""
        self.net.load_pretrained()
        some = x[torch.linspace(0, len(x) - 1, min(len(x), FIT_IMAGES)).long()]
        sums = torch.zeros(2, map_channels(), dtype=torch.float64)
        for chunk in some.split(CHUNK):
            local = self.features(chunk)[0].double()
            sums += torch.stack([local.sum((0, 1)), local.square().sum((0, 1))]) / (len(some) * self.places)
        spread = (sums[1] - sums[0].square()).clamp(min=0).sqrt()
        self.mean.copy_(sums[0])
        self.scale.copy_(spread.clamp(min=max(1e-3, 0.1 * float(spread.mean()))))

    def forward(self, x: Tensor) -> Tensor:
        local, deep = self.features(x)
        standard = ((local - self.mean) / self.scale).clamp(-MAX_FEATURE, MAX_FEATURE)
        return torch.cat([standard.flatten(1), deep], 1)

    @torch.no_grad()
    def features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Local features `(n, places, 176)` and deep ones `(n, 320)` of events `(n, channels, height, width)`."""
        pixels = x.float().expand(-1, 3, -1, -1) / self.bytes_a_value
        if pixels.shape[-2:] != self.input_shape:
            pixels = functional.interpolate(pixels, self.input_shape, mode="bilinear", antialias=True)
        maps, deep = self.net(((pixels - 127) / 128).contiguous(memory_format=torch.channels_last))
        fine, middle, coarse = maps
        coarse = functional.interpolate(coarse, self.map_shape, mode="bilinear")
        local = torch.cat([functional.avg_pool2d(fine, 2), middle, coarse], 1)
        return local.flatten(2).mT.contiguous(), deep
