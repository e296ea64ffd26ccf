"""The shell's Tab key knows the commands."""

from __future__ import annotations

import os
import subprocess
import sys


def test_bash_completes_commands_and_options():
    def completed(line: str) -> list[str]:
        words = line.split(" ")
        program = "import sys; sys.argv = ['mmfeat']; from mmfeat.cli import main; main()"
        asked = {"_MMFEAT_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, env={**os.environ, **asked}
        )
        return done.stdout.split()

    assert completed("mmfeat pro") == ["promote", "prompts"]
    assert completed("mmfeat gc --keep-s") == ["--keep-snapshots"]
