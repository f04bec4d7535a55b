from __future__ import annotations

import numpy as np
import pytest
from local_data import local_data
from nets import refuses

gymnasium = pytest.importorskip("gymnasium")
sb3 = pytest.importorskip("stable_baselines3")

from benchmarks.returns import returns  # noqa: E402
from benchmarks.statistics import bootstrapped  # noqa: E402
from benchmarks.train_rl import train_rl as bench_train_rl  # noqa: E402


def test_the_bootstrap_interval():
    values = np.random.default_rng(1).normal(2.0, 1.0, 200)
    found = bootstrapped(values.tolist())
    assert found.mean == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx(
        (found.mean - 1.96 * found.error, found.mean + 1.96 * found.error), abs=0.02
    )
    assert bootstrapped([1.0]).low == -np.inf
    assert bootstrapped([2.0, 2.0]).low == 2


@pytest.mark.slow
def test_bench_train_rl(tmp_path):
    settings = {"algorithms": "ddpg", "refinements": "gradient-ascent", "steps": 120, "quick": True}
    written = bench_train_rl(**settings, out=str(tmp_path))
    assert written.markdown.count("gradient-ascent") == 2
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "trained").iterdir()}
    assert len(times) == 4
    with refuses("out"):
        bench_train_rl(**settings, out=str(tmp_path))
    bench_train_rl(**settings, out=str(tmp_path), overwrite=True)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "trained").iterdir()} == times
    with refuses("refinements"):
        bench_train_rl(refinements="cem", out=str(tmp_path / "other"))


def test_bench_returns(tmp_path):
    local_data("rl_sb3/ddpg_LunarLanderContinuous-v2.safetensors")
    pytest.importorskip("Box2D")
    written = returns(quick=True, out=str(tmp_path))
    assert "gradient-ascent" in written.markdown
    with refuses("radii"):
        returns(radii="a", out=str(tmp_path / "other"))
    with refuses("agents"):
        returns(agents="ant", out=str(tmp_path / "other"))
