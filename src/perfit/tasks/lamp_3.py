"""LaMP-3: the score a user gives with a review (paper, Table 6; OPPU "product_rating")."""

from perfit.tasks.task import Task

_QUESTION = "What is the score of the following review on a scale of 1 to 5?"
_INSTRUCTION = f"{_QUESTION} just answer with 1, 2, 3, 4, or 5 without further explanation. review: "

PRODUCT_RATING = Task(
    name="product_rating",
    lamp_id="LaMP_3",
    kind="rating",
    prompt=_INSTRUCTION + "{input}\n score:",
    history_prompt=_INSTRUCTION + "{text}\n score:",
    history_answer="score",
    marker="without further explanation. review: ",
    labels=("1", "2", "3", "4", "5"),
    retrieval_item="review: {text} score: {score}\n",
    retrieval_query=_QUESTION + " review: {input}",
)
