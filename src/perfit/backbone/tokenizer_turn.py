"""One thread at a time with a tokenizer: it keeps how it splits from call to call, so that a text of one thread, which must
not name control tokens, could be split by the rule that another thread has just set."""

from __future__ import annotations

import os
import threading

TURN = threading.RLock()

if hasattr(os, "register_at_fork"):
    # Nobody else's turn is under way in a child that is forked off.
    os.register_at_fork(before=TURN.acquire, after_in_parent=TURN.release, after_in_child=TURN.release)
