"""How long ``perfit --help`` and ``import perfit`` take, each in fresh processes.

python benchmarks/start.py --times 10
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

from tables import markdown

COMMANDS = {
    "python alone": ["-c", "pass"],
    "import perfit": ["-c", "import perfit"],
    "perfit --help": ["-m", "perfit.cli.main", "--help"],
    "perfit train --help": ["-m", "perfit.cli.main", "train", "--help"],
}


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=10)
    arguments = parser.parse_args()
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for number in range(arguments.times + 1):
        for name, command in COMMANDS.items():
            began = time.perf_counter()
            subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
            if number:  # the first round fills the file cache
                seconds[name].append(time.perf_counter() - began)
    rows = [
        [name, f"{statistics.median(seen):.3f}", f"{min(seen):.3f} - {max(seen):.3f}"] for name, seen in seconds.items()
    ]
    print(markdown(["command", "seconds, median", "range"], rows), end="")


if __name__ == "__main__":
    main()
