"""A normalising flow as the prior. Needs the extra `flows`."""

import torch
from torch import Tensor, nn

from elbound.errors import ConfigError, MissingExtra
from elbound.model.priors.base import Prior

TRANSFORMS = 4
HIDDEN = (64, 64)
MAX_LATENTS = 1_024


class Flow(Prior):
    """A neural spline flow of four coupling transformations for each net; `components` is not used.

    Durkan, Bekasov, Murray and Papamakarios, Neural Spline Flows, 2019; as a prior: Chen et al., Variational
    Lossy Autoencoder, 2017. Raises MissingExtra without zuko.
    """

    def __init__(self, nets: int, latent: int, components: int = 1) -> None:
        super().__init__(nets, latent, components)
        try:
            from zuko.flows import NSF
        except ImportError as error:
            raise MissingExtra(
                "the prior 'flow' needs zuko; install it with: pip install 'elbound[flows]'", where="prior"
            ) from error
        if nets * latent > MAX_LATENTS:
            raise ConfigError(
                f"the prior 'flow' takes at most {MAX_LATENTS:,} latents over all nets. Got {nets * latent:,} instead",
                where="prior",
            )
        with torch.device("cpu"):  # also where the rest is only planned: zuko finds its masks by values
            self.flows = nn.ModuleList(
                NSF(latent, transforms=TRANSFORMS, hidden_features=HIDDEN, passes=2) for _ in range(nets)
            )

    def log_prob(self, z: Tensor) -> Tensor:
        return torch.stack([flow().log_prob(part) for flow, part in zip(self.flows, z, strict=True)])

    def kl(self, mu: Tensor, logvar: Tensor) -> None:  # noqa: ARG002 - the contract
        return None
