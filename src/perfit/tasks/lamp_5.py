"""LaMP-5: a researcher's title for an abstract (paper, Table 6; OPPU "scholarly_title")."""

from perfit.tasks.task import Task

SCHOLARLY_TITLE = Task(
    name="scholarly_title",
    lamp_id="LaMP_5",
    kind="text",
    prompt="Generate a title for the following abstract of a paper.\n abstract: {input} title:",
    history_prompt="Generate a title for the following abstract of a paper.\n abstract: {abstract} title:",
    history_answer="title",
    marker="Generate a title for the following abstract of a paper: ",
    retrieval_item="abstract: {abstract} title: {title}\n",
    retrieval_query="Generate a title for the following abstract of a paper: {input}",
)
