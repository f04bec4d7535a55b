"""Why a network is easy or hard to optimise over: perturbation dynamics, capped ReLUs, regions, exact optima."""
