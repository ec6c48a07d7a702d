"""The public check names what a policy breaks, passes all of ours, and goes with a template."""

from __future__ import annotations

import ast
import doctest
import re
import subprocess
import sys
from pathlib import Path

import pytest

from clustersim.check import RULES, Finding, check, report
from clustersim.check.template import TEMPLATES, class_name, write
from clustersim.errors import ClusterSimError, UnknownNameError
from clustersim.policies import Admission, ArrivalShape, BatchingPolicy, Policy, Router
from clustersim.policies.arrival import Bursty, Constant, Diurnal
from clustersim.policies.batching import Chunked, DecodeFirst, Orca, PrefillFirst, ShortestFirst, Static
from clustersim.policies.mlfq import SkipJoinMLFQ
from clustersim.policies.registry import find, names
from tests import broken_policies
from tests.broken_policies import BATCHING, DOORS, SHAPES, Sound

ROOT = Path(__file__).resolve().parents[2]
BASES: dict[str, type[Policy]] = {
    base.sort: base for base in (BatchingPolicy, Router, Admission, ArrivalShape)
}
BUILT_IN = [(sort, name) for sort, base in BASES.items() for name in names(base)]
FIELDS = {
    "constant": {"at": "4 /s"},
    "diurnal": {"low": "1 /s", "high": "5 /s"},
    "bursty": {"base_rate": "1 /s", "burst_rate": "9 /s", "burst": "3 s", "gap": "9 s", "lengths": "random"},
}
SMALL = (
    Static(max_batch=3),
    Orca(max_batch=3, token_budget=40),
    PrefillFirst(max_batch=3, token_budget=40),
    Chunked(max_batch=3, token_budget=9),
    DecodeFirst(max_batch=4, refill_share=0.5),
    ShortestFirst(max_batch=3, token_budget=9),
    SkipJoinMLFQ(max_batch=3, token_budget=9, quantum_passes=2, levels=3, starvation=0.2),
    Constant(at=2.0),
    Diurnal(low=0.0, high=3.0, period=60.0, peak=10.0),
    Bursty(base_rate=0.0, burst_rate=3.0, burst=1.0, gap=2.0, phase=0.5),
)


@pytest.mark.parametrize(("sort", "name"), BUILT_IN)
def test_every_installed_policy_keeps_every_rule(sort, name):
    policy = find(BASES[sort], name)(**FIELDS.get(name, {}))
    assert report(check(policy, scenes=26), 26) == "ok  keeps every rule (26 scenes)"


@pytest.mark.parametrize("policy", SMALL, ids=lambda policy: type(policy).__name__)
def test_built_in_policies_keep_every_rule_where_their_limits_are_met(policy):
    findings = check(policy, scenes=26, seed=1)
    assert not findings, report(findings)


def test_the_base_of_the_broken_policies_is_sound():
    assert check(Sound()) == []


@pytest.mark.parametrize("broken", [*BATCHING, *DOORS, *SHAPES], ids=lambda broken: broken.__name__)
def test_a_broken_policy_is_caught_by_the_rule_that_it_breaks(broken):
    findings = check(broken(), scenes=26)
    assert [finding.rule for finding in findings] == [broken.breaks]
    line = report(findings)
    assert line.startswith(f"broken  {broken.breaks}: a policy {RULES[broken.breaks]}; here it ")
    assert line.endswith(")")
    assert "(scene " in line
    assert "\n" not in line


def test_every_rule_has_a_policy_that_breaks_it():
    assert {broken.breaks for broken in (*BATCHING, *DOORS, *SHAPES)} == set(RULES)


def test_a_policy_that_raises_is_told_the_line_of_its_file(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from clustersim.policies import Router\n\n\n"
        "class Mine(Router):\n"
        "    def route(self, request, replicas):\n"
        "        return self.best(replicas.outstanding)\n\n"
        "    def best(self, load):\n"
        "        return load[99]\n",
        encoding="utf-8",
    )
    (finding,) = check(find(Router, "mine.py:Mine", tmp_path)())
    assert finding.rule == "raises"
    assert "raised IndexError: index 99 is out of bounds" in finding.detail
    assert finding.detail.endswith("at mine.py:9")


def test_a_check_gives_the_same_findings_again_and_more_scenes_only_add():
    few, again = (check(broken_policies.ThinksOfTheTime(), scenes=8) for _ in range(2))
    assert few == again
    assert check(broken_policies.ThinksOfTheTime(), scenes=1) == []
    assert len(few) == 1


def test_a_report_has_a_line_for_each_broken_rule():
    findings = [Finding("memory", "scene 1", "took too much"), Finding("idle", "scene 2", "slept")]
    assert report(findings).splitlines() == [
        "broken  memory: a policy needs no more cache than is free; here it took too much (scene 1)",
        "broken  idle: a policy never idles while something could run; here it slept (scene 2)",
    ]


def test_what_is_no_policy_cannot_be_checked():
    class Other(Policy):
        sort = "other"

    with pytest.raises(ClusterSimError, match="Other is no policy that can be checked; allowed sorts: bat"):
        check(Other())


# -- templates ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("sort", sorted(TEMPLATES))
def test_a_template_is_a_short_policy_that_keeps_every_rule(sort, tmp_path):
    file, test = write(sort, tmp_path / f"my_{sort}.py")
    assert [file.name, test.name] == [f"my_{sort}.py", f"test_my_{sort}.py"]
    assert code_lines(file) <= 15
    policy = find(BASES[sort], f"{file.name}:{class_name(file)}", tmp_path)()
    assert check(policy, scenes=26) == []


def code_lines(file: Path) -> int:
    """Return the lines that are neither blank nor part of a docstring."""
    text = file.read_text(encoding="utf-8")
    docs = 0
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node):
            docs += node.body[0].end_lineno - node.body[0].lineno + 1
    return sum(bool(line.strip()) for line in text.splitlines()) - docs


def run_in(folder, *command):
    ran = subprocess.run(
        [sys.executable, "-m", *command], cwd=folder, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.fixture
def templates(tmp_path):
    for sort in TEMPLATES:
        write(sort, tmp_path / f"my_{sort}.py")
    return tmp_path


def test_the_files_of_a_template_pass_their_own_test(templates):
    said = run_in(templates, "pytest", "-q", "-p", "no:dash", "-p", "no:cacheprovider", "--rootdir", ".", ".")
    assert f"{len(TEMPLATES)} passed" in said


def test_the_files_of_a_template_pass_ruff(templates):
    pytest.importorskip("ruff", reason="ruff is not installed")
    run_in(templates, "ruff", "check", "--config", str(ROOT / "pyproject.toml"), "--no-cache", ".")
    run_in(templates, "ruff", "format", "--check", "--isolated", "--line-length", "110", "--no-cache", ".")


def test_a_template_overwrites_nothing(tmp_path):
    file, test = write("router", tmp_path / "mine.py")
    before = file.read_text(encoding="utf-8")
    with pytest.raises(ClusterSimError, match=r"mine\.py is there already"):
        write("batching", file)
    file.unlink()
    with pytest.raises(ClusterSimError, match=r"test_mine\.py is there already"):
        write("batching", file)
    assert not file.exists()
    test.unlink()
    write("router", file)
    assert file.read_text(encoding="utf-8") == before


def test_a_template_refuses_an_unknown_sort_and_a_name_that_names_no_class(tmp_path):
    with pytest.raises(UnknownNameError, match="unknown sort of policy 'batch'; allowed: admission, arrival"):
        write("batch", tmp_path / "mine.py")
    for name in ("my-policy.py", "mine.txt", "9lives.py", "mine"):
        with pytest.raises(ClusterSimError, match="cannot hold a policy; allowed: a Python file"):
            write("router", tmp_path / name)
    with pytest.raises(ClusterSimError, match="cannot be written: No such file or directory"):
        write("router", tmp_path / "nowhere" / "mine.py")


# -- the manual page ---------------------------------------------------------------------------------

PAGE = ROOT / "docs" / "policies.md"


@pytest.fixture
def page(tmp_path, monkeypatch) -> list[tuple[str, str]]:
    """The blocks of the manual page, by language; those that name a file are written beside one another."""
    found = re.findall(r"```(\w+)\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    for _, text in found:
        if (name := re.match(r"# (\S+\.\w+)\n", text)) is not None:
            (tmp_path / name[1]).write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return found


def test_the_sessions_of_the_manual_page_give_what_they_say(page):
    sessions = [text for language, text in page if language == "python" and ">>>" in text]
    session = doctest.DocTestParser().get_doctest("\n".join(sessions), {}, PAGE.name, str(PAGE), 0)
    told: list[str] = []
    results = doctest.DocTestRunner(verbose=False).run(session, out=told.append)
    assert results.failed == 0, "".join(told)
    assert results.attempted >= 12


def test_the_policies_of_the_manual_page_keep_every_rule(page):
    sorts = {"my_policy.py:MyPolicy": BatchingPolicy, "my_order.py:LongestFirst": BatchingPolicy}
    sorts |= {"my_doors.py:LeastWork": Router, "my_doors.py:ShortPrompts": Admission}
    for name, base in (sorts | {"my_doors.py:Ramp": ArrivalShape}).items():
        assert check(find(base, name)(), scenes=26) == [], name


def test_the_commands_of_the_manual_page_work(page):
    commands = "".join(text for language, text in page if language == "console")
    asked = re.findall(r"^\$ clustersim (.*)$", commands, flags=re.MULTILINE)
    assert [command.split()[0] for command in asked] == ["check", "run"]
    for command in asked:
        ran = subprocess.run(
            [sys.executable, "-m", "clustersim", *command.split()],
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        said = commands.split(f"$ clustersim {command}\n")[1].split("$ clustersim")[0].strip()
        assert said in ran.stdout + ran.stderr  # what is said goes beside the results of a pipe


def test_the_manual_page_names_every_installed_policy_and_every_rule():
    text = PAGE.read_text(encoding="utf-8")
    assert [name for _, name in BUILT_IN if f"`{name}`" not in text] == []
    assert [rule for rule, says in RULES.items() if f"| `{rule}` | {says} |" not in text] == []


def test_the_manual_page_shows_the_template_as_it_is_written(page, tmp_path):
    shown = (tmp_path / "my_policy.py").read_text(encoding="utf-8")
    (tmp_path / "my_policy.py").unlink()
    written, _ = write("batching", tmp_path / "my_policy.py")
    assert shown.removeprefix("# my_policy.py\n") in written.read_text(encoding="utf-8")
