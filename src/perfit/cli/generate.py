"""``perfit generate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from perfit.cli.options import BASE_OF_RUN, JSON, opens_a_base
from perfit.cli.show import Screen, as_json, no_loading_bars, one_line, say
from perfit.errors import ConfigError
from perfit.how_to_open import USUAL, HowToOpen


@opens_a_base
def generate(
    texts: Annotated[
        list[str] | None, typer.Argument(help="Texts to answer; the task's prompt goes around each.")
    ] = None,
    run: Annotated[Path, typer.Option("--run", help="Run directory of perfit train.")] = Path("runs/quickstart"),
    user: Annotated[
        list[str] | None,
        typer.Option("--user", help="Whose shift: an id, base or collective (the default). Several answer each text."),
    ] = None,
    input: Annotated[
        Path | None, typer.Option("--input", help='JSON Lines of {"user": ..., "input": ...} instead of TEXTS.')
    ] = None,
    histories: Annotated[
        Path | None,
        typer.Option(
            "--histories", help="Users' data: past items before prompts (runs with retrieved above 0), and --memory."
        ),
    ] = None,
    answers: Annotated[
        str,
        typer.Option(
            help="free: generated; trie: the most probable label, never anything else; expected: ratings' median and mean."
        ),
    ] = "free",
    memory: Annotated[
        bool,
        typer.Option("--memory", help="Mix label scores with a memory of everybody's history (trie, expected)."),
    ] = False,
    max_new_tokens: Annotated[int | None, typer.Option(help="Limit per answer; the task's own if not given.")] = None,
    stop: Annotated[
        list[str] | None,
        typer.Option(
            "--stop", help="Text that ends an answer, such as $'\\n'; may be repeated. The task's if not given."
        ),
    ] = None,
    repetition_penalty: Annotated[
        float | None, typer.Option(help="Above 1: what was said is said less easily again. The task's if not given.")
    ] = None,
    no_repeat_ngram: Annotated[
        int | None, typer.Option(help="So many tokens in a row never come twice; 0: they may. The task's if not given.")
    ] = None,
    sample: Annotated[bool, typer.Option(help="The paper's sampling instead of greedy.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of sampling.")] = 0,
    base: BASE_OF_RUN = None,
    how: HowToOpen = USUAL,
    json: JSON = False,
) -> None:
    """Answer texts for users; rows of different users run in one batch."""
    if (input is None) == (not texts):
        raise ConfigError("generate: give texts to answer, or --input with a JSON Lines file")
    if input is not None and user:
        raise ConfigError("generate: --input names a user on every line; leave --user out")
    if memory and (histories is None or answers == "free"):
        raise ConfigError("generate: --memory needs --histories DATA, and --answers trie or expected")
    for option, value in (
        ("--max-new-tokens", max_new_tokens),
        ("--stop", stop or None),
        ("--repetition-penalty", repetition_penalty),
        ("--no-repeat-ngram", no_repeat_ngram),
    ):
        if answers != "free" and value is not None:
            raise ConfigError(f"generate: --answers {answers} chooses among the task's labels; leave {option} out")
    from perfit.data.asked import checked_arguments, read_asked

    if input is not None:
        pairs = read_asked(input)
    else:
        names = checked_arguments(user or ["collective"], "user")
        pairs = [(name, text) for text in checked_arguments(texts or [], "text") for name in names]
    from dataclasses import replace

    from perfit.evaluation.evaluate import check_answers
    from perfit.inference.decoding import Decoding
    from perfit.personalizer import PerFit
    from perfit.run import RunDirectory
    from perfit.tasks.label_scores import answers_from

    askers = dataset = None
    if histories is not None:
        from perfit.data import read_dataset
        from perfit.data.schema import Dataset, User
        from perfit.tombstones import Tombstones

        read, erased = read_dataset(histories), Tombstones(run)
        dataset = Dataset(erased.living(read.users), erased.living(read.others))
        known = {one.id: one for one in dataset.users}
        askers = [known.get(name, User(name)) for name, _ in pairs]  # who is not there has no past items
    RunDirectory(run).manifest()  # a folder that is no run must not be taken for a base
    no_loading_bars()
    perfit = PerFit.from_pretrained(run, base_at=base, **how.given())
    decoding = Decoding(sample=sample, seed=seed)
    check_answers(answers, perfit.task, decoding)
    limit = perfit.answer_limit() if max_new_tokens is None else max_new_tokens
    decoding = decoding.of(perfit.task, limit)
    if stop:
        decoding = replace(decoding, stop=tuple(checked_arguments(stop, "stop")))
    if repetition_penalty is not None:
        decoding = replace(decoding, repetition_penalty=repetition_penalty)
    if no_repeat_ngram is not None:
        decoding = replace(decoding, no_repeat_ngram=no_repeat_ngram)
    screen = Screen(quiet=json)
    texts, users = [text for _, text in pairs], [name for name, _ in pairs]
    with screen.counting("answering", len(pairs), "texts") as advance:
        if answers == "free":
            said = perfit.generate(texts, users, askers=askers, decoding=decoding, done=advance, listener=screen)
        else:
            scores = perfit.score_labels(texts, users, askers=askers, done=advance, listener=screen)
            if memory and dataset is not None:
                from perfit.methods.memory import Memory

                asked = [(name, perfit.query(text)) for name, text in pairs]
                scores = Memory.fit(dataset, perfit.task).mixed(scores, asked)
            said = answers_from(scores, perfit.task, answers)
    if json:
        as_json([{"user": u, "answer": a.strip()} for u, a in zip(users, said, strict=True)])
        return
    names = [one_line(name) for name, _ in pairs]
    width = max(map(len, names))
    for name, answer in zip(names, said, strict=True):
        say(f"{name:<{width}}  {answer.strip()}")
