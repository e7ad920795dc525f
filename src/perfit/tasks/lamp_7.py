"""LaMP-7: a text in a user's own tweeting style (paper, Table 6; OPPU "tweet_paraphrase").

A past tweet has no neutral source text, so stage 2 is plain language modelling: ``tweet:`` -> the tweet.
"""

from perfit.tasks.task import Task

_INSTRUCTION = "Paraphrase the following text into tweet without any explanation before or after it"

TWEET_PARAPHRASE = Task(
    name="tweet_paraphrase",
    lamp_id="LaMP_7",
    kind="text",
    prompt=_INSTRUCTION + ".\n text: {input} tweet:",
    history_prompt="tweet:",
    history_answer="text",
    marker="Paraphrase the following tweet without any explanation before or after it: ",
    retrieval_item="tweet: {text}\n",
    retrieval_query=_INSTRUCTION + ": {input}",
)
