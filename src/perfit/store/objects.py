"""Payloads outside the database: one object each in a bucket, under a user's mark and the digest of its bytes."""

from __future__ import annotations

import functools
import hashlib
import hmac
import json
import os
import re
import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from perfit.durable.records import NotAsWrittenError, parse_object
from perfit.errors import ConfigError, DamagedError, MissingExtraError, StoreError, UnreachableError
from perfit.extras import import_extra
from perfit.shown import shown

TOGETHER = 32
"""How many objects are written in one go."""
_PLACE = re.compile(r"s3://[^\s:@?#*\[\]]+")
_REFERENCE = re.compile(r"([0-9a-f]{64}) ([0-9]{1,12})")
# Of s3fs: no listing is remembered, for others write too. A bucket that does not answer is given up on within a minute: s3fs
# tries each call so often, and the reading of an answer once more, so botocore need not.
_S3 = {
    "use_listings_cache": False,
    "config_kwargs": {"connect_timeout": 5, "read_timeout": 10, "retries": {"max_attempts": 0}},
}
_TRIES = 2


class GoneError(DamagedError):
    """The object that a reference names is not there."""


def check_place(url: str) -> str:
    """Where objects may lie, as it is noted.

    Raises:
        ConfigError: It is none such, or holds credentials.
    """
    if not _PLACE.fullmatch(url) or ".." in url.split("/"):
        raise ConfigError(
            f"--payloads: {shown(re.sub(r'//[^/]*@', '//***@', url))!r} is no place for objects; give s3://BUCKET/PREFIX "
            "(credentials come from the environment), or sqlite"
        )
    return url.rstrip("/")


@dataclass(frozen=True)
class Objects:
    """The objects of one store. Any thread or child may use it.

    Attributes:
        url: The bucket and the beginning of all names, as ``check_place`` gives it.
        name: By which this store is told from others there.
        key: What users' marks are keyed with: no name tells an id.
    """

    url: str
    name: str
    key: str = field(repr=False)

    @classmethod
    def at(cls, url: str) -> Objects:
        """A new place of one's own below ``url``.

        Raises:
            ConfigError: It is no place for objects.
        """
        return cls(check_place(url), secrets.token_hex(8), secrets.token_hex(32))

    @classmethod
    def of_text(cls, text: str) -> Objects:
        """The inverse of ``text``, of what anybody may have written.

        Raises:
            DamagedError: It is none.
        """
        try:
            content = parse_object(text.encode())
            url, name, key = content["url"], content["name"], content["key"]
            if not re.fullmatch("[0-9a-f]{16}", name) or not re.fullmatch("[0-9a-f]{64}", key):
                raise NotAsWrittenError
            return cls(check_place(url), name, key)
        except (NotAsWrittenError, KeyError, TypeError, ConfigError):
            raise DamagedError("the note of where payloads lie is damaged; restore a copy") from None

    def text(self) -> str:
        """As a store notes it; no credentials are in it."""
        return json.dumps({"url": self.url, "name": self.name, "key": self.key})

    def put(self, payloads: Iterable[tuple[str, bytes]]) -> list[str]:
        """Write payloads of users; on return they are there.

        Args:
            payloads: User and bytes, each.

        Returns:
            A reference to each, to be kept with the user's row.

        Raises:
            UnreachableError: They cannot be written; what was is nobody's.
        """
        files, references = {}, []
        for user, payload in payloads:
            digest = hashlib.sha256(payload).hexdigest()
            files[f"{self._folder(user)}/{digest}"] = payload
            references.append(f"{digest} {len(payload)}")
        if not files:
            return []
        with self._using() as (system, root):
            system.pipe({f"{root}/{path}": payload for path, payload in files.items()})
        return references

    def get(self, user: str, reference: str) -> bytes:
        """The payload that a reference names, every byte as it was written.

        Raises:
            GoneError: It is not there.
            DamagedError: It is another, or the reference is none.
            UnreachableError: It cannot be read now.
        """
        digest, size = _parts(reference)
        with self._using() as (system, root):
            try:
                payload: bytes = system.cat_file(f"{root}/{self._folder(user)}/{digest}", start=0, end=size + 1)
            except FileNotFoundError:
                raise GoneError(f"its object is not in {self.url}") from None
        if len(payload) != size or hashlib.sha256(payload).hexdigest() != digest:
            raise DamagedError(f"its object in {self.url} is not as it was written")
        return payload

    def of(self, user: str) -> list[str]:
        """The names of all a user's objects, those included that nothing refers to any more.

        Raises:
            UnreachableError: They cannot be listed.
        """
        return list(self._below(self._folder(user)))

    def all(self) -> dict[str, int]:
        """The names of all objects of this store, with their bytes.

        Raises:
            UnreachableError: They cannot be listed.
        """
        return self._below(self.name)

    def called(self, user: str, reference: str) -> str:
        """The name of the object that a reference means.

        Raises:
            DamagedError: It is none.
        """
        return f"{self._folder(user)}/{_parts(reference)[0]}"

    def remove(self, names: Sequence[str]) -> None:
        """Remove objects by their names; those that are gone already do no harm.

        Raises:
            UnreachableError: They cannot be removed, or not all of them were.
        """
        if not names:
            return
        with self._using() as (system, root):
            try:
                system.rm([f"{root}/{name}" for name in names])
            except FileNotFoundError:
                for name in names:
                    if system.exists(f"{root}/{name}"):
                        system.rm_file(f"{root}/{name}")

    def erase(self, user: str) -> None:
        """Remove all a user's objects, and see that none is left.

        Raises:
            UnreachableError: Some are left: to be repeated.
        """
        self.remove(self.of(user))
        if self.of(user):
            raise UnreachableError(f"{self.url}: objects of the user are left; repeat the command")

    def _folder(self, user: str) -> str:
        mark = hmac.new(bytes.fromhex(self.key), b"user\0" + user.encode(errors="surrogatepass"), hashlib.sha256)
        return f"{self.name}/{mark.hexdigest()}"

    def _below(self, folder: str) -> dict[str, int]:
        with self._using() as (system, root):
            found = system.find(f"{root}/{folder}", detail=True)
            return {path[len(root) + 1 :]: int(about["size"]) for path, about in found.items()}

    @contextmanager
    def _using(self) -> Iterator[tuple[Any, str]]:
        """This process's file system and the beginning of all names; what goes wrong in it is one line without its words,
        which may hold what belongs in no log."""
        try:
            yield self._system()
        except (StoreError, MissingExtraError):
            raise
        except Exception as error:
            kind = type(error).__name__
            if isinstance(error, FileNotFoundError):
                way = "there is no such bucket or folder: make it, or check the address"
            elif isinstance(error, PermissionError) or "Credentials" in kind:
                way = "check the credentials in the environment, and what they allow"
            else:
                way = "see that it can be reached, and repeat the command"
            raise UnreachableError(f"{self.url}: objects cannot be read or written now ({kind}); {way}") from error

    def _system(self) -> tuple[Any, str]:
        return _opened(self.url, os.getpid())


@functools.cache
def _opened(url: str, process: int) -> tuple[Any, str]:
    """A file system and the beginning of all names in it. Making one takes a second, and a forked child needs its own."""
    extra = ("fsspec and s3fs", "object-storage")
    import_extra("s3fs", *extra)
    system, root = import_extra("fsspec.core", *extra).url_to_fs(url, skip_instance_cache=True, **_S3)
    system.retries = _TRIES
    return system, root


def _parts(reference: str) -> tuple[str, int]:
    if (found := _REFERENCE.fullmatch(reference)) is None:
        raise DamagedError("what says where its payload lies is damaged")
    return found[1], int(found[2])
