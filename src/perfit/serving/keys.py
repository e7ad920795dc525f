"""Who may ask: tenants and their keys from a file, each with the users it may act for."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perfit.durable.files import write_atomically
from perfit.errors import ConfigError
from perfit.pseudo_users import PSEUDO_USERS
from perfit.shown import shown
from perfit.yaml_text import read_yaml

ANSWER, LEARN, OPERATE = "answer", "learn", "operate"
RIGHTS = (ANSWER, LEARN, OPERATE)
_PREFIX = "pf-"
_HINT = "perfit keys add makes one"


@dataclass(frozen=True)
class Tenant:
    """A principal.

    Attributes:
        name: What it is called in the file; never in logs or metrics.
        keys: SHA-256 of each of its keys, in hex. Keys are random and long, so that a plain hash of them is safe.
        users: Whom it may act for: ids, or beginnings of ids with ``*`` behind.
        may: "answer" asks, "learn" gives histories, trains, exports and erases, "operate" reads metrics.
        requests_per_minute: How many requests it may send; None for as many as there is room for.
    """

    name: str
    keys: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    may: tuple[str, ...] = (ANSWER, LEARN)
    requests_per_minute: int | None = None

    def __post_init__(self) -> None:
        where = f"tenant {shown(self.name)!r}"
        for key in self.keys:
            if len(key) != 64 or set(key) - set("0123456789abcdef"):
                raise ConfigError(f"{where}: keys holds an entry that is no SHA-256 in hex; {_HINT}")
        if unknown := set(self.may) - set(RIGHTS):
            raise ConfigError(f"{where}: may holds {shown(sorted(unknown)[0])!r}; choose of {', '.join(RIGHTS)}")
        rate = self.requests_per_minute
        if rate is not None and (not isinstance(rate, int) or isinstance(rate, bool) or rate < 1):
            raise ConfigError(f"{where}: requests_per_minute is {shown(rate)}; give a whole number of at least 1")

    def acts_for(self, user: str) -> bool:
        """Whether it may act for a user; for ``base`` and ``collective``, who are nobody, everyone may."""
        if user in PSEUDO_USERS:
            return True
        return any(user.startswith(one[:-1]) if one.endswith("*") else user == one for one in self.users)


LOCAL = Tenant("local", users=("*",), may=RIGHTS)
"""Who asks where there is no file of keys: whoever can reach the loopback address of this machine."""


class Keys:
    """The tenants of a file.

    Args:
        tenants: All of them.
    """

    def __init__(self, tenants: Sequence[Tenant]):
        self.tenants = tuple(tenants)
        self._known = [(bytes.fromhex(key), tenant) for tenant in tenants for key in tenant.keys]

    def tenant_of(self, key: str) -> Tenant | None:
        """Whose key this is. Every key is compared, each in constant time, so that the time tells nothing."""
        asked, found = hashlib.sha256(key.encode(errors="surrogatepass")).digest(), None
        for known, tenant in self._known:
            if hmac.compare_digest(known, asked):
                found = tenant
        return found


def read_keys(path: Path) -> Keys:
    """Read a file of keys (YAML, and so JSON).

    Raises:
        ConfigError: It is none.
    """
    content = read_yaml(path, hint=_HINT)
    tenants = content.get("tenants") if isinstance(content, Mapping) else None
    if not isinstance(tenants, Mapping) or not tenants:
        raise ConfigError(f"{path}: has no tenants; {_HINT}")
    return Keys([_tenant(path, str(name), record) for name, record in tenants.items()])


def _tenant(path: Path, name: str, record: Any) -> Tenant:
    known = {"keys", "users", "may", "requests_per_minute"}
    if not isinstance(record, Mapping) or set(record) - known:
        raise ConfigError(f"{path}: tenant {shown(name)!r} must be a mapping of {', '.join(sorted(known))}")
    lists = {field: record[field] for field in ("keys", "users", "may") if field in record}
    for field, value in lists.items():
        if not isinstance(value, list) or not all(isinstance(one, str) and one for one in value):
            raise ConfigError(f"{path}: tenant {shown(name)!r}: {field} must be a list of texts")
    return Tenant(
        name,
        **{field: tuple(value) for field, value in lists.items()},
        requests_per_minute=record.get("requests_per_minute"),
    )


def add_key(path: Path, tenant: str, users: Sequence[str], may: Sequence[str], rate: int | None) -> str:
    """Make a key, write its hash into the file, and return the key, which is kept nowhere.

    Args:
        path: The file; made where there is none.
        tenant: Whose; one that is there gets the key beside those it has.
        users: Whom it may act for besides those it may already.
        may: Rights of a tenant that is new.
        rate: Its requests a minute, if it is to be changed.

    Raises:
        ConfigError: The file is none of keys, or a value is impossible.
    """
    known = {one.name: one for one in read_keys(path).tenants} if path.exists() else {}
    before = known.get(tenant, Tenant(tenant, may=tuple(may)))
    key = f"{_PREFIX}{secrets.token_urlsafe(32)}"
    known[tenant] = Tenant(
        tenant,
        (*before.keys, hashlib.sha256(key.encode()).hexdigest()),
        tuple(dict.fromkeys((*before.users, *users))),
        before.may,
        rate if rate is not None else before.requests_per_minute,
    )
    records = {one.name: _record(one) for one in known.values()}
    write_atomically(path, (json.dumps({"tenants": records}, indent=2, ensure_ascii=False) + "\n").encode())
    return key


def _record(tenant: Tenant) -> dict[str, Any]:
    record: dict[str, Any] = {"keys": list(tenant.keys), "users": list(tenant.users), "may": list(tenant.may)}
    if tenant.requests_per_minute is not None:
        record["requests_per_minute"] = tenant.requests_per_minute
    return record
