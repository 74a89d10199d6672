"""Names that settings and options are chosen from. Without torch, so that the command line shows them at once."""

from __future__ import annotations

import re
from typing import Literal

DEVICE = re.compile(r"auto|cpu|cuda(?::(0|[1-9][0-9]*))?")
"""A device's whole name; its group is the number of a GPU, None where none is given."""
DEVICES = "auto, cpu, cuda or cuda:N"
"""The same for people."""

Precision = Literal["fp32", "bf16", "fp16"]
"""Number format of a network."""

BackendName = Literal["auto", "torch", "torchsparse", "triton"]
"""Implementation of the sparse convolution; auto: what works best."""

Peer = Literal["auto", "none", "unfolded", "spconv", "torchsparse"]
"""What is timed beside a network: itself as in training, as its authors run it (auto: if installed), on torchsparse."""

Variant = Literal["paper", "authors"]
"""Of the distillation: equations of the paper, or of its authors' code."""

Definition = Literal["benchmark", "semantic-kitti-api", "authors"]
"""How scores are counted.

Class 0 is ignored where it is the label; a labelled point predicted as nothing (0 or 255) is, by definition:

benchmark: a miss of its class. The mean is over the classes that are labelled or predicted somewhere, accuracy over all
    labelled points. nuScenes' devkit counts so, and semantic-kitti-api wherever no class is absent.
semantic-kitti-api: a miss, too. But an absent class counts 0 in the mean, and accuracy leaves such points out.
authors: left out, as in the code of 2DPASS, which so never counts a point outside the volume.
"""

BenchmarkKind = Literal["semantickitti", "nuscenes"]
"""Form of data that has a benchmark, to which labels of a test set are submitted."""
