"""LaMP-2N: the category an author gives a news article (paper, Table 6; OPPU "news_categorize")."""

from perfit.tasks.task import Task

LABELS = (
    "travel",
    "education",
    "parents",
    "style & beauty",
    "entertainment",
    "food & drink",
    "science & technology",
    "business",
    "sports",
    "healthy living",
    "women",
    "politics",
    "crime",
    "culture & arts",
    "religion",
)

_INSTRUCTION = (
    "Which category does this article relate to among the following categories? "
    "Just answer with the category name without further explanation. "
    f"categories: [{', '.join(LABELS)}]\n article: "
)

NEWS_CATEGORIZE = Task(
    name="news_categorize",
    lamp_id="LaMP_2N",
    kind="label",
    prompt=_INSTRUCTION + "{input} category:",
    history_prompt=_INSTRUCTION + "{text} category:",
    history_answer="category",
    marker="] article: ",
    labels=LABELS,
    retrieval_item="article: {text} category: {category}\n",
    # "arcicle" is the reference's spelling; correcting it would change what BM25 finds.
    retrieval_query="Which category does this article relate to among the following categories? arcicle: {input}",
)
