"""The training of StyleGAN2 (Karras et al. 2020, arXiv 1912.04958), without path length regularisation."""

from __future__ import annotations

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.nn import functional as F

from latentopt.zoo.modules import GAN
from latentopt.zoo.stylegan2.network import Discriminator, StyleGAN2


class StyleGAN2Training(GAN):
    """Non-saturating GAN with lazy R1 regularisation, style mixing and a moving average of the generator.

    Args:
        generator, discriminator: the networks.
        lr: learning rate of both Adams (betas 0, .99), annealed to 0 by a cosine over the training.
        ema: decay of the moving average, per step.
        r1: weight gamma of the R1 penalty (Mescheder et al. 2018, arXiv 1801.04406), gamma / 2 times the squared norm
            of the discriminator's gradient at images.
        r1_interval: steps from one R1 penalty to the next, which its weight is multiplied by.
        mixing: share of steps whose images have a second style from a random layer on.
    """

    generator: StyleGAN2  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(
        self,
        generator: StyleGAN2,
        discriminator: Discriminator,
        lr: float = 2e-3,
        ema: float = 0.999,
        r1: float = 1.0,
        r1_interval: int = 16,
        mixing: float = 0.5,
    ) -> None:
        super().__init__(generator, discriminator, generator.style_size, lr, ema)
        self.r1, self.r1_interval, self.mixing = r1, r1_interval, mixing

    def _fakes(self, count: int) -> Tensor:
        """Generate images with noise, and styles that may be mixed."""
        network = self.generator
        if not torch.rand(()) < self.mixing:
            return network(self._latents(count))
        first, second = network.style(self._latents(2 * count)).chunk(2)
        is_first = torch.arange(network.layers, device=self.device) < torch.randint(1, network.layers, ()).item()
        w = torch.where(is_first[:, None], first[:, None], second[:, None])
        return network.synthesis(w, network.random_noise(w))

    def _penalty(self, real: Tensor) -> Tensor:
        """R1 of the discriminator at images (B, C, H, W)."""
        real = real.detach().requires_grad_()
        (grad,) = torch.autograd.grad(self.discriminator(real).sum(), real, create_graph=True)
        return self.r1 / 2 * grad.square().flatten(1).sum(1).mean()

    def training_step(self, batch: list[Tensor], index: int) -> None:
        for_generator, for_discriminator = self.optimizers()  # pyright: ignore[reportGeneralTypeIssues]
        real, fake = 2 * batch[0] - 1, self._fakes(len(batch[0]))
        loss_d = F.softplus(-self.discriminator(real)).mean() + F.softplus(self.discriminator(fake.detach())).mean()
        penalty = self.r1_interval * self._penalty(real) if index % self.r1_interval == 0 else 0.0
        for_discriminator.zero_grad()
        self.manual_backward(loss_d + penalty)
        for_discriminator.step()

        self.discriminator.requires_grad_(False)
        loss_g = F.softplus(-self.discriminator(fake)).mean()
        for_generator.zero_grad()
        self.manual_backward(loss_g)
        for_generator.step()
        self.discriminator.requires_grad_(True)
        for scheduler in self.lr_schedulers():  # pyright: ignore[reportGeneralTypeIssues, reportOptionalIterable]
            scheduler.step()
        self.average.update_parameters(self.generator)
        self.log_dict({"train/generator": loss_g, "train/discriminator": loss_d}, prog_bar=True, on_epoch=True)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        steps = int(self.trainer.estimated_stepping_batches)
        networks = (self.generator, self.discriminator)
        adams = [torch.optim.Adam(net.parameters(), self.lr, betas=(0.0, 0.99)) for net in networks]
        return adams, [torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps) for adam in adams]
