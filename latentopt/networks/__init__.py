"""Frozen networks: wrapped generators and classifiers."""

from latentopt.networks.wrappers import Classifier, NetworkWarning

__all__ = ["Classifier", "NetworkWarning"]
