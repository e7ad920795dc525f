"""A task of one's own, described in a small YAML file.

A full example, ``support.yaml``::

    name: support_queue            # what results are filed under
    kind: label                    # label | rating | text
    prompt: "Which queue does this ticket belong to? queues: [billing, bugs, sales]\\n ticket: {input} queue:"
    input_field: ticket            # history field with the user's text
    answer_field: queue            # history field with the answer
    labels: [billing, bugs, sales] # kinds label and rating; quote "yes", "no", "on" and "off"
    max_new_tokens: 8              # optional, default 200
    stop: ["\\n"]                  # optional: texts that end an answer and are no part of it
    chat: true                     # optional: prompts are turns of the base's chat template, and records may hold messages
    # repetition_penalty: 1.2      # optional, default 1: what was said is said less easily again
    # no_repeat_ngram: 3           # optional, default 0: so many tokens in a row never come twice
    # history_prompt: "..."        # optional; default: prompt, with {ticket} in the place of {input}

and one with free text, where ``metric`` says what counts per query::

    name: subject_line
    kind: text
    prompt: "Write the subject of this e-mail.\\n e-mail: {input} subject:"
    input_field: body
    answer_field: subject
    metric: rougeL                 # optional: rougeL (default), rouge1, rougeL_recall, rouge1_recall, exact_match
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from perfit.errors import ConfigError
from perfit.shown import shown
from perfit.stop_strings import checked_stop
from perfit.tasks.task import Task
from perfit.tasks.template import slots

_REQUIRED = ("name", "kind", "prompt", "input_field", "answer_field")
_OPTIONAL = (
    *("history_prompt", "labels", "metric", "max_new_tokens", "stop", "repetition_penalty", "no_repeat_ngram", "chat"),
)


def load_task(path: str | Path) -> Task:
    """Read a task from a YAML file; its keys are shown in this module's docstring.

    Raises:
        ConfigError: The file cannot be read, is not YAML, or describes no task.
    """
    from perfit.yaml_text import read_yaml

    try:
        record = read_yaml(path, f"task file {path}")
    except OSError as error:
        raise ConfigError(
            f"task file {path}: cannot be read ({error.strerror}); give the path of a YAML file"
        ) from error
    if not isinstance(record, dict):
        raise ConfigError(f"task file {path}: not a list of 'key: value' lines; begin with 'name: my_task'")
    try:
        return task_from_mapping(record)
    except ConfigError as error:
        raise ConfigError(f"task file {path}: {error}") from error


def task_from_mapping(record: Mapping[Any, Any]) -> Task:
    """Build a task from the keys of the YAML form.

    Raises:
        ConfigError: A key is unknown or missing, or a value is unusable.
    """
    for key in record:
        if key not in _REQUIRED + _OPTIONAL:
            raise ConfigError(f"{shown(repr(key))} is not a key of a task; use {', '.join(_REQUIRED + _OPTIONAL)}")
    for key in _REQUIRED:
        if key not in record:
            raise ConfigError(f"{key} is missing; a task needs {', '.join(_REQUIRED)}")
    texts = {key: _text(record, key) for key in (*_REQUIRED, "history_prompt", "metric") if key in record}
    prompt, input_field = texts["prompt"], texts["input_field"]
    for key in ("input_field", "answer_field"):
        if slots(f"{{{texts[key]}}}") != [texts[key]]:
            raise ConfigError(f"{key} is {texts[key]!r}; use letters, digits and '_', as in 'review_text'")
    history_prompt = texts.get("history_prompt", prompt.replace("{input}", f"{{{input_field}}}"))
    kind = texts["kind"]
    return Task(
        name=texts["name"],
        lamp_id=None,
        kind=kind,  # type: ignore[arg-type]  # Task refuses other kinds itself
        prompt=prompt,
        history_prompt=history_prompt,
        history_answer=texts["answer_field"],
        history_input=_history_input(history_prompt, input_field) if "history_prompt" in texts else input_field,
        labels=_labels(record.get("labels", []), kind),
        metric=texts.get("metric"),
        max_new_tokens=record.get("max_new_tokens", 200),
        stop=checked_stop(record.get("stop", ())),
        chat=_switch(record, "chat"),
        repetition_penalty=record.get("repetition_penalty", 1.0),
        no_repeat_ngram=record.get("no_repeat_ngram", 0),
        retrieval_item=f"{{{input_field}}} answer: {{{texts['answer_field']}}}\n",
        retrieval_query="{input}",
        query_words=None,
        history_words=None,
    )


def _text(record: Mapping[Any, Any], key: str) -> str:
    value = record[key]
    if not isinstance(value, str):
        raise ConfigError(f"{key} is {shown(repr(value))} ({type(value).__name__}); use text, in quotes")
    if not value.strip():
        raise ConfigError(f"{key} is empty; give it a value or leave the line out")
    return value


def _switch(record: Mapping[Any, Any], key: str) -> bool:
    value = record.get(key, False)
    if not isinstance(value, bool):
        raise ConfigError(f"{key} is {shown(repr(value))} ({type(value).__name__}); use true or false")
    return value


def _history_input(history_prompt: str, input_field: str) -> str | None:
    """None for a history prompt without any field: plain language modelling on the answers."""
    fields = slots(history_prompt)
    if fields and input_field not in fields:
        raise ConfigError(
            f"history_prompt is {history_prompt!r}; it lacks {{{input_field}}}, the input_field; "
            "put it in, or name another input_field"
        )
    return input_field if fields else None


def _labels(value: object, kind: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ConfigError(f"labels is {shown(repr(value))} ({type(value).__name__}); use a list, as in [billing, bugs]")
    labels = []
    for position, label in enumerate(value):
        number = isinstance(label, int | float) and not isinstance(label, bool)
        if not isinstance(label, str) and not (kind == "rating" and number):
            raise ConfigError(
                f"labels[{position}] is {shown(repr(label))} ({type(label).__name__}); put it in quotes "
                "(unquoted yes, no, on, off and numbers are not text in YAML)"
            )
        labels.append(str(label))
    return tuple(labels)
