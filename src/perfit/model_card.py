"""What a run is, for whoever finds its folder: base, task, settings, scores, limits. Counts alone, no user's id or text."""

from __future__ import annotations

from pathlib import Path

from perfit import evaluations
from perfit.belonging import parts_of
from perfit.config import PerFitConfig
from perfit.durable.files import write_atomically
from perfit.edits.shift import parameter_count
from perfit.markdown import markdown, markdown_table
from perfit.run import FILES, RunDirectory

_MEASURED = "What `perfit evaluate` measured last, on this run's own queries:"

_SINCE = "Users were trained again since: these are scores of their earlier shifts."

_BEFORE = "### Measured before\n"

_BEGINNING = "---\nlibrary_name: perfit\n"

_HEAD = """tags: [perfit, personalisation]
---

# A perfit run

Personal shifts of hidden states for many users, on one frozen language model (PerFit). Nothing of the base is in here.
"""

_LIMITS = """## Limits

- It answers with this base alone; any other is refused.
- What users wrote made their shifts. Treat the folder as personal data; `perfit users delete` erases one user.
- A personal shift helps some users and harms others. Scores of few users or few queries cannot show which.
- {stage1}
- The base's licence is its own and holds for what it says here.
"""

_LOADING = """## Loading

```python
from perfit import PerFit

perfit = PerFit.from_pretrained("<this folder>")  # base_at="...": where the base lies now, if it moved
perfit.generate(["a text"], users=["collective"])  # or a user's id
```

On the command line: `perfit generate --run <this folder>`, `perfit info <this folder>`.
"""


def write_card(run: RunDirectory, scores: str = "") -> None:
    """Write the run's ``README.md`` anew, with the table of an evaluation where there is one.

    Raises:
        StoreError: The manifest is missing or damaged.
    """
    write_atomically(run.path / "README.md", card(run, scores).encode())


def write_first_card(run: RunDirectory) -> None:
    """The card of a run that has none yet; one with scores stays."""
    if _BEGINNING not in _there(run):
        write_card(run)


def card(run: RunDirectory, scores: str = "") -> str:
    """The text of ``README.md``."""
    return "\n".join(
        [
            _BEGINNING + _HEAD,
            _facts(run),
            "## Measured\n",
            f"{_MEASURED}\n\n{scores}{_earlier(run)}" if scores else "Nothing yet; `perfit evaluate` does.\n",
            _LIMITS.format(stage1=_stage1(run)),
            _LOADING,
            f"## Files\n\n{FILES}",
        ]
    )


def shows_scores(run: RunDirectory) -> bool:
    """Whether the card that lies there has scores in it."""
    return _MEASURED in _there(run)


def shows_earlier_scores(run: RunDirectory) -> bool:
    """Whether the card that lies there tells of evaluations before the last."""
    return _BEFORE in _there(run)


def without_earlier_scores(run: RunDirectory) -> None:
    """Take evaluations before the last out of the card; the last stays."""
    before, _, rest = _there(run).partition(_BEFORE)
    write_atomically(run.path / "README.md", (before + rest[rest.index(_LIMITS[:10]) :]).encode())


def shifts_change(run: RunDirectory) -> None:
    """Before users are trained again: what the card and the list of evaluations say is said of the earlier shifts.

    Raises:
        DamagedError: The list is not as it was written.
    """
    evaluations.shifts_change(run)
    there = _there(run)
    if _MEASURED in there and _SINCE not in there:
        write_atomically(run.path / "README.md", there.replace(_MEASURED, f"{_SINCE} {_MEASURED}").encode())


def _earlier(run: RunDirectory) -> str:
    lines = [f"- {markdown(evaluations.line(one))}\n" for one in reversed(evaluations.evaluations(run)[:-1])]
    return "".join(["\n", _BEFORE, "\n", *lines]) if lines else ""


def _there(run: RunDirectory) -> str:
    path = run.path / "README.md"
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def _strength(config: PerFitConfig) -> str:
    if not config.held_out:
        return f"{config.strength:g}"
    share, prior = f"{config.held_out:g}", f"{config.strength_prior:g}"
    return f"each user's own, at most {config.strength:g}: a trial on the newest {share} of the history, prior {prior} nats"


def _facts(run: RunDirectory) -> str:
    manifest = run.manifest()
    config, task, identity = parts_of(run)
    base, data, layers = manifest["base"], manifest.get("data"), len(config.layers)
    first = parameter_count(layers, config.collective_rank, identity.hidden_size)
    own = parameter_count(layers, config.personal_rank, identity.hidden_size)
    # Of a base in a folder the last part of its path: the rest says more of the machine than of the base.
    name = Path(base["name"]).name if Path(base["name"]).is_absolute() else base["name"]
    revision = f" at {base['revision']}" if base.get("revision") else ""
    labels = f", {len(task.labels)} labels" if task.labels else ""
    trained = "not kept here" if data is None else f"{data['users']} users, {data['others']} others for stage 1"
    stages = "; ".join(
        f"stage {number}: {stage.epochs} epochs of batches of {stage.batch_size} at {stage.learning_rate:g}"
        for number, stage in ((1, config.stage1), (2, config.stage2))
    )
    rows = [
        ("base", f"{name}{revision}, {identity.architecture}, {identity.n_layers} layers of {identity.hidden_size}"),
        ("precision", f"{base['dtype']} on {base['device']}; shifts float32, stored as bfloat16"),
        ("task", f"{task.name} ({task.kind}{labels})"),
        ("edited", f"layers {', '.join(map(str, config.layers))}, tokens {config.positions} of the prompt"),
        (
            "parameters",
            f"{first + own:,} shared (rank {config.collective_rank} and {config.personal_rank}), {own:,} a user",
        ),
        ("trained on", trained),
        ("training", stages),
        ("strength", _strength(config)),
        ("past items before a prompt", f"{config.retrieved}"),
        ("chat template", "yes" if config.chat_template else "no"),
        ("seed", f"{config.seed}"),
        ("versions", ", ".join(f"{package} {version}" for package, version in manifest["versions"].items())),
    ]
    return "\n".join([*markdown_table(("", ""), [(what, markdown(value)) for what, value in rows], aligned=False), ""])


def _stage1(run: RunDirectory) -> str:
    manifest = run.manifest()
    if manifest.get("stage1_from"):
        return "The shared shift was trained in another run; what that one learnt from stays in it."
    others = (manifest.get("data") or {}).get("others")
    if manifest["config"].get("stage1_users") == "all" or others == 0:
        return "The shared shift learnt from the users' own histories too: erasing a user does not reach it."
    return "The shared shift learnt from other users, who are not listed; erasing a user does not reach it."
