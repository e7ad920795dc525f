"""What a forward needs travels with the forward: changes to a base's states that hold in one call and nowhere else.

Hooks are put on once and stay; what they do is looked up in the context of whoever runs the forward. So calls of
several threads, and calls in the middle of one another, never see each other's changes, and no exception or interrupt
can leave a change behind: it ends with the call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar, copy_context
from types import MappingProxyType
from typing import Any, Literal, TypeVar

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

T = TypeVar("T")
Side = Literal["input", "output", "start"]
Change = Callable[[Any], Any]


class Tap:
    """A place in a base where a forward may be looked at or changed.

    Args:
        module: The module.
        side: "output": what it puts out (of a tuple the first); "input": its first argument; "start": the keyword
            arguments it is called with, which can only be looked at.
    """

    def __init__(self, module: nn.Module, side: Side):
        self.handle: RemovableHandle
        if side == "output":
            self.handle = module.register_forward_hook(self._after)
        elif side == "input":
            self.handle = module.register_forward_pre_hook(self._before)
        else:
            self.handle = module.register_forward_pre_hook(self._start, with_kwargs=True)

    def _after(self, module: nn.Module, args: Any, output: Any) -> Any:
        changes = _ACTIVE.get().get(self)
        if changes is None:
            return None
        hidden = output[0] if isinstance(output, tuple) else output
        for change in changes:
            hidden = change(hidden)
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

    def _before(self, module: nn.Module, args: tuple[Any, ...]) -> Any:
        changes = _ACTIVE.get().get(self)
        if changes is None:
            return None
        hidden = args[0]
        for change in changes:
            hidden = change(hidden)
        return (hidden, *args[1:])

    def _start(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        for look in _ACTIVE.get().get(self, ()):
            look(kwargs)


Changes = Mapping[Tap, Change]
"""What one call changes, and where. It may hold the call's state: make it anew for each call."""

NOTHING: Changes = MappingProxyType({})

_ACTIVE: ContextVar[Mapping[Tap, tuple[Change, ...]]] = ContextVar("perfit_changes", default=MappingProxyType({}))


def running(call: Callable[[], T], *changes: Changes) -> T:
    """The result of ``call``, with some changes in force while it runs, after those that are in force already.

    Args:
        call: Runs forwards; whatever else it calls sees the changes too, so it should do nothing but that.
        changes: By tap; several at one tap act in their order.
    """
    # The copy is entered and left in one step of the interpreter: there is no moment to be interrupted in.
    return copy_context().run(_inside, call, changes)


def untouched(call: Callable[[], T]) -> T:
    """The result of ``call`` on the base as it is, whatever changes are in force around it."""
    return copy_context().run(_alone, call)


def _inside(call: Callable[[], T], changes: tuple[Changes, ...]) -> T:
    active = dict(_ACTIVE.get())
    for more in changes:
        for tap, change in more.items():
            active[tap] = (*active.get(tap, ()), change)
    _ACTIVE.set(active)
    return call()


def _alone(call: Callable[[], T]) -> T:
    _ACTIVE.set(MappingProxyType({}))
    return call()


def looking(look: Callable[[Tensor], object]) -> Change:
    """A change that changes nothing, and only looks at the states."""

    def change(hidden: Tensor) -> Tensor:
        look(hidden)
        return hidden

    return change
