"""What this device multiplies fast: measured once in about a second, kept on disk, so that choices stay the same."""

from __future__ import annotations

import contextlib
import hashlib
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from perfit.backbone.cache_folder import cache_dir
from perfit.durable.records import read_record, write_record
from perfit.errors import StoreError

_WIDTH, _INNER, _TOKENS = 576, 1536, 512
_NAMES = {torch.float32: "float32", torch.bfloat16: "bfloat16"}


@dataclass(frozen=True)
class Probe:
    """Measured rates of one device.

    Attributes:
        device: Its type and name.
        threads: Threads the rates are for; 0 where that means nothing.
        products: GFLOP/s of matrix products by dtype, forward and backward by the input: [forward, backward].
        attention: Milliseconds of a step's attention by way, forward and backward: "apart" (plain products over a
            shared and an own prefix) and "joined" (torch's fused attention over the joined keys), by dtype.
    """

    device: str
    threads: int
    products: dict[str, tuple[float, float]]
    attention: dict[str, dict[str, float]]

    @property
    def dtype(self) -> torch.dtype:
        """The dtype whose products, forward and backward together, take the least time."""
        return min(_NAMES, key=lambda dtype: sum(1 / rate for rate in self.products[_NAMES[dtype]]))

    def rate(self, dtype: torch.dtype) -> float:
        """Forward products in FLOP/s; float16 is taken as bfloat16."""
        return self.products[_NAMES.get(dtype, "bfloat16")][0] * 1e9

    def apart(self, dtype: torch.dtype) -> bool:
        """Whether a step's attention is faster as plain products than joined and fused."""
        times = self.attention[_NAMES.get(dtype, "bfloat16")]
        return times["apart"] <= times["joined"]

    def line(self, dtype: torch.dtype) -> str:
        """The measurement and what is picked, for printing."""
        rates = ", ".join(f"{name} {fwd:.0f}/{bwd:.0f}" for name, (fwd, bwd) in self.products.items())
        times = self.attention[_NAMES.get(dtype, "bfloat16")]
        return (
            f"{self.device}: products {rates} GFLOP/s forward/backward; a step's attention {times['apart']:.1f} ms apart, "
            f"{times['joined']:.1f} ms joined; base in {str(dtype).removeprefix('torch.')}, "
            f"attention {'apart' if self.apart(dtype) else 'joined'}"
        )


@cache
def probe(device: torch.device) -> Probe:
    """The rates of a device: read where they were measured before, else measured and written down.

    The file lies where converted models do (``cache_dir``); delete it to measure again.
    """
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    threads = torch.get_num_threads() if device.type == "cpu" else 0
    key = f"{device.type} {name} {threads} {torch.__version__} {torch.backends.cpu.get_cpu_capability()} 2"
    folder = cache_dir()
    path = folder / f"probe-{hashlib.sha256(key.encode()).hexdigest()[:12]}.json"
    # Damaged, it is measured again: another rate would be another precision, and other numbers.
    with contextlib.suppress(StoreError, ValueError, KeyError, TypeError, IndexError, AttributeError):
        kept = read_record(path, missing="not measured yet", mend="it is measured again")
        products = {
            name: (float(kept["products"][name][0]), float(kept["products"][name][1])) for name in _NAMES.values()
        }
        attention = {
            name: {way: float(kept["attention"][name][way]) for way in ("apart", "joined")} for name in products
        }
        return Probe(str(kept["device"]), int(kept["threads"]), products, attention)
    measured = Probe(
        f"{device.type} {name}",
        threads,
        {name: _products(device, dtype) for dtype, name in _NAMES.items()},
        {name: _attention(device, dtype) for dtype, name in _NAMES.items()},
    )
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        write_record(path, asdict(measured))
    return measured


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _best(work: Callable[[], object], device: torch.device, seconds: float = 0.06) -> float:
    """Least seconds of one call, over repeats of some milliseconds after a warm-up."""

    def once() -> float:
        began = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - began

    once()
    once()
    best, until = once(), time.perf_counter() + seconds
    while time.perf_counter() < until:
        best = min(best, once())
    return best


def _products(device: torch.device, dtype: torch.dtype) -> tuple[float, float]:
    x = torch.randn(_TOKENS, _WIDTH, device=device, dtype=dtype)
    weight = torch.randn(_INNER, _WIDTH, device=device, dtype=dtype)
    gradient = torch.randn(_TOKENS, _INNER, device=device, dtype=dtype)
    flops = 2 * _TOKENS * _WIDTH * _INNER
    forward = _best(lambda: torch.nn.functional.linear(x, weight), device)
    backward = _best(lambda: gradient @ weight, device)
    return flops / forward / 1e9, flops / backward / 1e9


def _attention(device: torch.device, dtype: torch.dtype) -> dict[str, float]:
    from perfit.backbone.prefix_attention import prefix_attention
    from perfit.backbone.prefix_cache import BEFORE, Before

    rows, heads, kinds, t, own, shared, size = 16, 9, 3, 10, 24, 64, 64

    def random(*shape: int, learns: bool = False) -> Tensor:
        return torch.randn(*shape, device=device, dtype=dtype, requires_grad=learns)

    q, k, v = random(rows, heads, t, size, learns=True), *(random(rows, kinds, t, size, learns=True) for _ in "kv")
    before = Before(
        own=(random(rows, kinds, own, size), random(rows, kinds, own, size)),
        shared=(random(1, kinds, shared, size), random(1, kinds, shared, size)),
    )
    mask = torch.zeros(rows, 1, t, shared + own + t, device=device)

    def apart() -> None:
        key = k * 1
        setattr(key, BEFORE, before)
        out, _ = prefix_attention(torch.nn.Module(), q, key, v, mask)
        torch.autograd.grad(out.sum(), (q, k, v))

    def joined() -> None:
        key, value = before.joined(k, v)
        out = torch.nn.functional.scaled_dot_product_attention(q, key, value, attn_mask=mask.to(dtype), enable_gqa=True)
        torch.autograd.grad(out.sum(), (q, k, v))

    return {"apart": _best(apart, device) * 1e3, "joined": _best(joined, device) * 1e3}
