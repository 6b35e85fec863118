"""`swiftdet doctor`: shows the checks of `swiftdet.doctor`."""

from __future__ import annotations

import dataclasses

import typer
from rich.text import Text

from swiftdet import doctor as checkup
from swiftdet.cli import output

_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def doctor(*, as_json: output.JsonFlag = False, debug: output.DebugFlag = False) -> None:
    """Check this installation and say how to mend it. Exits 0 when detection on the CPU works."""
    with output.reported_errors(debug=debug):
        checks = checkup.run_checks()
        healthy = checkup.works(checks)
        if as_json:
            output.print_json({"ok": healthy, "checks": [dataclasses.asdict(check) for check in checks]})
        else:
            console = output.console()
            width = max(len(check.name) for check in checks)
            for check in checks:
                line = Text.assemble(
                    (f"{check.status:<4}", _STYLES[check.status]), f"  {check.name:<{width}}  {check.detail}"
                )
                console.print(line, soft_wrap=True)
                if check.fix:
                    console.print(Text(f"{'':<{width + 8}}fix: {check.fix}"), soft_wrap=True)
            console.print()
            console.print("detection on the CPU works" if healthy else "detection on the CPU does not work")
        if not healthy:
            raise typer.Exit(output.ExitCode.FAILED)
