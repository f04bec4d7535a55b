"""StyleGAN2 (Karras et al. 2020, arXiv 1912.04958): the generator, its checkpoints, its latent spaces, its training."""

from __future__ import annotations

from latentopt.zoo.stylegan2.bilinear import BilinearStyleGAN2
from latentopt.zoo.stylegan2.network import Discriminator, StyleGAN2
from latentopt.zoo.stylegan2.spaces import InSpace, Space, in_space

__all__ = ["BilinearStyleGAN2", "Discriminator", "InSpace", "Space", "StyleGAN2", "in_space"]
