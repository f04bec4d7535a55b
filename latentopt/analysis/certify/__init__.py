"""The exact optimum of small networks, or how far it can be: branch and bound, and mixed-integer programs."""

from __future__ import annotations

from latentopt.analysis.certify.answer import Method, certify
from latentopt.analysis.certify.certificate import Certificate, Status
from latentopt.analysis.certify.robust import certify_robustness

__all__ = ["Certificate", "Method", "Status", "certify", "certify_robustness"]
