"""LightningModules that train generators; what they train is exported as plain modules (`latentopt.zoo.cards`)."""

from __future__ import annotations

import lightning
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn


def annealed_adam(module: lightning.LightningModule, lr: float) -> OptimizerLRScheduler:
    """Adam on a module's parameters, its learning rate annealed from ``lr`` to 0 by a cosine over the training."""
    adam = torch.optim.Adam(module.parameters(), lr)
    steps = int(module.trainer.estimated_stepping_batches)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    return {"optimizer": adam, "lr_scheduler": {"scheduler": cosine, "interval": "step"}}


class VAE(lightning.LightningModule):
    """Variational autoencoder (Kingma and Welling 2014) with Bernoulli likelihood and a standard normal prior.

    Args:
        decoder: latents ``(B, d)`` to images in (0, 1).
        encoder: images to ``(B, 2 d)``, the mean and the log variance of the latents.
        beta: weight of the KL term.
        lr: learning rate of Adam, annealed to 0 by a cosine over the training.
    """

    output_range = (0.0, 1.0)
    exported = {"generator": "decoder", "encoder": "encoder"}  # part of the model to argument

    def __init__(self, decoder: nn.Module, encoder: nn.Module, beta: float = 1.0, lr: float = 1e-3) -> None:
        super().__init__()
        self.decoder, self.encoder = decoder, encoder
        self.beta, self.lr = beta, lr

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        x = batch[0]
        mu, log_var = self.encoder(x).chunk(2, dim=1)
        z = mu + torch.randn_like(mu) * (0.5 * log_var).exp()
        data = F.binary_cross_entropy(self.decoder(z), x, reduction="sum") / len(x)
        kl = 0.5 * (mu.square() + log_var.exp() - 1 - log_var).sum(1).mean()
        self.log_dict({"train/data": data, "train/kl": kl}, prog_bar=True, on_step=False, on_epoch=True)
        return data + self.beta * kl

    def configure_optimizers(self) -> OptimizerLRScheduler:
        return annealed_adam(self, self.lr)

    def networks(self) -> dict[str, nn.Module]:
        """The trained parts by the name they are exported under."""
        return {"generator": self.decoder, "encoder": self.encoder}


class GAN(lightning.LightningModule):
    """Non-saturating GAN (Goodfellow et al. 2014) with the DCGAN settings (Radford et al. 2015, arXiv 1511.06434).

    The exported generator is an exponential moving average of the trained one; its BatchNorm statistics are
    measured anew at the end, over many latents, because those of the average do not belong to its weights.

    Args:
        generator: latents ``(B, latent)`` to images in (-1, 1).
        discriminator: images in [-1, 1] to logits ``(B,)``.
        latent: number of latent values.
        lr: learning rate of both Adams (betas .5, .999), annealed to 0 by a cosine over the training.
        ema: decay of the moving average, per step.
    """

    output_range = (-1.0, 1.0)
    exported = {"generator": "generator"}

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        latent: int = 64,
        lr: float = 2e-4,
        ema: float = 0.999,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.generator, self.discriminator = generator, discriminator
        self.average = AveragedModel(generator, multi_avg_fn=get_ema_multi_avg_fn(ema)).requires_grad_(False)
        self.average.n_averaged += 1  # the initial weights are averaged too
        self.latent, self.lr, self.ema = latent, lr, ema

    def _latents(self, count: int) -> Tensor:
        return torch.randn(count, self.latent, device=self.device)

    def training_step(self, batch: list[Tensor], index: int) -> None:
        for_generator, for_discriminator = self.optimizers()  # pyright: ignore[reportGeneralTypeIssues]
        real = 2 * batch[0] - 1
        fake = self.generator(self._latents(len(real)))
        loss_d = F.softplus(-self.discriminator(real)).mean() + F.softplus(self.discriminator(fake.detach())).mean()
        for_discriminator.zero_grad()
        self.manual_backward(loss_d)
        for_discriminator.step()

        loss_g = F.softplus(-self.discriminator(fake)).mean()
        for_generator.zero_grad()
        self.manual_backward(loss_g)
        for_generator.step()
        for scheduler in self.lr_schedulers():  # pyright: ignore[reportGeneralTypeIssues, reportOptionalIterable]
            scheduler.step()
        self.average.update_parameters(self.generator)
        self.log_dict({"train/generator": loss_g, "train/discriminator": loss_d}, prog_bar=True, on_epoch=True)

    def on_train_end(self) -> None:
        update_bn((self._latents(256) for _ in range(64)), self.average)
        self.average.eval()

    def configure_optimizers(self) -> OptimizerLRScheduler:
        steps = int(self.trainer.estimated_stepping_batches)
        networks = (self.generator, self.discriminator)
        adams = [torch.optim.Adam(net.parameters(), self.lr, betas=(0.5, 0.999)) for net in networks]
        return adams, [torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps) for adam in adams]

    def networks(self) -> dict[str, nn.Module]:
        """The trained parts by the name they are exported under."""
        return {"generator": self.average.module}
