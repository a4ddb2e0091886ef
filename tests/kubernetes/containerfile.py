"""The Containerfile, parsed: its stages, and the instructions of each."""

import json
import shlex
from dataclasses import dataclass

from tests.doubles.programs import REPOSITORY

CONTAINERFILE = REPOSITORY / "Containerfile"


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction: its name in capitals, and the rest of its line or lines."""

    name: str
    arguments: str

    @property
    def words(self) -> list[str]:
        """Of the exec form, or of any other line."""
        if self.arguments.startswith("["):
            found: list[str] = json.loads(self.arguments)
            return found
        return shlex.split(self.arguments)


def stages() -> list[list[Instruction]]:
    """Each begins with its FROM."""
    found: list[list[Instruction]] = []
    for instruction in _instructions():
        if instruction.name == "FROM":
            found.append([])
        found[-1].append(instruction)
    return found


def _instructions() -> list[Instruction]:
    lines = CONTAINERFILE.read_text(encoding="utf-8").splitlines()
    text = "\n".join(line for line in lines if line.strip() and not line.startswith("#"))
    logical = text.replace("\\\n", " ").splitlines()
    return [Instruction(*line.split(maxsplit=1)) for line in logical]


def final(name: str) -> Instruction:
    """The instruction of that name in the last stage; there is one."""
    (found,) = [one for one in stages()[-1] if one.name == name]
    return found


def labels() -> dict[str, str]:
    return dict(word.split("=", 1) for word in final("LABEL").words)  # type: ignore[misc]


def command_line() -> list[str]:
    """What the engine starts where nobody says otherwise."""
    return final("ENTRYPOINT").words + final("CMD").words
