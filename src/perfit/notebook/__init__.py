"""What a server keeps of its users beside their shifts: histories, feedback, jobs and versions, in one SQLite file."""

from perfit.notebook.database import Notebook

__all__ = ["Notebook"]
