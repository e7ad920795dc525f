"""A folder of ours: for its owner alone, one process at a time, with a manifest that says what it holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perfit.durable.files import sweep, write_atomically
from perfit.durable.identity import differing
from perfit.durable.lock import locked
from perfit.durable.records import read_record, write_record
from perfit.errors import StoreError
from perfit.private import private_folder


@dataclass(frozen=True)
class Kind:
    """What all folders of one kind have in common.

    Attributes:
        holds: What a folder of it holds, before the parts that differ: "a comparison with other".
        manifest: Name of the file that says which one.
        version: The manifest's ``format``.
        busy: What another process does here, such as "another process searches here".
        other: How to name another folder, such as "choose another --out".
        mend: The way out of a damaged manifest.
        again: The way on from another format, beside the perfit that wrote it.
        missing: What to say after the name of a file that is not there; "{path}" in it is the folder.
        inside: Folders in it that are made with it, and swept of what killed writers left.
    """

    holds: str
    manifest: str
    version: int
    busy: str
    other: str
    mend: str
    again: str
    missing: str
    inside: Sequence[str] = ()


class Folder:
    """One folder of a kind.

    Args:
        path: Where.
        kind: Its kind.
    """

    def __init__(self, path: Path, kind: Kind):
        self.path, self.kind = path, kind

    @property
    def manifest_path(self) -> Path:
        """The manifest."""
        return self.path / self.kind.manifest

    def exists(self) -> bool:
        """Whether something of this kind lies here."""
        return self.manifest_path.is_file()

    def make(self, readme: str = "") -> None:
        """Make the folder and those inside it, and write its README.md where there is to be one.

        Raises:
            StoreError: They cannot be made or written.
        """
        with self._faults():
            for folder in self._all():
                private_folder(folder)
            if readme:
                write_atomically(self.path / "README.md", readme.encode())

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Make the folder where there is none, and keep other processes out of it.

        Raises:
            BusyError: One works here already.
            StoreError: It cannot be made or written.
        """
        busy = f"{self.path}: {self.kind.busy}; wait for it or {self.kind.other}"
        with ExitStack() as held:
            with self._faults():
                private_folder(self.path)
                held.enter_context(locked(self.path / ".lock", busy))
            for folder in self._all():
                sweep(folder)
            yield

    def read(self) -> dict[str, Any]:
        """The manifest.

        Raises:
            DamagedError: It is not as it was written.
            StoreError: There is none, or it is of another format.
        """
        return self.read_beside(self.kind.manifest, version=self.kind.version, again=self.kind.again)

    def read_beside(self, name: str, *, mend: str = "", version: int | None = None, again: str = "") -> dict[str, Any]:
        """A record in the folder, with the kind's words for its faults.

        Raises:
            DamagedError: It is not as it was written.
            StoreError: There is none, or it is of another format.
        """
        kind = self.kind
        missing = kind.missing.format(path=self.path)
        return read_record(self.path / name, missing=missing, mend=mend or kind.mend, version=version, again=again)

    def write(self, content: Mapping[str, Any]) -> None:
        """Write the manifest, atomically."""
        write_record(self.manifest_path, {"format": self.kind.version, **content})

    def check(
        self, theirs: Mapping[str, Any], mine: Mapping[str, Any], parts: Sequence[str], name: Callable[[str], str] = str
    ) -> None:
        """See that what lies here is what is wanted.

        Args:
            theirs: What lies here.
            mine: What is wanted.
            parts: What decides.
            name: A part in words.

        Raises:
            StoreError: It differs, and in what.
        """
        if found := differing(theirs, mine, parts):
            what = ", ".join(map(name, found))
            raise StoreError(f"{self.path}: holds {self.kind.holds} {what}; {self.kind.other}")

    def _all(self) -> list[Path]:
        return [self.path, *(self.path / name for name in self.kind.inside)]

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreError(f"{self.path}: cannot write here ({error.strerror}); {self.kind.other}") from error
