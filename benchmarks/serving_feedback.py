"""Five minutes of feedback: does a server that is told what was right answer a user better, and everybody else as before?

    perfit quickstart && python benchmarks/serving_feedback.py runs/quickstart

A demo user whom the run has never seen sends what their past articles were, one after the other, as ``POST feedback``:
"accepted" where the server's answer was right, "edited" where it was not; after every ten a training is asked for. Their
other articles, which are never sent, say how good the answers are. Of three users of the run, texts, log-probabilities and
labels' probabilities are kept before and compared after, to the last bit. It works on a copy of the run.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
from serving_store import served
from tables import markdown

from perfit.data import demo_dataset
from perfit.data.schema import User
from perfit.tasks import get_task

_USER, _TASK = "newcomer", get_task("news_categorize")


def main() -> None:
    """Tell, train, ask, and print the table; 1 where the answers got worse or another user's changed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run of perfit quickstart")
    parser.add_argument("--minutes", type=float, default=5.0, help="of feedback and trainings")
    parser.add_argument("--items", type=int, default=40, help="most past articles that are sent")
    parser.add_argument("--queries", type=int, default=40, help="other articles that are asked")
    parser.add_argument("--every", type=int, default=10, help="a training after so many")
    given = parser.parse_args()
    data = demo_dataset(users=1, others=0, history=given.items, queries=given.queries, seed=11)
    (user,) = data.users
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / given.run.resolve().name
        shutil.copytree(given.run, run)
        with served(run, "--learn", "1") as (url, _), httpx.Client(base_url=url, timeout=600) as http:
            others = http.get("/v1/users").json()["data"][:3]
            before = _said(http, others)
            first = _right(http, user, "collective")
            rows = [["0", "0.0", "the collective shift", "", f"{first:.1%}"]]
            began, last = time.monotonic(), first
            for number, item in enumerate(user.history, 1):
                known = len(rows) > 1
                _tell(http, item.fields["text"], item.fields["category"], _USER if known else "collective")
                if number % given.every and number < len(user.history):
                    continue
                job = _trained(http)
                minutes = (time.monotonic() - began) / 60
                last = _right(http, user, _USER) if job["state"] == "live" or known else first
                result = job["result"]
                losses = f"{result['loss_before']:.3f} to {result['loss_after']:.3f}" if "loss_after" in result else ""
                rows.append([str(number), f"{minutes:.1f}", job["state"], losses, f"{last:.1%}"])
                print(*rows[-1], file=sys.stderr, flush=True)
                if minutes >= given.minutes:
                    break
            same = _said(http, others) == before
    print(f"{given.run.name}: {len(user.queries)} articles that were never sent\n")
    print(markdown(["told", "minutes", "the training", "held-out loss", "articles answered right"], rows))
    print(f"{len(others)} other users' answers and probabilities, to the last bit: {'the same' if same else 'CHANGED'}")
    sys.exit(not same or last <= first)


def _tell(http: httpx.Client, text: str, right: str, who: str) -> None:
    answer = http.post("/v1/tasks/answer", json={"user": who, "input": text}).raise_for_status().json()["answer"]
    body: dict[str, str] = {"input": text, "answer": answer, "verdict": "accepted"}
    if answer != right:
        body |= {"verdict": "edited", "text": right}
    http.post(f"/v1/users/{_USER}/feedback", json=body).raise_for_status()


def _trained(http: httpx.Client) -> dict[str, Any]:
    http.post(f"/v1/users/{_USER}/personalize").raise_for_status()
    while True:
        job: dict[str, Any] = http.get(f"/v1/users/{_USER}/personalize").raise_for_status().json()
        if job["state"] not in ("queued", "running"):
            return job
        time.sleep(0.5)


def _right(http: httpx.Client, user: User, who: str) -> float:
    """Share of a user's queries that are answered as the user would."""
    right = 0
    for query in user.queries:
        said = http.post("/v1/tasks/answer", json={"user": who, "input": _TASK.article(query)}).raise_for_status()
        right += said.json()["answer"] == query.gold
    return right / len(user.queries)


def _said(http: httpx.Client, users: list[str]) -> str:
    """All that some users are answered, in one text."""
    found: list[Any] = []
    for who in users:
        for text in ("A storm closed the harbour.", "The orchestra played on a ship, and the recipe was sold."):
            said = http.post("/v1/tasks/answer", json={"user": who, "input": text}).raise_for_status().json()
            found.append((who, said["answer"], said["labels"]))
            body = {"user": who, "prompt": text, "max_tokens": 12, "logprobs": 5}
            found.append(http.post("/v1/completions", json=body).raise_for_status().json()["choices"])
    return json.dumps(found)


if __name__ == "__main__":
    main()
