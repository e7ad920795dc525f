"""How a model is asked for a user's profile: the OPPU protocol's wording for LaMP tasks, and one for any other task."""

from __future__ import annotations

from perfit.tasks.task import Task

_TITLES = (
    "Given this author’s previous publications, try to describe a template for their titles. I want to be able to "
    "accurately predict the title of one of the papers from the abstract. Only generate the template description, "
    "nothing else."
)
_QUESTIONS = {
    "movie_tagging": (
        "Look at the following past movies this user has watched and determine the most popular tag they labeled. "
        "Answer in the following form: most popular tag: <tag>."
    ),
    "news_categorize": (
        "Look at the following past articles this journalist has written and determine the most popular category they "
        "write in. Answer in the following form: most popular category: <category>."
    ),
    "news_headline": (
        "Given this author’s previous articles, try to describe a template for their headlines. I want to be able to "
        "accurately predict the headline gives one of their articles. Be specific about their style and wording, don’t "
        "tell me anything generic."
    ),
    "product_rating": (
        "Based on this user’s past reviews, what are the most common scores they give for positive and negative "
        "reviews? Answer in the following form: most common positive score: <most common positive score>, most common "
        "negative score: <most common negative score>."
    ),
    "scholarly_title": _TITLES,
    "tweet_paraphrase": (
        "Given this person’s previous tweets, try to describe a template for their tweets. I want to take a generic "
        "sentence and rephrase it to sound like one of their tweets, with the same "
        "style/punctuation/capitalization/wording/tone/etc. as them. Only give me the template description, nothing "
        "else."
    ),
}
_ANY = {
    "label": (
        "Look at the following past items of this user and determine the answers they give most often. Answer in the "
        "following form: most frequent answers: <answers>."
    ),
    "rating": (
        "Based on this user’s past items, what are the most common scores they give? Answer in the following form: "
        "most common scores: <scores>."
    ),
    "text": (
        "Given this user’s past items, try to describe a template for how they write their answers. Be specific about "
        "their style and wording, don’t tell me anything generic."
    ),
}


def profile_prompt(task: Task, documents: list[str]) -> str:
    """The prompt for a profile; past items stand in it as the reference has them, a list between brackets."""
    question = _QUESTIONS.get(task.name, _ANY[task.kind])
    return f"{question} User History: {documents} Answer:"
