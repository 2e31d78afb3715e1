"""What the scripts that make or prepare data share: arguments in, a line and an exit code out."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Callable


def run_script(
    parser: ArgumentParser, work: Callable[..., str], interrupted: str, arguments: list[str] | None
) -> int:
    """Call ``work`` with what was parsed and print what it returns: 0.

    What it refuses is one line of error: 2. Stopped by Ctrl-C, it says ``interrupted``: 130.
    """
    options = vars(parser.parse_args(arguments))
    try:
        for name, value in options.items():
            if value == "":  # a path of no letters would be the current folder
                raise ValueError(f"`--{name}` is empty. Name the folder.")
        told = work(**options)
    except (ValueError, OSError, ImportError) as error:
        line = " ".join(str(error).split())  # and what a file says is not for the terminal
        line = "".join(letter if letter.isprintable() else "?" for letter in line)
        print(f"{parser.prog}: {line}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{parser.prog}: interrupted{interrupted}", file=sys.stderr)
        return 130
    print(told)
    return 0
