"""Read and drive the gates of any torch module, unchanged: a function mode intercepts each activation.

A *site* is one call of an elementwise piecewise-linear activation during a forward pass, in call order; a module used
twice makes two sites. Each is ``slope h + offset + sum_k jump_k relu(h - kink_k)``, h its pre-activation (rows, *site):
ReLU, LeakyReLU, PReLU, RReLU and abs have one kink, ReLU6, hardtanh, hardsigmoid and clamp two. A kink is a *switch*:
its pre-activation is ``z = h - kink``, its gate multiplies z where the ReLU would be. Max pooling has no site: its gate
is the place of the maximum.
"""

from __future__ import annotations

from latentopt.gates.activations import Activation
from latentopt.gates.mode import Network, OnGates, Site, count_sites, has_gates, preactivations, require_gates, sites
from latentopt.gates.norms import Norms, row_norms
from latentopt.gates.soft import soft_backward, uncapped_backward
from latentopt.gates.surrogate import Dual, Switch, dual

__all__ = [
    "Activation",
    "Dual",
    "Network",
    "Norms",
    "OnGates",
    "Site",
    "Switch",
    "count_sites",
    "dual",
    "has_gates",
    "preactivations",
    "require_gates",
    "row_norms",
    "sites",
    "soft_backward",
    "uncapped_backward",
]
