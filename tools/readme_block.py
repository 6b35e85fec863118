"""Prints the commands of README.md that a comment names, so that CI runs exactly what the README says.

A block is named by a comment on a line of its own before its fence:

    <!-- ci: test -->
    ```bash
    pip install ".[test]" && pytest
    ```

Usage: python tools/readme_block.py NAME
Several blocks of one name are joined in their order.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

README = Path(__file__).resolve().parents[1] / "README.md"


def blocks(text: str, name: str) -> list[str]:
    """The contents of the fenced blocks called `name`."""
    pattern = rf"^<!-- ci: {re.escape(name)} -->\s*\n```(?:bash|console|sh)\n(.*?)^```"
    return re.findall(pattern, text, flags=re.DOTALL | re.MULTILINE)


def main(arguments: list[str]) -> int:
    """Prints the named blocks."""
    if len(arguments) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    found = blocks(README.read_text(), arguments[0])
    if not found:
        print(f"{README.name} has no block named '<!-- ci: {arguments[0]} -->'", file=sys.stderr)
        return 1
    print("".join(found), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
