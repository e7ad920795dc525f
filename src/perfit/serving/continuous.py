"""Transformers' continuous batching, stepped from outside: the only file that knows its insides.

It packs the tokens of many requests into one row, keeps their keys and values in pages, splits long prompts, and puts
requests out and in again when pages run short. What it is told here: which tokens come next, when a request ends, and what
a page is known by. ``TOUCHED`` names every part of it that is used; a test fails by name when one is not there any more.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MethodType
from typing import Any

import torch
import transformers
from torch import Tensor

from perfit.backbone.model import Backbone
from perfit.backbone.taps import Changes, running
from perfit.backbone.twin import twin
from perfit.errors import BaseModelError
from perfit.serving.block_keys import BlockKeys, Edits
from perfit.serving.piecewise import NAME, attend_piecewise

KNOWN = ((5, 23), (5, 24))
"""Versions of transformers whose insides are known: from the first on, below the second."""

_ROOM = "transformers.generation.continuous_batching"
TOUCHED: Mapping[str, tuple[str, ...]] = {
    f"{_ROOM}.continuous_api:ContinuousBatchingManager.__init__": (
        "model",
        "generation_config",
        "continuous_batching_config",
    ),
    f"{_ROOM}.continuous_api:ContinuousBatchingManager._create_batch_processor": (),
    f"{_ROOM}.continuous_api:ContinuousBatchProcessor.prepare_next_batch": (),
    f"{_ROOM}.continuous_api:ContinuousBatchProcessor._generation_step": ("model",),
    f"{_ROOM}.continuous_api:ContinuousBatchProcessor.update_batch": (),
    f"{_ROOM}.continuous_api:ContinuousBatchProcessor.reset": (),
    f"{_ROOM}.scheduler:Scheduler.add_waiting_request": ("state",),
    f"{_ROOM}.scheduler:Scheduler.set_request_cancellation": ("request_id",),
    f"{_ROOM}.scheduler:Scheduler.clear_cancelled_requests": (),
    f"{_ROOM}.input_outputs:ContinuousBatchingIOs.reset": (),
    f"{_ROOM}.model_runner:ModelRunner._sample": ("scores", "output_ids"),
    f"{_ROOM}.model_runner:infer_max_single_request_tokens": ("cache",),
    f"{_ROOM}.requests:RequestState.__init__": ("request_id", "initial_tokens", "max_new_tokens"),
    f"{_ROOM}.requests:FutureRequestState.__init__": ("state", "has_new_token", "complete_blocks", "query_length"),
    f"{_ROOM}.cache:PagedAttentionCache.update": ("key_states", "value_states", "layer_idx", "kwargs"),
    f"{_ROOM}.cache:PagedAttentionCache.search_prefix_match": ("request_id", "prompt_ids"),
    f"{_ROOM}.cache:PagedAttentionCache.free_blocks": ("request_id", "no_cache"),
    f"{_ROOM}.cache:PagedAttentionCache.evict_cached_blocks": (),
    f"{_ROOM}.cache_allocators.cache_allocator:CacheAllocator.mark_complete_blocks": (
        "request_id",
        "token_ids",
        "new_new_blocks",
    ),
    f"{_ROOM}.cache_allocators.cache_allocator:CacheAllocator.acquire_prefix_blocks": (
        "request_id",
        "prefix_len",
        "block_ids",
    ),
    f"{_ROOM}.cache_allocators.cache_allocator:BlockLedger.register_new_hash": ("block_id", "block_hash"),
    f"{_ROOM}.cache_allocators.cache_allocator:BlockLedger.acquire": ("block_id",),
    f"{_ROOM}.cache_allocators.cache_allocator:BlockLedger.release": ("block_id", "no_cache"),
    f"{_ROOM}.cache_allocators.cache_pool:CachePool.free_blocks": (),
    "transformers.integrations.sdpa_attention:sdpa_attention_forward": (
        "module",
        "query",
        "key",
        "value",
        "attention_mask",
        "cache",
        "kwargs",
    ),
    "transformers:AttentionInterface.register": ("key", "value"),
}
"""Each function that is called or replaced, and the parameters that it must have."""


@dataclass(frozen=True)
class Paging:
    """How much is kept and run at a time; all of it explicit, for transformers would take most of a machine's memory.

    Attributes:
        rows: Most requests in flight.
        page: Tokens of a page.
        tokens: Tokens of all requests in flight together, kept as keys and values.
        step: Most tokens of one forward.
        share: Whether requests read what others have computed of the same beginning.
    """

    rows: int = 32
    page: int = 16
    tokens: int = 16_384
    step: int = 512
    share: bool = True


@dataclass(frozen=True)
class Running:
    """Tokens of one request in the forward that comes: which request, how many came before, how many run."""

    id: str
    start: int
    count: int


class Pages:
    """Requests in flight on one base, a forward at a time; for the one thread that owns the base.

    The base itself stays as it is: a copy of its modules, which shares every weight, is what runs.

    Args:
        backbone: The base.
        paging: How much at a time.

    Attributes:
        backbone: The copy that runs, to be edited by its taps.
        capacity: Most tokens of one request, prompt and answer.
        shares: Whether beginnings are shared; a base with sliding attention shares none.

    Raises:
        BaseModelError: This version of transformers is not known, or it does not take this base.
    """

    def __init__(self, backbone: Backbone, paging: Paging):
        check_version()
        from transformers import GenerationConfig
        from transformers.generation.configuration_utils import ContinuousBatchingConfig
        from transformers.generation.continuous_batching.continuous_api import ContinuousBatchingManager
        from transformers.generation.continuous_batching.model_runner import infer_max_single_request_tokens

        base = backbone.model
        model = twin(base, (base.config, copy.deepcopy(base.config)))
        model.generation_config = GenerationConfig(do_sample=False, max_new_tokens=1)
        self.backbone = Backbone(model, backbone.tokenizer, name=backbone.name, layers_path=backbone.layers_path)
        self.paging = paging
        config = ContinuousBatchingConfig(
            page_size=paging.page,
            num_blocks=-(-paging.tokens // paging.page),
            max_batch_tokens=paging.step,
            max_requests_per_batch=paging.rows,
            max_blocks_per_request=0,
            allow_block_sharing=paging.share,
            use_async_batching=False,
            use_cuda_graph=False,
            auto_switch_to_flash=False,
            max_memory_percent=1.0,
        )
        try:
            with torch.random.fork_rng():  # it seeds the generator that everybody draws from
                manager = ContinuousBatchingManager(model, model.generation_config, config)
                self._processor: Any = manager._create_batch_processor()
        except (ValueError, TypeError, AttributeError, KeyError, NotImplementedError) as error:
            raise BaseModelError(
                f"{backbone.name or type(base).__name__}: transformers cannot answer many at once on this base "
                f"({type(error).__name__}); use the reference engine"
            ) from error
        if model.config._attn_implementation == "sdpa" and model.device.type == "cpu":
            # After the processor was made, which keeps a mask for "sdpa" alone.
            transformers.AttentionInterface.register(NAME, attend_piecewise)
            model.config._attn_implementation = NAME
        self._keys = BlockKeys(paging.page)
        self._edits: dict[str, Edits] = {}
        cache = self._processor.cache
        self.capacity: int = infer_max_single_request_tokens(cache)
        self.shares: bool = cache.use_prefix_sharing
        self._unsound: Tensor | None = None
        self._choose: Callable[[Tensor], Sequence[int]] = lambda logits: []
        self._replace_parts(cache)

    def add(self, request: str, prompt: Sequence[int], edits: Edits) -> None:
        """Take a request in; it runs from the next forward on."""
        from transformers.generation.continuous_batching.requests import RequestState

        self._edits[request] = edits
        self._processor.scheduler.add_waiting_request(
            RequestState(request_id=request, initial_tokens=list(prompt), max_new_tokens=None)
        )

    def prepare(self) -> list[Running]:
        """What the next forward runs, in the order of its tokens; nothing where no request is in flight."""
        if not self._processor.prepare_next_batch():
            return []
        return [
            Running(one.state.request_id, one.state.position_offset - one.query_length, one.query_length)
            for one in self._batch()
        ]

    def asked(self) -> list[str]:
        """The requests whose next token comes with this forward, in the order of its logits."""
        return [one.state.request_id for one in self._batch() if one.has_new_token]

    def forward(self, changes: Changes, choose: Callable[[Tensor], Sequence[int]]) -> list[str]:
        """Run the forward that was prepared.

        Args:
            changes: Edits, by taps of ``backbone``.
            choose: Turns logits [asked, vocabulary], fp32, into the next token of each of ``asked``.

        Returns:
            Requests whose states were not finite. What was computed of them is zeros to all others; end them without
            ``keep``.
        """
        batch = self._batch()
        self._choose = choose
        self._unsound = None
        running(lambda: self._processor._generation_step(self.backbone.model), changes)
        unsound: list[str] = []
        if self._unsound is not None:
            begin, flags = 0, self._unsound.tolist()
            for one in batch:
                if any(flags[begin : begin + one.query_length]):
                    unsound.append(one.state.request_id)
                begin += one.query_length
        self._processor.update_batch()
        return unsound

    def end(self, request: str, *, keep: bool = True) -> None:
        """Leave a request, wherever it is; without ``keep`` nothing that was computed for it can be found again."""
        scheduler, cache = self._processor.scheduler, self._processor.cache
        cache.free_blocks(request, no_cache=not keep)
        scheduler.set_request_cancellation(request)
        scheduler.clear_cancelled_requests()
        scheduler.block_new_requests = False  # those who were put out may come in again, as where it ends one itself
        self._edits.pop(request, None)

    def wipe(self) -> None:
        """Forget every page that no request in flight uses, and zero it."""
        cache = self._processor.cache
        cache.evict_cached_blocks()
        sectors, zero = cache.cache_tensor.view(-1, cache.bytes_per_sector), []
        taken: set[int] = set()
        for allocator in cache.cache_allocators.values():
            used = {block for blocks in allocator.block_table.values() for block in blocks}
            mine = {block // allocator.blocks_per_sector for block in used}
            taken |= mine
            blocks = [place for sector in mine for place in _within(sector, allocator.blocks_per_sector)]
            zero.append((allocator._copy_view, [block for block in blocks if block not in used]))
        zero.append((sectors, [sector for sector in range(len(sectors)) if sector not in taken]))
        for view, places in zero:
            view[torch.tensor(places, dtype=torch.long, device=view.device)] = 0
        self._processor.inputs_and_outputs.reset()

    def reset(self) -> None:
        """Leave every request, and forget and zero every page."""
        for request in list(self._edits):
            self.end(request, keep=False)
        self._processor.reset()
        self.wipe()

    def _batch(self) -> list[Any]:
        batch: list[Any] = self._processor.inputs_and_outputs.requests_in_batch
        return batch

    # What is put in the place of transformers' own, each for this one object.

    def _replace_parts(self, cache: Any) -> None:
        self._processor.model_runner._sample = self._sample
        update = cache.update

        def guarded(key_states: Tensor, value_states: Tensor, layer_idx: int, kwargs: dict[str, Any]) -> Any:
            return update(self._sound(key_states), self._sound(value_states), layer_idx, kwargs)

        cache.update = guarded
        cache.search_prefix_match = self._search
        for allocator in cache.cache_allocators.values():
            allocator.mark_complete_blocks = MethodType(self._mark_of(allocator), allocator)

    def _sample(self, scores: Tensor, output_ids: Tensor) -> None:
        count = len(self.asked())
        if count:
            tokens = self._choose(scores[0, :count])
            output_ids[0, :count] = torch.tensor(tokens, dtype=output_ids.dtype, device=output_ids.device)

    def _sound(self, states: Tensor) -> Tensor:
        """Keys or values [1, heads, tokens, size] without what is not finite: one row's would reach all others, for a
        weight of zero times infinity is none."""
        if states.device.type == "cpu" and math.isfinite(float(states.sum())):
            return states  # a sum is finite only where every number is; elsewhere than on a CPU, asking would stop the queue
        wrong = ~states.isfinite().all(-1).all(1)[0]
        self._unsound = wrong if self._unsound is None else self._unsound | wrong
        return states.nan_to_num(0.0, 0.0, 0.0)

    def _search(self, request: str, prompt: Sequence[int]) -> int:
        """How many tokens of a prompt are there already; the request then reads their pages."""
        if not self.shares:
            return 0
        (allocator,) = self._processor.cache.cache_allocators.values()
        edits, size = self._edits[request], self.paging.page
        key, blocks = self._keys.root(edits), []
        # Its last token runs in any case: its logits are wanted.
        for number in range((len(prompt) - 1) // size):
            key = self._keys.next(key, number, prompt[number * size : (number + 1) * size], edits)
            block = allocator.ledger.hash_to_block.get(key)
            if block is None:
                break
            blocks.append(block)
        length = len(blocks) * size
        if length:
            allocator.acquire_prefix_blocks(request, length, blocks)
        return length

    def _mark_of(self, allocator: Any) -> Callable[..., None]:
        def mark(_: Any, request: str, tokens: Sequence[int], new: int) -> None:
            """Make the request's pages known that the last forward completed, and read a page that is known already
            instead of its own copy."""
            edits, size, ledger = self._edits[request], self.paging.page, allocator.ledger
            table = allocator.block_table[request]
            key = self._keys.root(edits)
            for number, block in enumerate(table):
                known = ledger.block_to_hash.get(block)
                if known is None:
                    inside = tokens[number * size : (number + 1) * size]
                    if new == 0 or len(inside) < size:
                        break
                    known = self._keys.next(key, number, inside, edits)
                    new -= 1
                    same = ledger.register_new_hash(block, known)
                    if same is not None:
                        ledger.acquire(same)
                        table[number] = same
                        if ledger.release(block):
                            allocator.pool.free_blocks(allocator.index, [block])
                key = known

        return mark


def _within(sector: int, blocks: int) -> range:
    return range(sector * blocks, (sector + 1) * blocks)


def check_version() -> None:
    """Refuse a transformers whose insides nobody has looked at.

    Raises:
        BaseModelError: It is outside ``KNOWN``.
    """
    version = tuple(int(part) for part in transformers.__version__.split(".")[:2])
    low, high = KNOWN
    if not low <= version < high:
        raise BaseModelError(
            f"transformers {transformers.__version__}: the batched engine knows {low[0]}.{low[1]} up to below "
            f"{high[0]}.{high[1]}; install such a one, or use the reference engine"
        )
