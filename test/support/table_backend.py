"""A backend that works as those of kernels do, in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor

from twodpass_core.sparse.kernel_backend import KernelBackend
from twodpass_core.sparse.neighbour_table import build_neighbour_table
from twodpass_core.sparse.pyramid import Halving, VoxelLevel
from twodpass_core.sparse.strided import build_strided_tables


class TableBackend(KernelBackend[Tensor]):
    """Reads the tables that kernels read, in plain torch."""

    name = "table"

    def neighbour_table(self, level: VoxelLevel) -> Tensor:
        return build_neighbour_table(level)

    def strided_tables(self, halving: Halving) -> tuple[Tensor, Tensor]:
        return build_strided_tables(halving)

    def forward(self, features: Tensor, weight: Tensor, table: Tensor, addend: Tensor) -> Tensor:
        gathered = _gathered(features, table)
        return addend + torch.stack([rows @ matrix for rows, matrix in zip(gathered, weight, strict=True)]).sum(0)

    def weight_gradient(self, features: Tensor, grad: Tensor, table: Tensor) -> Tensor:
        return torch.stack([rows.t() @ grad for rows in _gathered(features, table)])


def _gathered(features: Tensor, table: Tensor) -> list[Tensor]:
    padded = torch.cat([features, torch.zeros_like(features[:1])])
    absent = table < 0
    return [padded.index_select(0, sources) for sources in torch.where(absent, features.shape[0], table)]
