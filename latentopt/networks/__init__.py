"""Frozen networks: wrapped generators and classifiers."""

from latentopt.networks.checks import NetworkWarning
from latentopt.networks.classifier import Classifier

__all__ = ["Classifier", "NetworkWarning"]
