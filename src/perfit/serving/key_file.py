"""A file of keys that a server follows: who is added may ask, and who is taken out may not, from the next request on."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from perfit.errors import ConfigError
from perfit.serving.keys import Keys, Tenant, read_keys

LOG = logging.getLogger("perfit.serving")
_Stamp = tuple[int, int, int] | None


class KeyFile:
    """The tenants of a file as it stands at each request.

    A file that is gone or no file of keys changes nothing: the keys last read stay, and the log says so once.

    Args:
        path: The file.

    Raises:
        ConfigError: It is none of keys.
    """

    def __init__(self, path: Path):
        self._path, self._lock = path, threading.Lock()
        self._stamp = self._now()
        self._keys = read_keys(path)
        self._ever = {tenant.name: tenant for tenant in self._keys.tenants}

    @property
    def tenants(self) -> tuple[Tenant, ...]:
        """All tenants since the start: something of those who were taken out may still be in memory."""
        self._follow()
        return tuple(self._ever.values())

    def tenant_of(self, key: str) -> Tenant | None:
        """See ``Keys``."""
        return self._follow().tenant_of(key)

    def _follow(self) -> Keys:
        with self._lock:
            stamp = self._now()
            if stamp != self._stamp:
                self._stamp = stamp
                try:
                    self._keys = read_keys(self._path)
                    self._ever |= {tenant.name: tenant for tenant in self._keys.tenants}
                    LOG.info("the file of keys was read again")
                except (ConfigError, OSError):
                    LOG.error("the file of keys cannot be read any more; the keys that were in it stay valid")
            return self._keys

    def _now(self) -> _Stamp:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino
