"""What the README and the manual tell a user to type works, and what they show is what is said."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from clustersim.cli import main
from clustersim.record.manual import INDEX, MANIFEST, results_page
from clustersim.record.tables import TABLES
from clustersim.runs import run, sweep
from clustersim.spec.base import card_files
from clustersim.spec.experiment import load

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMAND = re.compile(
    r"(?:^\$ (?:\S*/)?|`(?:\S*/)?|&& (?:\S*/)?)(clustersim [a-z][^`\n]*|python experiments/[^`\n]*)", re.M
)
REDUCED = {
    "run": ["-s", "workload.requests=20", "--no-report", "-j", "1", "-o", "runs"],
    "check": ["--scenes", "3"],
    "published": ["--data", "no-data"],
    "bench": ["--data", "no-data", "--only", "P1"],
}


def commands() -> list[str]:
    """Return every command that a page tells the reader to type; those of policies.md need its own files."""
    texts = [page.read_text(encoding="utf-8") for page in PAGES if page.name != "policies.md"]
    found = {match[1].strip(): None for text in texts for match in COMMAND.finditer(text)}
    return [command for command in found if command not in ("clustersim check", "clustersim new")]


def blocks(language: str) -> list[str]:
    """Return the README's blocks of code in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.M | re.S)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in a folder that looks like a fresh checkout."""
    shutil.copytree(
        ROOT / "experiments", tmp_path / "experiments", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copy(ROOT / "experiments" / "my_policy.py", tmp_path)
    (tmp_path / "no-data").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def status_of(words: list[str], monkeypatch: pytest.MonkeyPatch) -> int | str | None:
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as end:
        main()
    return end.value.code


def test_commands_are_found() -> None:
    assert len(commands()) >= 8
    assert "clustersim run experiments/quickstart.yaml" in commands()


@pytest.mark.parametrize("command", commands())
def test_every_command_of_the_manual_works(command: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = shlex.split(command)
    if words[0] == "python":
        assert (here / words[1]).is_file()
        return
    if words[1] == "new":
        (here / words[3]).unlink(missing_ok=True)
    assert status_of([*words, *REDUCED.get(words[1], [])], monkeypatch) in (0, None)


def test_the_experiment_of_the_readme_runs(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (text,) = blocks("yaml")
    (here / "chat.yaml").write_text(text, encoding="utf-8")
    experiment = load("chat.yaml")
    assert len(experiment.points()) == 9
    assert status_of(["clustersim", "run", "chat.yaml", *REDUCED["run"]], monkeypatch) == 0


def test_the_mistakes_of_the_readme_are_told_in_its_words(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (text,) = blocks("yaml")
    wrong = text.replace("token_budget: 1024", "token_buget: 1024").replace("rate: 6 /s", "rate: 6")
    (here / "chat.yaml").write_text(wrong, encoding="utf-8")
    assert status_of(["clustersim", "validate", "chat.yaml"], monkeypatch) == 2
    shown = [line for line in README.splitlines() if line.startswith("error ")]
    assert len(shown) == 2
    assert _without_places(capsys.readouterr().err) == _without_places("\n".join(shown) + "\n")


def _without_places(text: str) -> str:
    return re.sub(r"\.yaml:\d+:\d+:", ".yaml:", text)


def test_the_python_of_the_readme_runs(here: Path) -> None:
    policy, session = blocks("python")
    own = (ROOT / "experiments" / "my_policy.py").read_text(encoding="utf-8")
    assert policy[policy.index("class ") :].strip() in own
    code = session.replace('"workload.requests": 1000', '"workload.requests": 20')
    assert code != session
    done = subprocess.run([sys.executable, "-c", code], cwd=here, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "quickstart" in done.stdout
    assert "serving.batching" in done.stdout


def test_the_readme_counts_right() -> None:
    (models,) = re.findall(r"# (\d+) models, or your Hugging Face", README)
    assert int(models) == len(card_files("workloads/models"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert not [link for link in links if "://" not in link and not (page.parent / link).exists()]


def test_the_manual_of_results_is_what_the_schema_says() -> None:
    written = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    assert written == results_page(), "run: python -m clustersim.record.manual > docs/results.md"
    for table in TABLES.values():
        assert all(f"| `{column.name}` | {column.dtype} |" in written for column in table.columns)


def test_the_manual_knows_every_key_of_a_manifest_and_column_of_an_index(here: Path) -> None:
    import pyarrow.parquet as pq

    changes = {"workload.requests": 20, "sweep": {"seed": [1, 2]}}
    folder = sweep(load("experiments/quickstart.yaml", changes), "runs")
    names = pq.read_schema(folder / "index.parquet").names
    assert names[1:6] == [name for name in INDEX if not name.startswith("*")]
    made = run(load("experiments/quickstart.yaml", {"workload.requests": 20, "sweep": {}}), "runs")
    manifest = json.loads((made.folder / "manifest.json").read_text(encoding="utf-8"))
    assert manifest.keys() == MANIFEST.keys()
