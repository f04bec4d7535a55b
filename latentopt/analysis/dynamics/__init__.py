"""How raw gradient ascent moves the input of a ReLU network, and how well that is foretold (arXiv 2205.15130)."""

from __future__ import annotations

from latentopt.analysis.dynamics.compare import Dynamics, compare_dynamics, joined
from latentopt.analysis.dynamics.confidence import Amplification, amplification
from latentopt.analysis.dynamics.hessian import Eigenpairs, hessian_vector, input_hessian_eigs
from latentopt.analysis.dynamics.modes import growth
from latentopt.analysis.dynamics.predict import predict_perturbation

__all__ = [
    "Amplification",
    "Dynamics",
    "Eigenpairs",
    "amplification",
    "compare_dynamics",
    "growth",
    "hessian_vector",
    "input_hessian_eigs",
    "joined",
    "predict_perturbation",
]
