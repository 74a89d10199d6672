"""The same labels on a CPU and on a GPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from twodpass_core.classes import UNLABELLED
from twodpass_core.pretrained import default_weights
from twodpass_core.segmenter import Segmenter
from twodpass_core.simulation import STREET_SEED, simulate_scans


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("backend", ["torch", "auto"])
def test_a_gpu_gives_the_labels_of_a_cpu(backend: str) -> None:
    """In float32, without TF32: more than 99.9 % of a whole scan of a simulated street."""
    points = next(simulate_scans(1, STREET_SEED)).points
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        on_gpu, on_cpu = (
            Segmenter.from_weights(default_weights(), device, backend=name).segment(points, return_scores=True)
            for device, name in (("cuda", backend), ("cpu", "torch"))
        )
    finally:
        torch.set_float32_matmul_precision(before)
    answered = on_cpu.class_id != UNLABELLED
    assert np.array_equal(on_gpu.class_id != UNLABELLED, answered)
    assert (on_gpu.class_id == on_cpu.class_id)[answered].mean() >= 0.999
    assert on_gpu.scores is not None
    assert on_cpu.scores is not None
    assert np.abs(on_gpu.scores - on_cpu.scores).mean() < 1e-3
