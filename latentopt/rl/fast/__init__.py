"""Refinement of a few actions in NumPy, where calls and not arithmetic are the cost.

`latentopt.rl.refine` comes here for critics that are chains of linear layers and ReLUs on the CPU: values and gradients
are in closed form, and gradient ascent, Adam and soft gates have steps on arrays. Nothing outside knows of it.
"""
