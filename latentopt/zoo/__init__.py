"""The zoo: pretrained models with cards, their architectures and the LightningModules that train them."""
