"""A format that a CPU is slow in is told, one that it is busy in for a while is not."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from tiny_weights import SMALL_GRID, tiny_card, write_tiny_weights

from twodpass_core import cpu_speed
from twodpass_core.choices import Precision
from twodpass_core.cpu_speed import warn_if_slow
from twodpass_core.segmenter import Segmenter

CPU = torch.device("cpu")


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return write_tiny_weights(tmp_path / "tiny.safetensors", tiny_card(SMALL_GRID))


def test_a_format_that_the_cpu_is_slow_in_is_told_at_every_load(
    weights: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    seconds = {torch.float32: 1.0, torch.float16: 9.0, torch.bfloat16: 0.5}
    monkeypatch.setattr(cpu_speed, "seconds_of_a_product", seconds.__getitem__)
    precisions: tuple[Precision, ...] = ("fp32", "bf16", "fp16", "fp16")
    for precision in precisions:
        Segmenter.from_weights(weights, "cpu", precision)
    warnings = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert warnings == 2 * ["products in float16 take 9 times as long as in float32 on this CPU: choose fp32"]


def test_a_machine_that_is_busy_for_a_while_is_not_slow_in_a_format(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    seconds = {torch.float32: iter([1.0] * 10), torch.bfloat16: iter([9.0] * 8 + [0.5] * 2)}
    monkeypatch.setattr(cpu_speed, "seconds_of_a_product", lambda dtype: next(seconds[dtype]))
    warn_if_slow(torch.bfloat16, CPU)
    assert not caplog.records
