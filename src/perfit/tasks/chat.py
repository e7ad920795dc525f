"""Conversations: the reply a user accepted, or wrote into its place, through the base's own chat template."""

from perfit.data.conversation import MESSAGE, REPLY
from perfit.tasks.task import Task

CHAT = Task(
    name="chat",
    lamp_id=None,
    kind="text",
    prompt="{input}",
    history_prompt=f"{{{MESSAGE}}}",
    history_answer=REPLY,
    retrieval_item=f"{{{MESSAGE}}} answer: {{{REPLY}}}\n",
    retrieval_query="{input}",
    query_words=None,
    history_words=None,
    chat=True,
)
