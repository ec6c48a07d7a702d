"""Wrong inputs, and what must be said of each: the tables of test_bad_input.py."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clustersim.spec.base import card_files

POLICIES = Path(__file__).parent / "policies"
BROKEN = (POLICIES / "broken.py").read_text(encoding="utf-8")
SPEC = """\
name: chat
cluster: {node: dgx-h100, nodes: 1}
serving:
  model: llama-3.1-8b
  replicas: 1
  tensor_parallel: 1
  batching: {kind: chunked, token_budget: 512}
  router: least-outstanding
workload:
  rate: 8 /s
  requests: 20
  prompt: 300
  output: {kind: fixed, tokens: 30}
"""
CARD = card_files("workloads/models")["llama-3.1-8b"].read_text(encoding="utf-8")
CONFIG = {
    "model_type": "llama",
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "vocab_size": 100,
    "max_position_embeddings": 2048,
}
HEADER = "arrival_s,prompt_tokens,output_tokens\n"
SWEEP = "sweep:\n  "


@dataclass(frozen=True)
class Case:
    """A wrong input, and what each line on standard error must say: parts in order, between three dots."""

    said: tuple[str, ...]
    lines: Mapping[int, str | None] = field(default_factory=dict)
    """Lines of SPEC, counted from 1, that are replaced or, by None, left out."""
    more: str = ""
    files: Mapping[str, str | bytes | dict[str, Any]] = field(default_factory=dict)
    args: tuple[str, ...] = ()

    @property
    def spec(self) -> str:
        kept = [self.lines.get(n, line) for n, line in enumerate(SPEC.splitlines(), start=1)]
        return "\n".join(line for line in kept if line is not None) + "\n" + self.more


def wrong(
    said: str | tuple[str, ...],
    lines: Mapping[int, str | None] | None = None,
    more: str = "",
    **other: Any,
) -> Case:
    return Case((said,) if isinstance(said, str) else said, lines or {}, more, **other)


def model(said: str, **config: Any) -> Case:
    """Return the case of a model read from a Hugging Face config with some keys changed, None: left out."""
    keys = {key: value for key, value in (CONFIG | config).items() if value is not None}
    return wrong(said, {4: "  model: config.json"}, files={"config.json": json.dumps(keys, indent=2)})


def policy(said: str, name: str, line: int = 7, what: str = "batching") -> Case:
    return wrong(said, {line: f"  {what}: broken.py:{name}"}, files={"broken.py": BROKEN})


def trace(said: str | tuple[str, ...], data: str | bytes | None, name: str = "t.csv") -> Case:
    lines = {9: f"workload: {{kind: trace, file: {name}}}", 10: None, 11: None, 12: None, 13: None}
    return wrong(said, lines, files={} if data is None else {name: data})


def line_of(text: str) -> int:
    """Return the line of the broken policies that holds *text*."""
    return next(n for n, line in enumerate(BROKEN.splitlines(), start=1) if text in line)


FIELDS = {
    "misspelt field": wrong(
        (
            "chat.yaml:1:1: name: is required",
            "chat.yaml:1:1: nmae: no such field; allowed: name ... (did you mean 'name'?)",
        ),
        {1: "nmae: chat"},
    ),
    "misspelt field of a part": wrong(
        "chat.yaml:5:3: serving.replica: no such field; allowed: ... (did you mean 'replicas'?)",
        {5: "  replica: 1"},
    ),
    "misspelt field of a policy": wrong(
        "chat.yaml:7:29: serving.batching.token_buget: no such field; allowed: kind, max_batch, token_budget"
        " (did you mean 'token_budget'?)",
        {7: "  batching: {kind: chunked, token_buget: 512}"},
    ),
    "misspelt field of a length": wrong(
        "chat.yaml:13:39: workload.output.sgma: no such field; allowed: ... (did you mean 'sigma'?)",
        {13: "  output: {kind: lognormal, mean: 30, sgma: 1}"},
    ),
    "unknown kind of length": wrong(
        "chat.yaml:13: ... workload.output ... unknown kind 'lognorml' ... (did you mean 'lognormal'?)",
        {13: "  output: {kind: lognorml, mean: 30, sigma: 1}"},
    ),
    "unknown model": wrong(
        "chat.yaml:4:3: serving.model: unknown model 'lama-3.1-8b'; allowed: ... did you mean 'llama-3.1-8b'",
        {4: "  model: lama-3.1-8b"},
    ),
    "unknown node": wrong(
        "chat.yaml:2:11: cluster.node: unknown node 'dgx-h10'; allowed: ... (did you mean 'dgx-h100'?)",
        {2: "cluster: {node: dgx-h10}"},
    ),
    "unknown policy": wrong(
        "chat.yaml:7:3: serving.batching: unknown batching policy 'chunkd'; allowed: ... 'chunked'",
        {7: "  batching: chunkd"},
    ),
    "unknown router": wrong(
        "chat.yaml:8:3: serving.router: unknown router policy 'round-robbin' ... did you mean 'round-robin'",
        {8: "  router: round-robbin"},
    ),
    "unknown stack": wrong(
        "chat.yaml:8:3: serving.stack: unknown stack 'vlm'; allowed: ... (did you mean 'vllm'?)",
        {8: "  stack: vlm"},
    ),
    "unknown load": wrong(
        "chat.yaml: ... workload ... unknown kind 'chatt'; allowed: ... (did you mean 'chat'?)",
        {10: "  kind: chatt"},
    ),
    "bare number": wrong(
        "chat.yaml:10:3: workload.rate: 8 needs a unit, for example '4 /s'", {10: "  rate: 8"}
    ),
    "wrong unit": wrong(
        "chat.yaml:10:3: workload.rate: '8 ms' is not a rate; write a number and one of: /s, /min, /h, /d",
        {10: "  rate: 8 ms"},
    ),
    "negative quantity": wrong(
        "chat.yaml:10:3: workload.rate: '-8 /s' is not allowed: a rate is finite and not negative",
        {10: "  rate: -8 /s"},
    ),
    "zero quantity": wrong(
        "chat.yaml:10:3: workload.rate: input should be greater than 0, not '0 /s'", {10: "  rate: 0 /s"}
    ),
    "negative count": wrong(
        "chat.yaml:5:3: serving.replicas: input should be greater than 0, not -1", {5: "  replicas: -1"}
    ),
    "share above one": wrong(
        "chat.yaml:8:12: serving.memory.share: input should be less than or equal to 1, not 1.5",
        {8: "  memory: {share: 1.5}"},
    ),
    "not a number": wrong(
        "chat.yaml:8:12: serving.memory.share: input should be a finite number, not nan",
        {8: "  memory: {share: .nan}"},
    ),
    "infinite number": wrong(
        "chat.yaml:13:31: workload.output.mean: input should be a finite number, not inf",
        {13: "  output: {kind: exponential, mean: .inf}"},
    ),
    "text for a number": wrong(
        "chat.yaml:5:3: serving.replicas: input should be a valid integer, not 'two'", {5: "  replicas: two"}
    ),
    "truth for a number": wrong(
        "chat.yaml:5:3: serving.replicas: true is not a number", {5: "  replicas: true"}
    ),
    "yes for a number": wrong(
        "chat.yaml:5:3: serving.replicas: input should be a valid integer, not 'yes'", {5: "  replicas: yes"}
    ),
    "half a replica": wrong(
        "chat.yaml:5:3: serving.replicas: input should be a valid integer, not 1.5", {5: "  replicas: 1.5"}
    ),
    "nothing for a required field": wrong(
        "chat.yaml:4:3: serving.model: is empty; give it a value", {4: "  model:"}
    ),
    "number for a part": wrong(
        "chat.yaml:8:3: serving.slo: needs a mapping of fields to values, not 3", {8: "  slo: 3"}
    ),
    "field written twice": wrong(
        "chat.yaml:6:3: serving.replicas: is written twice; keep one", {6: "  replicas: 2"}
    ),
    "several mistakes": wrong(
        (
            "chat.yaml:5:3: serving.replicas: input should be greater than 0, not 0",
            "chat.yaml:6:3: serving.model: is written twice; keep one",
            "chat.yaml:8:3: serving.router: unknown router policy 'nearest'",
            "chat.yaml:10:3: workload.rate: 8 needs a unit",
            "chat.yaml:12:3: workload.prompt ... input should be greater than 0, not -3",
        ),
        {
            5: "  replicas: 0",
            6: "  model: phi-2",
            8: "  router: nearest",
            10: "  rate: 8",
            12: "  prompt: -3",
        },
    ),
    "two ways to arrive": wrong(
        "chat.yaml:11:3: workload.concurrency: rate and concurrency exclude each other; keep one",
        {11: "  concurrency: 4"},
    ),
    "name that is a path": wrong(
        "chat.yaml:1:1: name: string should match pattern ... not '../elsewhere'", {1: "name: ../elsewhere"}
    ),
}

FILES = {
    "card with mistakes": wrong(
        (
            "mine.yaml:1:1: serving.model.heads: is required",
            "mine.yaml:3:1: serving.model.layers: input should be greater than 0, not -32",
            "mine.yaml:5:1: serving.model.haeds: no such field; allowed: ... (did you mean 'heads'?)",
        ),
        {4: "  model: mine.yaml"},
        files={"mine.yaml": CARD.replace("layers: 32", "layers: -32").replace("heads: 32", "haeds: 32", 1)},
    ),
    "card by --set with a mistake": wrong(
        "mine.yaml:3:1: serving.model.layers: input should be greater than 0, not -32",
        files={"mine.yaml": CARD.replace("layers: 32", "layers: -32")},
        args=("-s", "serving.model=mine.yaml"),
    ),
    "field of a named card": wrong(
        "chat.yaml:4:31: serving.model.layer: no such field; allowed: ... (did you mean 'layers'?)",
        {4: "  model: {kind: llama-3.1-8b, layer: 2}"},
    ),
    "card that is not there": wrong(
        "chat.yaml:4:3: serving.model: no file 'mine.yaml', neither in . nor here", {4: "  model: mine.yaml"}
    ),
    "card that names itself": wrong(
        "mine.yaml:2:1: serving.model.experts: 'mine.yaml' names itself",
        {4: "  model: mine.yaml"},
        files={"mine.yaml": "# Mine.\n" + CARD.replace("name:", "experts: mine.yaml\nname:", 1)},
    ),
    "card that is a list": wrong(
        "mine.yaml:1:1: serving.model: needs a mapping of fields to values, not ['a']",
        {4: "  model: mine.yaml"},
        files={"mine.yaml": "- a\n"},
    ),
    "card that is empty": wrong(
        "mine.yaml:1:1: serving.model: is empty", {4: "  model: mine.yaml"}, files={"mine.yaml": ""}
    ),
    "card that is not YAML": wrong(
        "mine.yaml:2:1: serving.model: is not YAML",
        {4: "  model: mine.yaml"},
        files={"mine.yaml": "layers: {a: 1\n"},
    ),
    "config of an unknown model": model(
        "config.json:1:1: serving.model: unknown model_type 'lama' ... (did you mean 'llama'?)",
        model_type="lama",
    ),
    "config without a key": model("config.json:1:1: serving.model: ... lacks 'vocab_size'", vocab_size=None),
    "config with a bad value": model(
        "config.json:1:1: serving.model.layers: input should be a valid integer, not 'four'",
        num_hidden_layers="four",
    ),
    "config that is not JSON": wrong(
        "config.json:2:1: serving.model: is not JSON: Expecting ...",
        {4: "  model: config.json"},
        files={"config.json": '{"model_type": "llama",\n'},
    ),
    "config that is not text": wrong(
        "config.json:1:2: serving.model: cannot be read: is not UTF-8 text",
        {4: "  model: config.json"},
        files={"config.json": b"{\xff}"},
    ),
}

WHOLE_FILES = {
    "empty file": ("", "chat.yaml:1:1: is empty or not a mapping of fields to values"),
    "list at the top": ("- a\n- b\n", "chat.yaml:1:1: is empty or not a mapping of fields to values"),
    "not YAML": (SPEC.replace("512}", "512"), "chat.yaml:8:9: is not YAML: did not find expected ',' or '}'"),
    "tab": (
        SPEC.replace("  replicas", "\treplicas"),
        "chat.yaml:5:1: is not YAML: found a tab character that violates indentation",
    ),
    "not text": (
        SPEC.encode().replace(b"rate", b"r\xe4te"),
        "chat.yaml:10:4: cannot be read: is not UTF-8 text from here on",
    ),
    "two documents": (SPEC + "---\n" + SPEC, "chat.yaml:14:1: is not YAML: but found another document"),
    "alias of itself": (
        "name: chat\nserving: &a\n  model: *a\n",
        "chat.yaml:3:3: serving.model: is nested too deeply, or holds itself by an alias",
    ),
    "Python object": (
        SPEC.replace("replicas: 1", "replicas: !!python/object:os.system 1"),
        "chat.yaml:5:3: serving.replicas: '1' is not a value of the kind 'os.system'",
    ),
    "list as a name": (
        SPEC.replace("replicas: 1", "[a, b]: 1"),
        "chat.yaml:5:3: serving: names a field by a list or mapping; write plain text",
    ),
}

MACHINES = {
    "model that does not fit": wrong(
        "chat.yaml:6:3: serving.tensor_parallel: Llama-3.1-70B needs ... GiB on each accelerator ... but "
        "H100 SXM has ... tensor_parallel=2 would fit",
        {4: "  model: llama-3.1-70b"},
    ),
    "model that fits nowhere": wrong(
        "chat.yaml:6:3: serving.tensor_parallel: Llama-3.1-405B needs ... use more pipeline stages",
        {2: "cluster: {accelerator: {kind: t4, memory: 2 GiB}}", 4: "  model: llama-3.1-405b"},
    ),
    "heads that do not divide": wrong(
        "chat.yaml:6:3: serving.tensor_parallel: 3 does not divide the 32 attention heads; allowed: 1, 2, 4",
        {6: "  tensor_parallel: 3"},
    ),
    "experts that do not divide": wrong(
        "chat.yaml:6:3: serving.expert_parallel: 3 does not divide the 8 experts; allowed: 1, 2, 4, 8",
        {4: "  model: mixtral-8x7b", 6: "  expert_parallel: 3"},
    ),
    "more expert groups than accelerators": wrong(
        "chat.yaml:6:3: serving.expert_parallel: 8 does not divide the 1 accelerators of a stage",
        {4: "  model: mixtral-8x7b", 6: "  expert_parallel: 8"},
    ),
    "more stages than layers": wrong(
        "chat.yaml:6:3: serving.pipeline_parallel: 64 exceeds the 32 layers", {6: "  pipeline_parallel: 64"}
    ),
    "more replicas than accelerators": wrong(
        "chat.yaml:5:3: serving.replicas: 9 replicas of 1 need 9 accelerators, the cluster has 8",
        {5: "  replicas: 9"},
    ),
    "stage that fills no nodes evenly": wrong(
        "chat.yaml:6:3: serving.tensor_parallel: 9 accelerators of a stage do not divide ... multiple of 2",
        {2: "cluster: {node: dgx-h100}", 6: "  tensor_parallel: 1\n  data_parallel: 9"},
    ),
    "swapping without a place": wrong(
        "chat.yaml:8:3: serving.memory.swap_space: must be given for preemption: swap, for example '64 GB'",
        {8: "  memory: {preemption: swap}"},
    ),
    "node and accelerator": wrong(
        "chat.yaml:2:11: cluster.node: give either a node or an accelerator",
        {2: "cluster: {node: dgx-h100, accelerator: l4}"},
    ),
    "request longer than the context": wrong(
        "chat.yaml:9:1: workload: request 0 has 200,000 prompt and 30 output tokens, more than the model's "
        "context of 131,072; ... set workload.too_long to drop or clip",
        {12: "  prompt: 200000"},
    ),
    "request longer than the cache": wrong(
        "chat.yaml:9:1: workload: request 0 needs 330 tokens of cache and a replica has 160 (10 blocks",
        {8: "  memory: {blocks: 10}"},
    ),
    "load without a request": wrong(
        "chat.yaml:9:1: workload: no request is left; lengthen the duration", {11: "  duration: 1 us"}
    ),
    "measured row that beats the hardware": wrong(
        "m.csv:3: seconds: 1e-09 is less than the hardware's limit of ... remove the row",
        {8: "  measured: m.csv"},
        files={"m.csv": "kind,tokens,seconds\npass,1000,1\npass,2000,1e-9\n"},
    ),
    "measured rows that are none": wrong(
        ("m.csv:2: kind: 'pas' is no kind of row; ... 'pass'", "m.csv:3: tokens: 'x' is not a number"),
        {8: "  measured: m.csv"},
        files={"m.csv": "kind,tokens,seconds\npas,1000,1\npass,x,1\n"},
    ),
    "measured table that is not there": wrong(
        "chat.yaml:8:3: serving.measured: no file 'm.csv'", {8: "  measured: m.csv"}
    ),
}

TRACES = {
    "trace that is not there": trace("chat.yaml:9:25: workload.file: no file 't.csv'", None),
    "empty trace": trace("t.csv:1:1: is empty", ""),
    "trace without rows": trace("t.csv:1:1: has no rows", HEADER),
    "trace with NaN": trace(
        "t.csv:3:1: arrival_s: 'nan' is not a finite number", HEADER + "0,9,9\nnan,9,9\n"
    ),
    "trace with a negative length": trace(
        ("t.csv:2:5: output_tokens: '-9' is negative", "t.csv:3:3: prompt_tokens: '-9' is negative"),
        HEADER + "0,9,-9\n1,-9,9\n",
    ),
    "trace with words": trace(
        "t.csv:3:3: prompt_tokens: 'nine' is not a number", HEADER + "0,9,9\n1,nine,9\n"
    ),
    "trace that lacks a column": trace(
        "t.csv:1:1: is of no known format ... it has arrival_s, prompt_tokens, out; name them",
        "arrival_s,prompt_tokens,out\n0,9,9\n",
    ),
    "trace whose last line breaks off": trace(
        "t.csv:3:1: has 2 fields where the header has 3", HEADER + "0,9,9\n1,9"
    ),
    "trace whose gzip breaks off": trace(
        "t.csv.gz: ... is cut short or damaged",
        gzip.compress((HEADER + "".join(f"{n},{n % 97 + 1},9\n" for n in range(2000))).encode())[:-40],
        "t.csv.gz",
    ),
    "trace that is no gzip": trace("t.csv.gz:1:1: is not a whole gzip file", b"hello", "t.csv.gz"),
}

DECISIONS = {
    "policy file that is not there": wrong(
        "chat.yaml:7:3: serving.batching: none.py: cannot be read: No such file",
        {7: "  batching: none.py:Mine"},
    ),
    "policy file that is not Python": wrong(
        "chat.yaml:7:3: serving.batching: mine.py:2:9: is not Python: invalid syntax",
        {7: "  batching: mine.py:Mine"},
        files={"mine.py": "class Mine:\n    def :\n"},
    ),
    "policy file that raises": wrong(
        "chat.yaml:7:3: serving.batching: mine.py:3: ZeroDivisionError on loading: division by zero",
        {7: "  batching: mine.py:Mine"},
        files={"mine.py": "\n\nx = 1 / 0\n"},
    ),
    "policy file that exits": wrong(
        "chat.yaml:7:3: serving.batching: mine.py:1: SystemExit on loading: 3",
        {7: "  batching: mine.py:Mine"},
        files={"mine.py": "raise SystemExit(3)\n"},
    ),
    "class that is not there": policy(
        "chat.yaml:7:3: serving.batching: unknown batching policy in broken.py 'Idel' ... mean 'Idle'",
        "Idel",
    ),
    "class of another sort": policy(
        "chat.yaml:7:3: serving.batching: broken.py:Outside: is a router policy, and a batching policy",
        "Outside",
    ),
    "class without its method": policy(
        "chat.yaml:7:3: serving.batching: broken.py:NoMethod: a batching policy must define next_step",
        "NoMethod",
    ),
    "field of a policy from a file": wrong(
        "chat.yaml:7:38: serving.batching.max_bach: no such field; allowed: kind, max_batch (did you mean",
        {7: "  batching: {kind: mine.py:OneByOne, max_bach: 4}"},
        files={"mine.py": (POLICIES / "mine.py").read_text(encoding="utf-8")},
    ),
    "policy that raises": policy(
        f"broken.py:{line_of('view.wating')}: Misspells.next_step raised AttributeError: ... 'wating'",
        "Misspells",
    ),
    "policy that returns a number": policy("broken.py: Seventeen returned 17, which is no Step", "Seventeen"),
    "policy that names numbers": policy(
        "broken.py: ByNumber returned a Step whose prefill names 0", "ByNumber"
    ),
    "policy that halves tokens": policy(
        "broken.py: HalfToken returned a Step that prefills 37.5 tokens of request 0", "HalfToken"
    ),
    "policy that prefills too much": policy(
        "broken.py: TooMuch prefills 100000 tokens of request 0, 300 are left", "TooMuch"
    ),
    "policy that chooses nobody": policy(
        "replica 0 stands still at ... with 20 requests unanswered ... 20 waiting (first: request 0, "
        "300 prompt tokens) ... Idle chose none of them",
        "Idle",
    ),
    "router that leaves the fleet": policy(
        "router Outside returned 1 for request 0 at ... allowed: 0 to 0", "Outside", 8, "router"
    ),
    "router that raises": policy(
        f"broken.py:{line_of('replicas.count - 1)')}: Careless.route raised ZeroDivisionError",
        "Careless",
        8,
        "router",
    ),
    "admission that decides nothing": policy(
        "admission Undecided returned None for request 0 at ... allowed: Verdict.ADMIT, Verdict.REJECT",
        "Undecided",
        8,
        "admission",
    ),
    "rate below zero": wrong(
        "arrival shape broken.py:Negative: the rate at 0 s is -10.0; rates are finite and not negative",
        {10: "  arrivals: {shape: broken.py:Negative}"},
        files={"broken.py": BROKEN},
    ),
    "closed loop with a policy in Python": wrong(
        "chat.yaml:7:3: serving.batching: 'broken.py:Idle' is written in Python, and a closed loop ... rate",
        {7: "  batching: broken.py:Idle", 10: "  concurrency: 4"},
        files={"broken.py": BROKEN},
    ),
}

SWEEPS = {
    "unknown swept field": wrong(
        "chat.yaml:15: ... serving.replcas: no such field; allowed: ... (did you mean 'replicas'?)",
        more=SWEEP + "serving.replcas: [1, 2]\n",
    ),
    "axis without values": wrong(
        "chat.yaml:15:3: sweep.serving.replicas: has no values", more=SWEEP + "serving.replicas: []\n"
    ),
    "axis with one value twice": wrong(
        "chat.yaml:15:3: sweep.serving.replicas: has a value twice", more=SWEEP + "serving.replicas: [2, 2]\n"
    ),
    "axis that is a number": wrong(
        "chat.yaml:15:3: sweep.serving.replicas: input should be a valid list, not 2",
        more=SWEEP + "serving.replicas: 2\n",
    ),
    "sweep of the name": wrong(
        "chat.yaml:15:3: sweep.name: belongs to the whole sweep", more=SWEEP + "name: [a, b]\n"
    ),
    "swept numbers without units": wrong(
        (
            "chat.yaml:15:19: workload.rate: 8 needs a unit, for example '4 /s'",
            "chat.yaml:15:22: workload.rate: 9 needs a unit, for example '4 /s'",
        ),
        more=SWEEP + "workload.rate: [8, 9]\n",
    ),
    "no point that is possible": wrong(
        (
            "chat.yaml:15:29: serving.tensor_parallel: 3 does not divide the 32 attention heads",
            "chat.yaml:15:32: serving.tensor_parallel: 5 does not divide the 32 attention heads",
        ),
        more=SWEEP + "serving.tensor_parallel: [3, 5]\n",
    ),
    "no point that fits": wrong(
        (
            "chat.yaml: ... serving.tensor_parallel: Llama-3.1-70B needs",
            "chat.yaml: ... serving.tensor_parallel: Llama-3.1-405B needs",
        ),
        more=SWEEP + "serving.model: [llama-3.1-70b, llama-3.1-405b]\n",
    ),
    "axes together that misspell": wrong(
        "chat.yaml:15:36: serving.tensor_paralel: no such field; ... (did you mean 'tensor_parallel'?)",
        more=SWEEP + "together: [{serving.replicas: 1, serving.tensor_paralel: 1}]\n",
    ),
    "axes together that are no mappings": wrong(
        "chat.yaml:15:3: sweep.together: holds mappings of field paths to values",
        more=SWEEP + "together: [3]\n",
    ),
}

OPTIONS = {
    "--set without a value": wrong(
        "--set 'workload.rate': write FIELD=VALUE, for example serving.tensor_parallel=4",
        args=("-s", "workload.rate"),
    ),
    "--set without a field": wrong("--set '=4': write FIELD=VALUE", args=("-s", "=4")),
    "--set of what is not YAML": wrong(
        "--set workload: '{a' is not a YAML value", args=("-s", "workload={a")
    ),
    "--set of an unknown field": wrong(
        "--set: serving.tensor_paralel: no such field; allowed: ... (did you mean 'tensor_parallel'?)",
        args=("-s", "serving.tensor_paralel=2"),
    ),
    "--set of an unknown part": wrong(
        "--set: engin: no such field; allowed: ... (did you mean 'engine'?)", args=("-s", "engin.leap=no")
    ),
    "--set of a bare number": wrong(
        "--set: workload.rate: 4 needs a unit, for example '4 /s'", args=("-s", "workload.rate=4")
    ),
    "--set below a number": wrong(
        "chat.yaml:5:3: serving.replicas: input should be a valid integer, not {'most': 3}",
        args=("-s", "serving.replicas.most=3"),
    ),
    "output folder that is a file": wrong(
        "out/chat: cannot be written: Not a directory", files={"out": "a file in its place"}
    ),
    "output folder of a sweep that is a file": wrong(
        "out/chat: cannot be written: Not a directory",
        files={"out": "a file in its place"},
        more=SWEEP + "serving.replicas: [1, 2]\n",
    ),
}

CASES = {**FIELDS, **FILES, **MACHINES, **TRACES, **DECISIONS, **SWEEPS, **OPTIONS}
"""Every wrong experiment, by what is wrong with it."""

FULL = """\
name: full
cluster: {node: {kind: dgx-h100, link: {kind: nvswitch, bandwidth: 450 GB/s}}, nodes: 1}
serving:
  model: {kind: mixtral-8x7b, vocabulary: 32000}
  replicas: 1
  tensor_parallel: 2
  expert_parallel: 2
  precision: {weights: fp8}
  stack: {kind: vllm, iteration: 1 ms}
  efficiency: nvidia-hopper
  batching: {kind: mlfq}
  router: {kind: kv-aware}
  admission: {kind: queue-limit, max_waiting: 10}
  memory: {share: 0.9, block_tokens: 16, preemption: swap, swap_space: 4 GB, blocks: 3000}
  slo: {ttft: 1 s, tpot: 50 ms, e2e: 10 s}
workload:
  kind: synthetic
  arrivals: {process: gamma, cv: 2, shape: {kind: diurnal, low: 1 /s, high: 2 /s}}
  requests: 10
  duration: 100 s
  too_long: clip
  prompt: {kind: mixture, parts: [{share: 1, length: 9}, {share: 2, length: {kind: zipf, min: 1, max: 9}}]}
  output: {kind: empirical, values: [1, 2], weights: [1, 2]}
  tenants: {a: 1, b: 2}
seed: 3
engine: {leap: true}
record: {iterations: all, power_bins: 10, power_bin: 1 s}
sweep: {serving.replicas: [1, 2]}
"""
"""A right experiment that writes out most fields."""
JUNK = (None, True, -1, float("inf"), float("nan"), 10**30, "", "1 GB", "a.py:B", "none.yaml")
"""Values that are right for hardly any field."""
