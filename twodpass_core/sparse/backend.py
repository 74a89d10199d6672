"""The interface behind which implementations of the sparse convolution stand."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor

from twodpass_core.errors import ConfigError
from twodpass_core.sparse.pyramid import VoxelLevel


class SparseBackend(Protocol):
    """Builds neighbour maps, once per level, and convolves with them. All read one weight layout."""

    name: str

    def build_map(self, level: VoxelLevel) -> Any:
        """The backend's own neighbour map of a level, to be handed back to `convolve`."""

    def convolve(self, features: Tensor, weight: Tensor, neighbour_map: Any, addend: Tensor) -> Tensor:
        """Submanifold 3x3x3 convolution: out[p] = addend[p] + sum over offsets k of features[p + k] @ weight[k].

        Args:
            features: (M, C_in).
            weight: (27, C_in, C_out), offset (dx, dy, dz) at (dx + 1) * 9 + (dy + 1) * 3 + (dz + 1).
            neighbour_map: of this backend's `build_map`.
            addend: (M, C_out), or a bias (C_out,).

        Returns:
            (M, C_out), with gradients for features, weight and addend.
        """


def make_backend(name: str) -> SparseBackend:
    """The backend called `torch` or chosen by `auto`.

    Raises:
        ConfigError: there is no such backend.
    """
    from twodpass_core.sparse.torch_backend import TorchBackend

    if name in ("auto", "torch"):
        return TorchBackend()
    raise ConfigError(f"unknown sparse backend '{name}': choose auto or torch")
