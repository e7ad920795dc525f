"""How far what is retrieved here agrees with the reference, rank_bm25's ``get_top_n``, on real users' histories.

    python benchmarks/retrieval_agreement.py DATA [--task news_categorize] [--users 20] [--queries 10]

For each k: the share of queries for which both find the same set of past items, and the same items in the same order;
and the share of single items found by both. The scores are rank_bm25's in both; what may differ is the order of equals,
which the reference leaves to its sort.
"""

from __future__ import annotations

import argparse
import time

from rank_bm25 import BM25Okapi

from perfit.data.read import read_dataset
from perfit.data.schema import User
from perfit.retrieval import HistoryIndex
from perfit.tasks import get_task
from perfit.tasks.task import Task

KS = (1, 2, 4)


def both(task: Task, user: User, queries: int) -> list[tuple[list[str], list[str]]]:
    """Ids of the four best items by both, for each of a user's first queries."""
    index = HistoryIndex(task, user)
    reference = BM25Okapi([task.retrieval_document(item).split(" ") for item in user.history])
    found = []
    for query in user.queries[:queries]:
        ours = [item.id for item in index.top(query, max(KS))]
        words = task.retrieval_question(query).split(" ")
        theirs = [item.id for item in reference.get_top_n(words, list(user.history), n=max(KS))]
        found.append((ours, theirs))
    return found


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--task", default="news_categorize")
    parser.add_argument("--users", type=int, default=20)
    parser.add_argument("--queries", type=int, default=10)
    arguments = parser.parse_args()
    task = get_task(arguments.task)
    users = read_dataset(arguments.data).users[: arguments.users]
    began = time.perf_counter()
    pairs = [pair for user in users for pair in both(task, user, arguments.queries)]
    mean = sum(len(user.history) for user in users) / len(users)
    print(f"{task.name}: {len(users)} users, {mean:.0f} past items each, {len(pairs)} queries")
    print(f"{time.perf_counter() - began:.1f} s\n")
    print("| k | same set | same order | items in common |")
    print("|---|----------|------------|-----------------|")
    for k in KS:
        same = [(ours[:k], theirs[:k]) for ours, theirs in pairs]
        sets = sum(set(a) == set(b) for a, b in same) / len(same)
        orders = sum(a == b for a, b in same) / len(same)
        common = sum(len({*a} & {*b}) / len(a) for a, b in same) / len(same)
        print(f"| {k} | {sets:8.1%} | {orders:10.1%} | {common:15.1%} |")


if __name__ == "__main__":
    main()
