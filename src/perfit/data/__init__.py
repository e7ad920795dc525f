"""Reading, checking and making the data of users."""

from perfit.data.audit import audit
from perfit.data.audit_report import AuditReport, Finding
from perfit.data.convert import convert_lamp
from perfit.data.demo import demo_dataset, demo_truth
from perfit.data.download import download_lamp
from perfit.data.jsonl import write_jsonl
from perfit.data.oppu import write_oppu
from perfit.data.parquet import write_parquet
from perfit.data.read import read_dataset
from perfit.data.schema import Dataset, HistoryItem, Query, User

__all__ = [
    "AuditReport",
    "Dataset",
    "Finding",
    "HistoryItem",
    "Query",
    "User",
    "audit",
    "convert_lamp",
    "demo_dataset",
    "demo_truth",
    "download_lamp",
    "read_dataset",
    "write_jsonl",
    "write_oppu",
    "write_parquet",
]
