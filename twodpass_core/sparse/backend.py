"""The interface behind which implementations of the sparse convolution stand, and the choice among them."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Protocol, get_args

import torch
from torch import Tensor

from twodpass_core.choices import BackendName
from twodpass_core.errors import ConfigError, MissingDependencyError
from twodpass_core.sparse.pyramid import Halving, VoxelLevel

logger = logging.getLogger(__name__)

PREFERRED_ON_CUDA = ("torchsparse", "triton")  # to torch, in this order
CPU = torch.device("cpu")


@dataclass(frozen=True)
class StridedMaps:
    """A backend's own maps between the two levels of a Halving."""

    down: Any  # to the coarse level: the strided convolution
    up: Any  # back to the voxels of the fine level: its inverse, the transposed convolution


class SparseBackend(Protocol):
    """Builds maps, once per level or pair of levels, and convolves with them.

    A map says which kind of convolution it is for. Weights are (K, C_in, C_out): a matrix per offset, in this order.
    """

    name: str

    def build_map(self, level: VoxelLevel) -> Any:
        """For the submanifold 3x3x3 convolution on a level's voxels: source p + k for target p, K = 27.

        Offset k = (dx, dy, dz), each -1..1, at (dx + 1) * 9 + (dy + 1) * 3 + (dz + 1).
        """

    def build_strided_maps(self, halving: Halving) -> StridedMaps:
        """For the 2x2x2 convolution by 2, source 2 p + k for target p, and for its inverse, the other way; K = 8.

        Offset k = (dx, dy, dz), each 0..1, at dx * 4 + dy * 2 + dz, in both.
        """

    def convolve(self, features: Tensor, weight: Tensor, kernel_map: Any, addend: Tensor) -> Tensor:
        """out[target] = addend[target] + sum over offsets k of features[source at k] @ weight[k], where it is occupied.

        Args:
            features: (M_source, C_in).
            weight: (K, C_in, C_out).
            kernel_map: of this backend's `build_map` or `build_strided_maps`.
            addend: (M_target, C_out), or a bias (C_out,).

        Returns:
            (M_target, C_out), with gradients for features, weight and addend.

        Raises:
            ValueError: features or weight are not of this map's sizes.
        """


def check_operands(features: Tensor, weight: Tensor, num_sources: int, num_offsets: int) -> None:
    """Refuse what is not of a map's sizes: kernels would read beyond it.

    Raises:
        ValueError: features or weight have another number of rows or offsets.
    """
    if features.shape[0] != num_sources or weight.shape[0] != num_offsets:
        raise ValueError(
            f"this map is for {num_sources} feature rows and {num_offsets} offsets, "
            f"not {features.shape[0]} and {weight.shape[0]}"
        )


def make_backend(
    name: str, device: torch.device = CPU, dtypes: Sequence[torch.dtype] = (torch.float32,), width: int = 16
) -> SparseBackend:
    """A backend for a device: the one of that name, or with `auto` the first that works there; the log says which.

    All but `torch` are tried on a few voxels first, with features of the types and the width that they will be given:
    others have other kernels.

    Raises:
        ConfigError: there is no such backend, or it does not work on this device.
        MissingDependencyError: its package is not installed.
    """
    if name == "auto":
        return _first_that_works(device, dtypes, width)
    if name == "torch":
        from twodpass_core.sparse.torch_backend import TorchBackend

        return TorchBackend()
    if name == "triton":
        return _make_triton(device, dtypes, width)
    if name == "torchsparse":
        return _make_torchsparse(device, dtypes, width)
    raise ConfigError(f"unknown sparse backend '{name}': choose {', '.join(get_args(BackendName))}")


def _first_that_works(device: torch.device, dtypes: Sequence[torch.dtype], width: int) -> SparseBackend:
    if device.type != "cuda":
        logger.info("sparse backend torch: the others need CUDA, the device is %s", device)
        return make_backend("torch")
    passed_over = []
    for name in PREFERRED_ON_CUDA:
        try:
            backend = make_backend(name, device, dtypes, width)
        except MissingDependencyError:
            passed_over.append(f"{name} is not installed")
        except ConfigError as error:
            logger.warning("%s", error)
            passed_over.append(f"{name} does not work")
        else:
            logger.info("sparse backend %s on %s: %s", name, device, "; ".join([*passed_over, "it passed its trial"]))
            return backend
    logger.info("sparse backend torch on %s: %s", device, "; ".join(passed_over))
    return make_backend("torch")


def _make_triton(device: torch.device, dtypes: Sequence[torch.dtype], width: int) -> SparseBackend:
    if find_spec("triton") is None:
        install = "it comes with CUDA builds of torch; choose auto or torch to go without"
        raise MissingDependencyError("triton", "the sparse backend 'triton'", install)
    if not is_interpreting():
        _require_cuda("triton", device)
    from twodpass_core.sparse.trial import try_backend

    def make() -> SparseBackend:
        from twodpass_core.sparse.triton_backend import TritonBackend  # which may fail, as where libcuda is missing

        return TritonBackend()

    return try_backend("triton", make, device, dtypes, width)


def is_interpreting() -> bool:
    """Whether Triton runs kernels in Python (TRITON_INTERPRET=1 in the environment), slowly and without a GPU."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def _make_torchsparse(device: torch.device, dtypes: Sequence[torch.dtype], width: int) -> SparseBackend:
    if find_spec("torchsparse") is None:
        install = "build it from github.com/mit-han-lab/torchsparse; choose auto, triton or torch to go without"
        raise MissingDependencyError("torchsparse", "the sparse backend 'torchsparse'", install)
    _require_cuda("torchsparse", device)
    from twodpass_core.sparse.torchsparse_backend import TorchsparseBackend
    from twodpass_core.sparse.trial import try_backend

    return try_backend("torchsparse", TorchsparseBackend, device, dtypes, width)


def _require_cuda(name: str, device: torch.device) -> None:
    if device.type != "cuda":
        raise ConfigError(f"the sparse backend '{name}' needs a CUDA device, not {device}: choose auto or torch")
