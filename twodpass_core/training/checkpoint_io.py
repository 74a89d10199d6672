"""How checkpoints get onto the disk."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from twodpass_core.errors import TrainingError
from twodpass_core.files import replacing


class WholeCheckpoints(TorchCheckpointIO):
    """Written beside their place and then moved there: one that cannot be written leaves the one before.

    Lightning's own writes to the folder for temporary files first, which may be another disk, and a small one.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Raises TrainingError, naming `path`, where it cannot be written."""
        content = io.BytesIO()  # torch's own writing hides that a disk is full
        torch.save(checkpoint, content)
        try:
            with replacing(Path(path)) as partial:
                partial.write_bytes(content.getbuffer())
        except OSError as error:
            raise TrainingError(
                f"{path}: the checkpoint cannot be written: {error.strerror}. Make room; "
                "--resume goes on from the last one that was written"
            ) from error
