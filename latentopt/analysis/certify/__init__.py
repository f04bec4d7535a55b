"""Certified maxima of small networks, by branch and bound and mixed-integer programs."""

from __future__ import annotations

from latentopt._deprecated import old_names
from latentopt.analysis.certify.certificate import Certificate, CertificateStatus
from latentopt.analysis.certify.certification import CertifyMethod, certify, certify_robustness

__all__ = ["Certificate", "CertificateStatus", "CertifyMethod", "certify", "certify_robustness"]
__getattr__ = old_names(__name__)
