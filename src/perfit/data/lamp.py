"""LaMP's own files: ``{train,dev}_questions.json`` with ``{train,dev}_outputs.json``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from perfit.data.golds import read_golds
from perfit.data.jsonio import read_json
from perfit.data.lamp_names import task_from_lamp_id
from perfit.data.oppu import find_json
from perfit.data.records import Place, as_object, needed_text, optional_text, parse_item
from perfit.data.schema import HistoryItem
from perfit.errors import DataError

SPLITS = ("train", "dev", "test")


@dataclass(frozen=True, slots=True)
class LampQuestion:
    """One question with the profile LaMP gives for it.

    Attributes:
        id / input / gold: The question, its text and its answer.
        profile: The user's items as far as this question may know them.
        user_id: The user, in the newer files.
    """

    id: str
    input: str
    gold: str
    profile: tuple[HistoryItem, ...]
    user_id: str | None


def question_files(folder: Path) -> list[Path]:
    """The question files of a folder whose answers are there too: train, dev, test."""
    found = (find_json(folder, f"{split}_questions") for split in SPLITS)
    return [file for file in found if file is not None and _outputs_of(file) is not None]


def read_lamp(path: Path) -> tuple[list[LampQuestion], str | None, list[str]]:
    """Reads a folder of LaMP files, or one questions file with its outputs file beside it.

    The public test questions have no answers; in a folder they are left out.

    Returns:
        The questions in file order, the task's name if the files tell it, and the names of the files read.

    Raises:
        DataError: When answers are missing, a question id comes twice, or a record is faulty.
    """
    files = question_files(path) if path.is_dir() else [path]
    if not files:
        raise DataError(
            "no *_questions.json with its *_outputs.json", file=str(path), remedy="fetch both: perfit data download"
        )
    questions: list[LampQuestion] = []
    seen: set[str] = set()
    task = None
    for file in files:
        outputs = _outputs_of(file)
        if outputs is None:
            raise DataError(
                "the answers are missing", file=str(file), remedy="put the *_outputs.json of this split beside it"
            )
        lamp_id, golds = read_golds(outputs)
        read = _read_questions(file, golds, seen)
        fields = frozenset(name for question in read[:1] for item in question.profile[:1] for name in item.fields)
        task = task or (task_from_lamp_id(lamp_id, fields) if lamp_id else None)
        questions += read
    return questions, task, [file.name for file in files]


def _read_questions(file: Path, golds: dict[str, str], seen: set[str]) -> list[LampQuestion]:
    raw = read_json(file)
    if not isinstance(raw, list) or not raw:
        raise DataError("expected a list of questions", file=str(file), remedy="is this the right file?")
    questions = []
    for index, entry in enumerate(raw):
        place = Place(str(file), f"[{index}]")
        record = as_object(entry, place)
        question_id = needed_text(record, "id", place)
        if question_id in seen:
            raise place.error("the question id was used before", "do the splits overlap? convert them one by one")
        seen.add(question_id)
        if question_id not in golds:
            raise place.error("the outputs file has no answer for this question", "fetch both files of one split")
        raw_profile = record.get("profile")
        if not isinstance(raw_profile, list):
            raise place.error("the field 'profile' is missing or not a list", "an empty list is allowed")
        profile = tuple(
            parse_item(item, place.inside(f"profile[{number}]"), default_id=None)
            for number, item in enumerate(raw_profile)
        )
        if len({item.id for item in profile}) != len(profile):
            raise place.error("an item id comes twice in the profile", "give every item of a user an id of its own")
        user_id = optional_text(record, "user_id", place)
        text = needed_text(record, "input", place, may_be_empty=True)
        questions.append(LampQuestion(question_id, text, golds[question_id], profile, user_id))
    return questions


def _outputs_of(questions: Path) -> Path | None:
    stem = questions.name.split(".json")[0]
    return find_json(questions.parent, stem.removesuffix("_questions") + "_outputs")
