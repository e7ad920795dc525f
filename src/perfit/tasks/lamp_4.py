"""LaMP-4: an author's headline for a news article (paper, Table 6; OPPU "news_headline")."""

from perfit.tasks.task import Task

NEWS_HEADLINE = Task(
    name="news_headline",
    lamp_id="LaMP_4",
    kind="text",
    prompt="Generate a headline for the following article.\narticle: {input} headline:",
    # The blank before "article" stands in the reference's stage-2 template only.
    history_prompt="Generate a headline for the following article.\n article: {text} headline:",
    history_answer="title",
    marker="Generate a headline for the following article: ",
    retrieval_item="article: {text} headline: {title}\n",
    retrieval_query="Generate a headline for the following article: {input}",
)
