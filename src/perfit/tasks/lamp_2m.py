"""LaMP-2M: the tag a user gives a film (paper, Table 6; OPPU "movie_tagging")."""

from perfit.tasks.task import Task

LABELS = (
    "sci-fi",
    "based on a book",
    "comedy",
    "action",
    "twist ending",
    "dystopia",
    "dark comedy",
    "classic",
    "psychology",
    "fantasy",
    "romance",
    "thought-provoking",
    "social commentary",
    "violence",
    "true story",
)

_QUESTION = (
    "Which tag does this movie relate to among the following tags? "
    "Just answer with the tag name without further explanation."
)
_INSTRUCTION = f"{_QUESTION} tags: [{', '.join(LABELS)}]\n description: "

MOVIE_TAGGING = Task(
    name="movie_tagging",
    lamp_id="LaMP_2M",
    kind="label",
    prompt=_INSTRUCTION + "{input} tag:",
    history_prompt=_INSTRUCTION + "{description} tag:",
    history_answer="tag",
    marker="] description: ",
    labels=LABELS,
    retrieval_item="description: {description} tag: {tag}\n",
    retrieval_query=_QUESTION + "\n description: {input}",
)
