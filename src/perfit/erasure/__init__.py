"""Erasing a user from everything that perfit made of them."""

from perfit.erasure.erase import Erasure, erase_user
from perfit.erasure.step import Deed, Unreached

__all__ = ["Deed", "Erasure", "Unreached", "erase_user"]
