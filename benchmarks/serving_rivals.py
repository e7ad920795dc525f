"""How others answer many users from one base: LoRA adapters of peft, switched or mixed in a batch, and ``transformers
serve`` without any user; asked as ``benchmarks/serving.py`` asks perfit's engines.

Adapters are OPPU's (r 8 on q and v) with random weights. Every answer has as many tokens as it may have.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import torch

Prompt = tuple[int, ...]


@dataclass
class Took:
    """What answering some prompts together took.

    Attributes:
        cpu, wall: Seconds in all.
        tokens: New tokens.
        firsts: Of each answer, seconds from when all were asked to its first token.
        shared: Share of prompt tokens that were there already.
        forwards: How many the base ran; 0 where nobody says.
    """

    cpu: float
    wall: float
    tokens: int
    firsts: list[float] = field(default_factory=list)
    shared: float = 0.0
    forwards: int = 0


class Adapters:
    """peft with one adapter a user.

    Args:
        folder: The base.
        users: How many adapters.
        dtype: Of base and adapters.
    """

    def __init__(self, folder: Path, users: int, dtype: torch.dtype):
        from peft import LoraConfig, get_peft_model
        from transformers import AutoModelForCausalLM

        base = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
        config = LoraConfig(r=8, lora_alpha=8, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
        self.model: Any = get_peft_model(base, config, adapter_name="0")
        for number in range(1, users):
            self.model.add_adapter(str(number), config)
        self.model.to(dtype).eval()

    def switched(self, prompts: Sequence[Prompt], new: int) -> Took:
        """One request after the other, each after its user's adapter was set."""
        cpu, wall, firsts = time.process_time(), time.perf_counter(), list[float]()
        for number, prompt in enumerate(prompts):
            self.model.set_adapter(str(number))
            firsts.append(self._generate([prompt], new) - wall)
        return Took(time.process_time() - cpu, time.perf_counter() - wall, new * len(prompts), firsts)

    def mixed(self, prompts: Sequence[Prompt], new: int) -> Took:
        """All requests in one batch of ``generate``, which takes each row's adapter by name."""
        cpu, wall = time.process_time(), time.perf_counter()
        first = self._generate(prompts, new, adapter_names=[str(number) for number in range(len(prompts))]) - wall
        return Took(time.process_time() - cpu, time.perf_counter() - wall, new * len(prompts), [first] * len(prompts))

    @torch.no_grad()
    def _generate(self, prompts: Sequence[Prompt], new: int, **more: Any) -> float:
        """When the first token came."""
        came: list[float] = []

        def told(ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
            came.append(time.perf_counter())
            return torch.zeros(len(ids), dtype=torch.bool)

        ids = torch.tensor([list(prompt) for prompt in prompts])
        self.model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            min_new_tokens=new,
            max_new_tokens=new,
            stopping_criteria=[told],
            **more,
        )
        return came[0]


class TransformersServe:
    """A ``transformers serve`` process; CPU seconds are the process's.

    Args:
        folder: The base.
        dtype: How it is loaded.
        log: Where what it says goes.

    Raises:
        RuntimeError: It does not come up within three minutes.
    """

    def __init__(self, folder: Path, dtype: str, log: Path):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        words = (
            f"serve {folder} --continuous-batching --cb-num-blocks 1024 --cb-block-size 16 --cb-max-batch-tokens 512"
        )
        words += f" --device cpu --dtype {dtype} --host 127.0.0.1 --port {port}"
        self._process = subprocess.Popen(
            ["transformers", *words.split()],
            stdout=log.open("w"),
            stderr=subprocess.STDOUT,
            env=os.environ | {"HF_HUB_OFFLINE": "1"},
        )
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=600)
        self._model = str(folder)
        until = time.monotonic() + 180
        while time.monotonic() < until and self._process.poll() is None:
            try:
                if self._http.get("/health").status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.5)
        self.close()
        raise RuntimeError(f"transformers serve did not come up: {log.read_text()[-500:]}")

    def ask(self, texts: Sequence[str], new: int) -> Took:
        """All texts at once, a connection each."""
        cpu, wall = self._cpu(), time.perf_counter()
        told: list[tuple[float, int]] = []
        threads = [threading.Thread(target=lambda text=text: told.append(self._one(text, new, wall))) for text in texts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if len(told) < len(texts):
            raise RuntimeError(f"transformers serve answered {len(told)} of {len(texts)}")
        return Took(
            self._cpu() - cpu, time.perf_counter() - wall, sum(count for _, count in told), [first for first, _ in told]
        )

    def close(self) -> None:
        """End the process."""
        self._http.close()
        self._process.kill()
        self._process.wait()

    def _one(self, text: str, new: int, begun: float) -> tuple[float, int]:
        first, count = 0.0, 0
        body = {"model": self._model, "prompt": text, "max_tokens": new, "temperature": 0.0, "stream": True}
        with self._http.stream("POST", "/v1/completions", json=body) as answer:
            answer.raise_for_status()
            for line in answer.iter_lines():
                if line.startswith("data: {") and json.loads(line[6:]).get("choices"):
                    first = first or time.perf_counter() - begun
                    count += 1
        return first, min(count, new)

    def _cpu(self) -> float:
        values = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(values[11]) + int(values[12])) / os.sysconf("SC_CLK_TCK")
