"""Fetching data sets whose publisher lets anybody download them.

Every file is checked against the publisher's list of checksums, and appears in the
folder only once it is whole and right; a second call fetches what is not there yet.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..errors import ConfigurationError, DataError, DomainemoError, data_error
from ..files import sync
from ..registry import find

__all__ = ["EEGMAT_URL", "OnFile", "download"]

OnFile = Callable[[int, int, str], None]
"""Told after each file: how many are there, of how many, and which one."""

EEGMAT_URL = "https://physionet.org/files/eegmat/1.0.0/"
"""Where PhysioNet offers the files of eegmat."""

_LIST = "SHA256SUMS.txt"
_FILES = tuple(f"Subject{n:02d}_{part}.edf" for n in range(36) for part in (1, 2))

_SEED = (
    "the BCMI laboratory of Shanghai Jiao Tong University gives it to researchers for "
    "academic use alone, on a signed request for each data set; it must not be passed "
    "on"
)
_TERMS = {
    "seed": _SEED,
    "seed-multimodal": _SEED,
    "seed-iv": _SEED,
    "seed-v": _SEED,
    "seed-vii": _SEED,
    "deap": (
        "its authors give it for academic use, on a licence agreement signed by "
        "somebody with a permanent position"
    ),
    "dreamer": "its authors give it on request, through its record on Zenodo (546113)",
    "esports": (
        "the publisher offers the recordings themselves under CC BY 4.0; the windows "
        "of features that the reader reads are made from them and offered by nobody"
    ),
    "ssvep-exo": (
        "the publisher offers the recordings themselves under CC0 1.0; the windows of "
        "features that the reader reads are made from them and offered by nobody"
    ),
}


def download(
    name: str,
    folder: str | Path,
    on_progress: OnFile | None = None,
    *,
    url: str | None = None,
    retries: int = 3,
) -> list[Path]:
    """Fetch a data set's files into a folder.

    Files that are there and whole are not fetched again, so that a call which was
    interrupted is resumed by the next one. A file that differs from what the publisher
    offers is replaced, once the right one has come.

    Parameters
    ----------
    name : str
        ``"eegmat"``: 72 recordings of PhysioNet's EEG During Mental Arithmetic Tasks
        1.0.0 (about 175 MB, licence ODC-BY 1.0).
    folder : path
        Where the files go; made if need be.
    on_progress : callable, optional
        Told after each file.
    url : str, optional
        A mirror to fetch from; :data:`EEGMAT_URL` by default.
    retries : int
        How often to try again after a failure, a few seconds apart.

    Returns
    -------
    list of Path
        The recordings, in order of subject and part.

    Raises
    ------
    ConfigurationError
        If the data set is not known, or its publisher does not let anybody download
        it; the message says who offers it, where and on what terms.
    DataError
        If what was fetched does not have the checksum that it should have.
    DomainemoError
        If the server cannot be reached, or the disk is full.
    """
    if name != "eegmat":
        raise _not_offered(name)
    folder = Path(folder)
    source = _Source(url or EEGMAT_URL, folder, retries)
    sums = _checksums(source)
    paths = []
    for number, file in enumerate(_FILES, 1):
        paths.append(source.fetch(file, sums[file]))
        if on_progress:
            on_progress(number, len(_FILES), file)
    return paths


def _not_offered(name: str) -> ConfigurationError:
    reader = find("dataset", name)
    home = getattr(reader, "home", None)
    if home is None:
        return ConfigurationError(
            f"The dataset {name!r} has no files that anybody publishes, so there is "
            f"nothing to download. Only eegmat can be."
        )
    terms = _TERMS.get(name, "its publisher's terms are on its page")
    return ConfigurationError(
        f"The dataset {name!r} cannot be downloaded by this command: {terms}. Get it "
        f"from {home}, and name the folder of its files with --data-root."
    )


# ----------------------------------------------------------------------- checksums


def _checksums(source: _Source) -> Mapping[str, str]:
    """Return the publisher's checksums: those fetched before, else fetched now."""
    path = source.folder / _LIST
    if path.is_file():
        try:
            return _parse(path, source)
        except DataError:
            path.unlink()
    source.fetch(_LIST, None)
    try:
        return _parse(path, source)
    except DataError:
        path.unlink()
        raise


def _parse(path: Path, source: _Source) -> Mapping[str, str]:
    """Return the list's checksums, if it has them all."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise source.unusable(path.name, error) from error
    sums = _sums(text)
    missing = [name for name in _FILES if name not in sums]
    where = f"{path}, from {source.url}{_LIST}"
    if missing:
        found = f"no checksum for {len(missing)} files, {missing[0]} first"
        expected = f"those of all {len(_FILES)} recordings"
        raise data_error(where, found, expected, source.by_hand())
    return sums


def _sums(text: str) -> dict[str, str]:
    """Return the checksum of each name, from lines as sha256sum writes them."""
    lines = re.findall(r"^([0-9a-fA-F]{64})[ \t]+\*?(\S+)[ \t\r]*$", text, re.MULTILINE)
    return {name: checksum.lower() for checksum, name in lines}


# ------------------------------------------------------------------------- fetching


class _Source:
    """A server's folder, and the folder here that its files go to."""

    home = "https://physionet.org/content/eegmat/1.0.0/"

    def __init__(self, url: str, folder: Path, retries: int) -> None:
        self.url = url.rstrip("/") + "/"
        self.folder, self.retries = folder, retries

    def fetch(self, name: str, checksum: str | None) -> Path:
        """Return the file's path here, fetching it if it is not there and right.

        Pooch writes to another name, compares the checksum, and only then renames.
        """
        import pooch
        import requests

        store = pooch.create(
            self.folder,
            self.url,
            registry={name: checksum},
            retry_if_failed=self.retries,
        )
        before = _identity(self.folder / name)
        try:
            with _quiet(pooch):
                loader = pooch.HTTPDownloader(chunk_size=1 << 16, timeout=30)
                path = Path(store.fetch(name, downloader=loader))
            if _identity(path) != before:
                sync(path)
                sync(path.parent)
        except requests.exceptions.RequestException as error:
            raise self._unreachable(name, error) from error
        except OSError as error:
            raise self.unusable(name, error) from error
        except ValueError as error:
            raise self._different(name, error) from error
        if _identity(path) != before:
            # Temporary files are their owner's alone; whoever sees the folder may read
            # this one. Some file systems know no such rights.
            with suppress(OSError):
                path.chmod(self.folder.stat().st_mode & 0o666)
        return path

    def by_hand(self) -> str:
        """Say how to fetch everything without this module."""
        depth = len([part for part in self.url.split("/")[3:] if part])
        return (
            f"Or fetch the files by hand: wget -r -N -np -nH --cut-dirs={depth} "
            f"-P {shlex.quote(str(self.folder))} {self.url}"
        )

    def _unreachable(self, name: str, error: Exception) -> DomainemoError:
        reason = " ".join(str(error).split())
        return DomainemoError(
            f"{self.url}{name}: could not be fetched in {self.retries + 1} attempts "
            f"({type(error).__name__}: {reason}); expected the file from the server. "
            f"Check the network connection and run the same again: it goes on where it "
            f"stopped. {self.by_hand()}"
        )

    def unusable(self, name: str, error: OSError) -> DomainemoError:
        """Return the error for a place that cannot be written to, or read from."""
        return DomainemoError(
            f"{self.folder / name}: could not be written or read "
            f"({error.strerror or error}); expected a folder that is yours to write "
            f"to, on a disk with 200 MB of room. Nothing incomplete was left behind; "
            f"make room and run the same again, or name another folder."
        )

    def _different(self, name: str, error: ValueError) -> DataError:
        return data_error(
            f"{self.url}{name}",
            f"another file than the publisher's list says, {self.retries + 1} times "
            f"({' '.join(str(error).split())})",
            f"the checksum in {self.folder / _LIST}",
            f"Nothing of it was kept. Something between here and the server may change "
            f"files; run the same again later. {self.by_hand()}",
        )


def _identity(path: Path) -> tuple[int, int] | None:
    """Return what changes when another file takes the place of this one."""
    if not path.is_file():
        return None
    status = path.stat()
    return status.st_ino, status.st_mtime_ns


@contextmanager
def _quiet(pooch: Any) -> Iterator[None]:
    """Keep pooch from logging each file; whatever goes wrong it raises."""
    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel("ERROR")
    try:
        yield
    finally:
        logger.setLevel(level)
