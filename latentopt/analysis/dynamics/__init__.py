"""Dynamics of raw gradient ascent on the input of a piecewise-linear network, and formulas (arXiv 2205.15130)."""

from __future__ import annotations

from latentopt.analysis.dynamics.comparison import Dynamics, compare_dynamics, concatenate
from latentopt.analysis.dynamics.gradient_amplification import Amplification, amplification
from latentopt.analysis.dynamics.hessian import Eigenpairs, hessian_vector, input_hessian_eigs
from latentopt.analysis.dynamics.prediction import predict_perturbation
from latentopt.analysis.dynamics.quadratic import growth

__all__ = [
    "Amplification",
    "Dynamics",
    "Eigenpairs",
    "amplification",
    "compare_dynamics",
    "concatenate",
    "growth",
    "hessian_vector",
    "input_hessian_eigs",
    "predict_perturbation",
]
