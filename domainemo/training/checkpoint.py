"""Where an unfinished training is kept, to be resumed by this very training alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import torch

from .. import files
from ..errors import DataError, data_error

__all__ = ["Checkpoint"]

_LENGTH = sha256().digest_size
_REMEDY = "The training begins anew."


class Checkpoint:
    """A file from which a training resumes after its process was killed.

    It begins with a hash of the rest, and knows whose it is: one that was damaged, or
    belongs to another training, is set aside with a note, and nothing is resumed.

    Parameters
    ----------
    path : Path
    owner : callable
        Returns what tells this training from every other one; called only where a
        checkpoint is written or found.
    """

    def __init__(self, path: Path, owner: Callable[[], str] = str) -> None:
        self.path, self._owner = path, owner
        self._known: str | None = None

    @property
    def owner(self) -> str:
        """What tells this training from every other one."""
        if self._known is None:
            self._known = self._owner()
        return self._known

    def save(self, content: dict[str, Any]) -> None:
        """Write everything that a training needs to go on, atomically."""
        file = BytesIO()
        torch.save({**_alone(content), "owner": self.owner}, file)
        rest = file.getvalue()
        files.write(self.path, sha256(rest).digest() + rest)

    def load(self, device: torch.device) -> dict[str, Any] | None:
        """Return what was saved; None where there is nothing to resume from."""
        if not self.path.exists():
            return None
        try:
            return self._read(device)
        except DataError as error:
            files.set_aside(self.path, str(error))
            return None

    def _read(self, device: torch.device) -> dict[str, Any]:
        content = self.path.read_bytes()
        digest, rest = content[:_LENGTH], content[_LENGTH:]
        if sha256(rest).digest() != digest:
            found = "a checkpoint that was cut off or changed"
            raise data_error(self.path, found, "what was written there", _REMEDY)
        loaded: dict[str, Any] = torch.load(
            BytesIO(rest), map_location=device, weights_only=True
        )
        if loaded.pop("owner") != self.owner:
            found = "the checkpoint of another training"
            raise data_error(self.path, found, "this one's", _REMEDY)
        return loaded


def _alone(value: Any) -> Any:
    """Return content without what lies beside a tensor in memory.

    Of a population the members' weights are parts of one tensor, and a file would hold
    all of it: what others have learned, also of this member's target.
    """
    if isinstance(value, torch.Tensor):
        whole = value.untyped_storage().nbytes() <= value.nbytes
        return value if whole else value.clone()
    if isinstance(value, Mapping):
        return {key: _alone(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_alone, value))
    return value
