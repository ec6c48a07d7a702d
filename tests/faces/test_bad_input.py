"""What a user gets wrong is told in a line each: place, field, value, what is allowed; nothing is written."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml

from clustersim.cli import main
from clustersim.errors import SpecError
from clustersim.spec.experiment import load
from tests.faces.mistakes import CASES, FULL, JUNK, WHOLE_FILES


def tell(args: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Run the command line, which must end with status 2, and return its complaints without their 'error'."""
    before = everything()
    monkeypatch.setattr(sys, "argv", ["clustersim", *args])
    with pytest.raises(SystemExit) as end:
        main()
    output, complaint = capsys.readouterr()
    assert end.value.code == 2, complaint
    assert output == ""
    assert "Traceback" not in complaint
    assert everything() == before, "something was written"
    lines = complaint.splitlines()
    assert all(line.startswith("error ") for line in lines), complaint
    return [line.removeprefix("error ") for line in lines]


def everything() -> dict[str, bytes | None]:
    return {
        str(path): path.read_bytes() if path.is_file() else None
        for path in sorted(Path().rglob("*"))
        if "__pycache__" not in path.parts
    }


def check(lines: list[str], said: tuple[str, ...]) -> None:
    """Compare each complaint with what it must say; a file may be named by its whole path."""
    shown = "\n".join(lines)
    assert len(lines) == len(said), shown
    for line, text in zip(lines, said, strict=True):
        pattern = ".*".join(re.escape(part.strip()) for part in text.split("..."))
        assert re.match(pattern, line.removeprefix(f"{Path.cwd()}{os.sep}")), f"{text}\nis not in\n{shown}"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_is_told_in_a_line_with_its_place_and_what_is_allowed(
    name: str, here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES[name]
    for file, content in {"chat.yaml": case.spec, **case.files}.items():
        (here / file).write_bytes(content if isinstance(content, bytes) else str(content).encode())
    check(tell(["run", "chat.yaml", "-o", "out", "-j", "1", *case.args], capsys, monkeypatch), case.said)


def paths(data: Any, at: str = "") -> Iterator[str]:
    """Yield the path of every field of plain data."""
    if isinstance(data, (dict, list)):
        for key, inner in data.items() if isinstance(data, dict) else enumerate(data):
            yield f"{at}{key}"
            yield from paths(inner, f"{at}{key}.")


def test_whatever_stands_in_a_field_is_taken_or_refused_in_words(here: Path) -> None:
    (here / "full.yaml").write_text(FULL, encoding="utf-8")
    assert len(load("full.yaml").points()) == 2
    fields, problems = list(paths(yaml.safe_load(FULL))), []
    for path, junk in product(fields, JUNK):
        try:
            load("full.yaml", {path: junk})
        except SpecError as error:
            problems += error.problems
    assert len(fields) > 70
    assert len(problems) > 0.8 * len(fields) * len(JUNK)
    assert all(problem.message and problem.file != "<spec>" for problem in problems)


@pytest.mark.parametrize("name", WHOLE_FILES)
def test_a_file_that_is_no_experiment_says_where_it_goes_wrong(
    name: str, here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    content, said = WHOLE_FILES[name]
    (here / "chat.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    check(tell(["run", "chat.yaml"], capsys, monkeypatch), (said,))


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["run", "none.yaml"], "none.yaml: cannot be read: No such file or directory"),
        (["validate", "."], ".: cannot be read: Is a directory"),
        (["list", "modles"], "unknown kind 'modles'; allowed: ... (did you mean 'models'?)"),
        (["show", "lama-3.1-8b"], "unknown card 'lama-3.1-8b'; allowed: ... (did you mean 'llama-3.1-8b'?)"),
        (["show", "none.py:Mine"], "none.py: cannot be read: No such file or directory"),
        (["check", "chunkd"], "unknown batching policy 'chunkd'; allowed: ... (did you mean 'chunked'?)"),
        (["check", "chunked", "--sort", "bat"], "unknown sort of policy 'bat'; allowed: admission, arrival"),
        (["check", "constant"], "constant: at: is required; give it with --set at=VALUE"),
        (["new", "router", "new.md"], "'new.md' cannot hold a policy; allowed: a Python file"),
        (["new", "roter", "new.py"], "unknown sort of policy 'roter'; allowed: ... (did you mean 'router'?)"),
        (["report", "none"], "'none' is not a folder"),
        (["compare", ".", "none"], "no run was found below '.'"),
        (["trace", "."], "'.' is not the folder of a run: it has no manifest.json"),
        (["explore", "none"], "'none' is not a folder"),
        (["published", "--only", "Z9"], "unknown published table 'Z9'; allowed: ..."),
        (["bench", "--only", "Z9"], "unknown benchmark 'Z9'; allowed: ..."),
        (["schema", "-o", "none/schema.json"], "none/schema.json: cannot be written: No such file"),
    ],
)
def test_a_wrong_name_on_the_command_line_is_told_with_the_right_ones(
    args: list[str],
    said: str,
    here: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    check(tell(args, capsys, monkeypatch), (said,))


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["rnu"], "No such command 'rnu'. Did you mean 'run'?"),
        (["run"], "Missing argument 'EXPERIMENT'"),
        (["run", "chat.yaml", "--job", "2"], "No such option: --job"),
        (["run", "chat.yaml", "-j", "-1"], "Invalid value for '--jobs'"),
        (["run", "chat.yaml", "-n", "none"], "Invalid value for '--replications'"),
    ],
)
def test_a_wrong_use_of_the_command_line_is_told(
    args: list[str],
    said: str,
    here: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "argv", ["clustersim", *args])
    with pytest.raises(SystemExit) as end:
        main()
    output, complaint = capsys.readouterr()
    assert (end.value.code, output) == (2, "")
    assert said in " ".join(complaint.replace("│", " ").split())
    assert "Traceback" not in complaint
