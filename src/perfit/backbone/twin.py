"""A copy of a model that shares every weight: what is put into the copy, or set on it, does not touch the base."""

from __future__ import annotations

import copy
import functools
import types
from typing import Any

from torch import nn


def twin(model: nn.Module, config: tuple[Any, Any] | None = None) -> Any:
    """A copy of all modules, with their very parameters, buffers and hooks.

    Modules may be exchanged, and attributes set, in the copy alone; writing *into* a weight changes both.

    Args:
        model: Any module.
        config: A config and its replacement, for each module that holds that one.
    """
    return _copied(model, config, {})


def with_module(root: nn.Module, path: str, replacement: nn.Module) -> nn.Module:
    """A copy of ``root`` that differs in one submodule; everything else, all weights included, is shared."""
    clone = copy.copy(root)
    clone._modules = dict(root._modules)
    head, _, rest = path.partition(".")
    child = root._modules[head]
    if rest:
        assert child is not None
        replacement = with_module(child, rest, replacement)
    clone._modules[head] = replacement
    return clone


def _copied(module: nn.Module, config: tuple[Any, Any] | None, done: dict[int, nn.Module]) -> nn.Module:
    if id(module) in done:  # one module in two places stays one
        return done[id(module)]
    clone = copy.copy(module)
    done[id(module)] = clone
    own = vars(clone)
    for name, value in own.items():
        if isinstance(value, dict | set):
            own[name] = copy.copy(value)
    if config is not None and own.get("config") is config[0]:
        own["config"] = config[1]
    # A forward of the module's own (accelerate puts one on) is bound to the original.
    for name in ("forward", "_old_forward"):
        if name in own:
            own[name] = _rebound(own[name], module, clone)
    clone._modules = {
        name: None if child is None else _copied(child, config, done) for name, child in module._modules.items()
    }
    return clone


def _rebound(function: Any, old: nn.Module, new: nn.Module) -> Any:
    if isinstance(function, functools.partial):
        args = [new if arg is old else arg for arg in function.args]
        return functools.update_wrapper(functools.partial(function.func, *args, **function.keywords), function)
    if isinstance(function, types.MethodType) and function.__self__ is old:
        return types.MethodType(function.__func__, new)
    return function
