"""Traces of every known schema are read; what is wrong in one is said with file, line and column."""

from __future__ import annotations

import gzip
import json
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import TypeAdapter

from clustersim.errors import SpecError
from clustersim.rng import Streams
from clustersim.spec.workload import Synthetic, Trace, Workload, load_workload
from clustersim.workload import Requests, draw
from clustersim.workload.synthesise import azure_conv_like
from clustersim.workload.write import as_csv, write_csv

ROOT = Path(__file__).resolve().parents[2]
REAL = ROOT.parent / "shared" / "data" / "traces"
OWN = "arrival_s,prompt_tokens,output_tokens\n"
Writer = Callable[..., Path]
BLANK = ":1:1: is empty, or its first line is; column names or a JSON object belong there"
ADAPTER: TypeAdapter[Synthetic | Trace] = TypeAdapter(Workload)


def trace(file: Path, **fields: Any) -> Synthetic | Trace:
    return ADAPTER.validate_python({"kind": "trace", "file": file, **fields}, context={"needs_units": True})


def play(file: Path, seed: int = 1, **fields: Any) -> Requests:
    return draw(trace(file, **fields), Streams(seed))


@pytest.fixture
def write(tmp_path: Path) -> Writer:
    def written(text: str | bytes, name: str = "t.csv") -> Path:
        data = text if isinstance(text, bytes) else text.encode()
        (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return tmp_path / name

    return written


def mistakes(file: Path, **fields: Any) -> list[str]:
    with pytest.raises(SpecError) as caught:
        play(file, **fields)
    return [str(problem).removeprefix(f"{file}") for problem in caught.value.problems]


def real(*parts: str) -> Path:
    file = REAL.joinpath(*parts)
    if not file.exists():
        pytest.skip(f"the public trace {'/'.join(parts)} is not beside this repository")
    return file


SCHEMAS = {
    "csv": OWN + "0,374,44\n1.5,396,109\n",
    "azure-2023": "TIMESTAMP,ContextTokens,GeneratedTokens\r\n2023-11-16 18:15:46.6805900,374,44\r\n"
    "2023-11-16 18:15:48.1805900,396,109",
    "azure-2024": "timestamp,CONTEXTTOKENS,generated_tokens\n2024-05-10 00:00:00.009930+00:00,374,44\n"
    "2024-05-10 00:00:01.509930+00:00,396,109\n",
    "burstgpt": "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,"
    "Total tokens,Log Type\n5.0,ab,3,GPT-4,374,44,418,Conversation log\n"
    "6.5,cd,3,ChatGPT,396,109,505,API log\n",
    "vidur": "arrived_at,num_prefill_tokens,num_decode_tokens,pd_ratio\n0,374,44,8.5\n1.5,396,109,3.6\n",
    "sharegpt": "arrival_time_ns,input_toks,output_toks\n46926808,374,44\n1546926808,396,109\n",
}


@pytest.mark.parametrize("name", SCHEMAS)
@pytest.mark.parametrize("stated", [True, False])
def test_every_csv_schema_is_read_and_found_by_its_columns(write: Writer, name: str, stated: bool) -> None:
    found = play(write(SCHEMAS[name]), **({"format": name} if stated else {}))
    assert found.arrival_s.tolist() == pytest.approx([0.0, 1.5], abs=1e-9)
    assert found.prompt_tokens.tolist() == [374, 396]
    assert found.output_tokens.tolist() == [44, 109]


MOONCAKE = [
    {"timestamp": 0, "input_length": 1000, "output_length": 5, "hash_ids": [0, 1]},
    {"timestamp": 0, "input_length": 1100, "output_length": 6, "hash_ids": [0, 1, 2]},
    {"timestamp": 3000, "input_length": 500, "output_length": 7, "hash_ids": [0]},
]


def lines(rows: list[Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.mark.parametrize("name", ["m.jsonl", "m.jsonl.gz"])
def test_mooncake_lines_are_read_with_their_prefix_blocks(write: Writer, name: str) -> None:
    found = play(write(lines(MOONCAKE), name), spread="0 s")
    assert found.arrival_s.tolist() == [0.0, 0.0, 3.0]
    assert found.blocks is not None
    assert found.blocks.block_tokens == 512
    assert [found.blocks.of(i).tolist() for i in range(3)] == [[0, 1], [0, 1, 2], [0]]
    later = play(write(lines(MOONCAKE), name), spread="0 s", start="1 s")
    assert later.blocks is not None
    assert later.blocks.of(0).tolist() == [0]


def test_clipped_prompts_lose_blocks_and_scaled_prompts_all_of_them(write: Writer) -> None:
    file = write(lines(MOONCAKE), "m.jsonl")
    clipped = draw(trace(file, too_long="clip"), Streams(0), 518)
    assert clipped.blocks is not None
    assert [len(clipped.blocks.of(i)) for i in range(3)] == [2, 1, 1]
    scaled = play(file, scale_prompt=0.5)
    assert scaled.blocks is None
    assert "no longer match their prefix blocks" in scaled.notes[-1]


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.jsonl", "t.parquet"])
def test_the_same_rows_in_any_container_are_the_same_requests(
    write: Writer, tmp_path: Path, name: str
) -> None:
    columns = {"arrival_s": [0.0, 0.5, 2.0], "prompt_tokens": [3, 4, 5], "output_tokens": [6, 7, 8],
               "tenant": ["a", "b", "a"]}  # fmt: skip
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    if name.endswith("parquet"):
        pq.write_table(pa.table(columns), tmp_path / name)
    elif name.endswith("jsonl"):
        write(lines(rows), name)
    else:
        write("\n".join([",".join(columns), *(",".join(map(str, row.values())) for row in rows)]), name)
    found = play(tmp_path / name)
    assert found.arrival_s.tolist() == [0.0, 0.5, 2.0]
    assert found.tenant == ["a", "b", "a"]
    assert play(tmp_path / name, tenants=["a"]).prompt_tokens.tolist() == [3, 5]


def test_rows_out_of_order_are_sorted_and_ties_keep_the_order_of_the_file(write: Writer) -> None:
    found = play(write(OWN + "7,1,1\n5,2,2\n5,3,3\n9,4,4\n"))
    assert found.arrival_s.tolist() == [0, 0, 2, 4]
    assert found.prompt_tokens.tolist() == [2, 3, 1, 4]
    assert "1 of 4 rows came before their predecessor; all were sorted by time" in found.notes
    assert "time 0 is the earliest stamp, 5" in found.notes


@pytest.mark.parametrize(
    ("header", "unit", "stamps"),
    [
        ("arrival_s", None, "1700000000.25 1700000001.75"),
        ("arrival_ms", None, "1700000000250 1700000001750"),
        ("arrival_us", None, "1700000000250000 1700000001750000"),
        ("arrival_ns", None, "1700000000250000000 1700000001750000000"),
        ("arrival_s", "100ns", "133440000002500000 133440000017500000"),
        ("arrival_s", "ms", "250 1750"),
    ],
)
def test_stamps_in_any_unit_give_the_same_seconds(
    write: Writer, header: str, unit: str | None, stamps: str
) -> None:
    first, second = stamps.split()
    file = write(f"{header},prompt_tokens,output_tokens\n{first},1,1\n{second},1,1\n")
    assert play(file, **({"time_unit": unit} if unit else {})).arrival_s.tolist() == pytest.approx([0.0, 1.5])


def test_stamps_with_and_without_fractions_and_zones_are_read_in_one_file(write: Writer) -> None:
    file = write(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n2024-05-10 00:00:00+00:00,1,1\n2024-05-10 00:00:01.5,2,2\n"
        " 2024-05-10 02:00:02.1234567+02:00 , 3 ,3\n"
    )
    assert play(file).arrival_s.tolist() == pytest.approx([0.0, 1.5, 2.1234567], abs=1e-12)


def test_stamps_of_100_ns_keep_every_digit(write: Writer) -> None:
    stamps = ["2023-11-16 18:15:46.6805900", "2023-11-16 18:15:46.6805901"]
    rows = "".join(f"{stamp},1,1\n" for stamp in stamps)
    assert play(write("TIMESTAMP,ContextTokens,GeneratedTokens\n" + rows)).arrival_s[1] == pytest.approx(1e-7)


def test_rounded_stamps_are_spread_inside_their_step_for_mooncake_and_told_of_otherwise(
    write: Writer,
) -> None:
    rows = [{"timestamp": 3000 * (i // 10), "input_length": i + 1, "output_length": 1} for i in range(200)]
    found = play(write(lines(rows), "m.jsonl"))
    gaps = np.diff(found.arrival_s)
    assert (gaps > 0).all()
    assert gaps.mean() == pytest.approx(0.3, rel=0.1)
    assert found.prompt_tokens.tolist() == list(range(1, 201))
    first_s = float(found.notes[-1].split(" came at ")[1].split()[0])
    assert ((found.arrival_s + first_s) // 3 == np.arange(200) // 10).mean() > 0.99
    assert "90% of arrivals share a stamp" in found.notes[0]
    text = OWN + "".join(f"{3 * (i // 10)},1,1\n" for i in range(200))
    assert "spread: 3 s would spread them" in play(write(text)).notes[0]
    assert (np.diff(play(write(text), spread="3 s").arrival_s) > 0).all()


def test_failed_requests_of_burstgpt_are_dropped_and_counted(write: Writer) -> None:
    found = play(write(SCHEMAS["burstgpt"] + "7.0,ef,3,GPT-4,77,0,77,API log\n"))
    assert len(found) == 2
    assert "1 of 3 rows are failed requests (no response) and were dropped" in found.notes
    assert found.tenant == ["GPT-4", "ChatGPT"]


def test_empty_rows_are_refused_or_dropped_as_told(write: Writer) -> None:
    file = write(OWN + "0,5,5\n1,0,5\n2,5,0\n3,5,5\n")
    assert mistakes(file) == [
        ":3:3: prompt_tokens: is zero tokens; zero_tokens: drop leaves such rows out".replace("'0' is", "is"),
        ":4:5: output_tokens: is zero tokens; zero_tokens: drop leaves such rows out",
    ]
    found = play(file, zero_tokens="drop")
    assert found.arrival_s.tolist() == [0, 3]
    assert "2 of 4 rows have zero tokens and were dropped" in found.notes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", [BLANK]),
        ("\n" + OWN, [BLANK]),
        (OWN, [":1:1: has no rows"]),
        (OWN + "0,5,5\nx,5,5\n", [":3:1: arrival_s: 'x' is not a number"]),
        (OWN + "0,5,5\n\n\n1,abc,5\n", [":5:3: prompt_tokens: 'abc' is not a number"]),
        (OWN + "0,5,5\n1,nan,5\n", [":3:3: prompt_tokens: 'nan' is not a finite number"]),
        (OWN + "0,5,5\ninf,5,5\n", [":3:1: arrival_s: 'inf' is not a finite number"]),
        (OWN + "0,5,5\n1,5,-2\n", [":3:5: output_tokens: '-2' is negative"]),
        (OWN + "0,5,5\n-1,5,2\n", [":3:1: arrival_s: '-1' is negative"]),
        (OWN + "0,5,5\n1,5.5,2\n", [":3:3: prompt_tokens: '5.5' is not a whole number of tokens"]),
        (OWN + "0,5,5\n1,,2\n", [":3:3: prompt_tokens: is missing"]),
        (OWN + "0,5,5\n1,5", [":3:1: has 2 fields where the header has 3: cut short, or a stray separator"]),
        (OWN + "0,5,5\n2023-11-16 18:15:46,5,5\n", [":1:1: arrival_s: mixes dates with plain numbers"]),
        (OWN + "0,x,y\n", [":2:3: prompt_tokens: 'x' is not a number",
                           ":2:5: output_tokens: 'y' is not a number"]),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-13-16 18:15:46,5,5\n",
         [":2:1: TIMESTAMP: '2023-13-16 18:15:46' is not a date and time such as 2023-11-16 18:15:46.68"]),
    ],
)  # fmt: skip
def test_every_mistake_has_its_line_and_column(write: Writer, text: str, expected: list[str]) -> None:
    assert mistakes(write(text)) == expected
    if text.strip():
        assert mistakes(write(text, "t.csv.gz")) == expected


def test_ten_mistakes_are_shown_and_the_rest_counted(write: Writer) -> None:
    found = mistakes(write(OWN + "0,x,5\n" * 1234))
    assert len(found) == 11
    assert found[-1] == ": and 1,224 more"


def test_a_missing_column_is_named_with_what_is_there(write: Writer) -> None:
    file = write("when,ContextTokens,GeneratedTokens\n0,1,1\n")
    assert mistakes(file) == [
        ": workload.file: has no arrival times; give poisson_rate, arrivals or concurrency"
    ]
    assert (
        "lacks a column that mooncake needs: inputlength, outputlength"
        in mistakes(file, format="mooncake")[0]
    )
    unknown = mistakes(write("t,in,out\n0,1,1\n"))[0]
    assert "is of no known format (azure-2023," in unknown
    assert "it has t, in, out; name them, as in columns: {arrival: t, prompt: in, output: out}" in unknown


def test_a_foreign_file_is_read_by_naming_its_columns(write: Writer) -> None:
    file = write("t;in;out;who\n0;1;2;a\n500;3;4;b\n")
    names = {"arrival": "t", "prompt": "in", "output": "out", "tenant": "who"}
    found = play(file, columns=names, time_unit="ms")
    assert found.arrival_s.tolist() == [0.0, 0.5]
    assert found.tenant == ["a", "b"]
    assert "has no column 'input' for prompt; it has t, in, out, who" in mistakes(
        file, columns=names | {"prompt": "input"}
    )[0]  # fmt: skip


def test_text_that_is_not_utf8_is_refused_where_it_stands(write: Writer) -> None:
    head = b"arrival_s,prompt_tokens,output_tokens,tenant\n"
    assert mistakes(write(head + b"0,5,5,ok\n1,5,5,caf\xe9\n")) == [":3:10: is not UTF-8 text"]
    assert mistakes(write("arrival_s,prompt".encode("utf-16"))) == [
        ":1:1: is not UTF-8 text; save it as UTF-8"
    ]
    assert play(write(b"\xef\xbb\xbf" + head + "0,5,5,café\n".encode())).tenant == ["café"]


def test_damaged_files_are_refused(write: Writer, tmp_path: Path) -> None:
    whole = gzip.compress(
        (OWN + "".join(f"{i},{i * 7919 % 997 + 1},{i % 89 + 1}\n" for i in range(3000))).encode()
    )
    (tmp_path / "cut.csv.gz").write_bytes(whole[: len(whole) // 2])
    assert "is cut short or damaged: the gzip data break off here" in mistakes(tmp_path / "cut.csv.gz")[-1]
    (tmp_path / "fake.csv.gz").write_bytes(OWN.encode())
    assert mistakes(tmp_path / "fake.csv.gz") == [":1:1: is not a whole gzip file"]
    (tmp_path / "fake.parquet").write_bytes(b"PAR1")
    assert mistakes(tmp_path / "fake.parquet") == [": is not a whole Parquet file"]
    assert "is not a table; its name must end in .csv" in mistakes(write(OWN, "t.xls"))[0]


def test_mistakes_in_json_lines_and_parquet_have_their_place(write: Writer, tmp_path: Path) -> None:
    rows: list[Any] = [*MOONCAKE, {"timestamp": 1, "input_length": -1, "output_length": 5, "hash_ids": ["a"]}]
    assert mistakes(write(lines(rows) + '{"timestamp": 1, "inp', "m.jsonl")) == [
        ":4:18: input_length: -1 is negative",
        ":4:58: hash_ids: is not a list of whole numbers of 64 bits",
        ":5:18: is not JSON (cut short?): Unterminated string starting at",
    ]
    assert mistakes(write("[1]\n", "m.jsonl")) == [":1:1: is not a JSON object a line"]
    columns = {"arrival_s": [0.0, 1.0], "prompt_tokens": [3, None], "output_tokens": [0, 7]}
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    assert mistakes(tmp_path / "t.parquet") == [
        ":1: output_tokens: is zero tokens; zero_tokens: drop leaves such rows out",
        ":2: prompt_tokens: is missing",
    ]


TEN = OWN + "".join(f"{2 * i},{i + 1},{i + 1}\n" for i in range(10))


def test_a_stretch_of_a_trace_is_cut_out_and_moved_to_zero(write: Writer) -> None:
    found = play(write(TEN), start="3 s", duration="8 s", requests=3)
    assert found.arrival_s.tolist() == [0, 2, 4]
    assert found.prompt_tokens.tolist() == [3, 4, 5]
    assert found.notes == (
        "3 of 10 requests are in the wanted stretch; the rest was left out",
        "the first request of the stretch came at 4 s and now arrives at 0",
    )
    assert "no request arrives from 30 s to inf s; the last at 18 s" in mistakes(write(TEN), start="30 s")[0]


def test_a_trace_is_stretched_by_speed_or_to_a_rate(write: Writer) -> None:
    assert play(write(TEN), speed=2).arrival_s.tolist() == list(range(10))
    found = play(write(TEN), rate="5 /s")
    assert found.arrival_s.tolist() == pytest.approx([0.2 * i for i in range(10)])
    assert found.notes == ("played 10 times as fast, from 0.5 to 5 requests/s",)
    assert "all requests share one time" in mistakes(write(OWN + "0,1,1\n0,1,1\n"), rate="5 /s")[0]


def test_redrawn_arrivals_keep_the_lengths_and_meet_the_stream_of_a_synthetic_load(write: Writer) -> None:
    found = play(write(TEN), poisson_rate="3 /s")
    fields = {"rate": "3 /s", "requests": 10, "prompt": 1, "output": 1}
    synthetic = draw(ADAPTER.validate_python(fields, context={"needs_units": True}), Streams(1))
    assert found.arrival_s.tolist() == synthetic.arrival_s.tolist()
    assert found.prompt_tokens.tolist() == list(range(1, 11))
    assert not play(write(TEN), concurrency=4).arrival_s.any()


def test_lengths_are_scaled_to_at_least_one_token(write: Writer) -> None:
    found = play(write(TEN), scale_prompt=2, scale_output=0.1)
    assert found.prompt_tokens.tolist() == [2 * i for i in range(1, 11)]
    assert found.output_tokens.tolist() == [1] * 10


def test_unknown_tenants_are_refused(write: Writer) -> None:
    assert mistakes(write(SCHEMAS["burstgpt"]), tenants=["GPT4"]) == [
        ": workload.tenants: no request is of tenant 'GPT4'; allowed: ChatGPT, GPT-4 (did you mean 'GPT-4'?)"
    ]
    assert mistakes(write(TEN), tenants=["a"]) == [": workload.tenants: the file names no tenants"]


def test_only_one_way_to_change_arrivals_is_accepted(write: Writer) -> None:
    with pytest.raises(ValueError, match="speed and rate exclude each other"):
        trace(write(TEN), speed=2, rate="5 /s")


def clients(folder: Path) -> Path:
    """Write three clients: a steady one, one that wakes after an hour, and one without lengths."""
    for number, rates in enumerate(([2.0] * 12, [0.0] * 6 + [4.0] * 6, [1.0] * 12)):
        rows = [
            f"{600 * i},{r},{2 if r else 0},{'Gamma' if r else ''},{0.25 if r else 0},9\n"
            for i, r in enumerate(rates)
        ]
        (folder / f"chunk-{number}-trace.csv").write_text("".join(rows))
    first = {"0": {"input_tokens": "{10: 0.5, 20: 0.5}", "output_tokens": "{5: 1.0}"}}
    second = {"0": {"input_tokens": "{}", "output_tokens": "{}"},
              "3600": {"text_tokens": "{7: 1.0}", "image_count": "{0: 0.5, 2: 0.5}",
                       "image_tokens": "{100: 1.0}",
                       "audio_count": "{0: 1.0}", "audio_tokens": "{3: 1.0}", "video_count": "{0: 1.0}",
                       "video_tokens": "{3: 1.0}", "output_tokens": "{9: 1.0}"}}  # fmt: skip
    for number, lengths in enumerate((first, second)):
        (folder / f"chunk-{number}-dataset.json").write_text(json.dumps(lengths))
    return folder


def test_servegen_clients_ask_at_their_own_times_for_their_own_lengths(tmp_path: Path) -> None:
    found = play(clients(tmp_path), duration="2 h")
    assert found.tenant is not None
    late = np.array([tenant == "client-1" for tenant in found.tenant])
    assert (~late).sum() == pytest.approx(2 * 7200, rel=0.05)
    assert late.sum() == pytest.approx(4 * 3600, rel=0.05)
    assert found.arrival_s[late].min() > 3590
    assert set(found.prompt_tokens[~late]) == {10, 20}
    assert set(found.prompt_tokens[late]) == {7, 207}
    assert (found.output_tokens == np.where(late, 9, 5)).all()
    assert "1 of 3 clients have no lengths and were left out (20.0% of the load)" in found.notes


def test_servegen_rates_may_be_raised_and_one_client_changes_no_other(tmp_path: Path) -> None:
    folder = clients(tmp_path)
    assert len(play(folder, duration="2 h", rate="20 /s")) == pytest.approx(144_000, rel=0.02)
    alone = play(folder, duration="2 h", tenants=["client-0"]).arrival_s
    (folder / "chunk-1-trace.csv").write_text("0,9.0,1,Weibull,1,1\n600,9.0,1,Weibull,1,1\n")
    assert play(folder, duration="2 h", tenants=["client-0"]).arrival_s.tolist() == alone.tolist()


def test_mistakes_in_servegen_folders_are_named(tmp_path: Path) -> None:
    folder = clients(tmp_path)
    assert "is drawn, not read: say how much, as in duration: 1 h" in mistakes(folder)[0]
    assert (
        "no client asks for anything from 1e+06 s" in mistakes(folder, start="1000000 s", duration="1 h")[0]
    )
    (folder / "chunk-1-trace.csv").write_text("0,1,1,Gamma,1,1\n600,x,1,Gamma,1,1\n")
    problem = mistakes(folder, duration="1 h")[0]
    assert problem.endswith("chunk-1-trace.csv:2:1: is not start_s,rate,cv,Gamma|Weibull|,shape,scale")
    (folder / "chunk-1-trace.csv").unlink()
    (folder / "chunk-0-dataset.json").write_text(
        '{"0": {"input_tokens": "{1: x}", "output_tokens": "{1: 1}"}}'
    )
    assert "0.input_tokens is not {tokens: share, ...}" in mistakes(folder, duration="1 h")[0]
    (folder / "empty").mkdir()
    assert "has no chunk-N-trace.csv" in mistakes(folder / "empty", duration="1 h")[0]


def test_a_drawn_load_is_written_and_read_back(tmp_path: Path) -> None:
    drawn = draw(load_workload("chat"), Streams(3))
    for name in ("kept.csv", "kept.csv.gz"):
        write_csv(drawn, tmp_path / name)
        found = play(tmp_path / name)
        assert found.arrival_s == pytest.approx(drawn.arrival_s - drawn.arrival_s[0], abs=2e-6)
        assert found.prompt_tokens.tolist() == drawn.prompt_tokens.tolist()
        assert found.output_tokens.tolist() == drawn.output_tokens.tolist()


def test_the_shipped_trace_is_what_its_recipe_draws_and_has_the_fitted_statistics() -> None:
    shipped = gzip.decompress((ROOT / "workloads" / "traces" / "azure-conv-like.csv.gz").read_bytes())
    assert shipped.decode() == as_csv(azure_conv_like())
    found = draw(load_workload("azure-conv-like"), Streams(0))
    gaps = np.diff(found.arrival_s)
    assert len(found) == 5000
    assert 1 / gaps.mean() == pytest.approx(5.53, rel=1e-4)
    assert gaps.std() / gaps.mean() == pytest.approx(1.09, rel=0.05)
    assert np.quantile(found.prompt_tokens, [0.5, 0.9, 0.99]) == pytest.approx([1020, 2735, 4142], rel=0.05)
    assert np.quantile(found.output_tokens, [0.5, 0.9, 0.99]) == pytest.approx([129, 424, 601], rel=0.05)
    assert np.corrcoef(found.prompt_tokens, found.output_tokens)[0, 1] == pytest.approx(-0.11, abs=0.03)


@pytest.mark.parametrize(
    ("name", "rows", "rate", "prompts", "outputs"),
    [("conv", 19_366, 5.53, [1020, 2735, 4142], [129, 424, 601]),
     ("code", 8_819, 2.57, [1469, 5188, 7436], [13, 55, 251])],
)  # fmt: skip
def test_the_azure_hours_of_2023_are_read_whole(
    name: str, rows: int, rate: float, prompts: list[int], outputs: list[int]
) -> None:
    found = play(real("azure-llm-2023", f"AzureLLMInferenceTrace_{name}.csv.gz"))
    assert len(found) == rows
    assert (rows - 1) / found.arrival_s[-1] == pytest.approx(rate, abs=0.005)
    assert np.quantile(found.prompt_tokens, [0.5, 0.9, 0.99]) == pytest.approx(prompts, abs=1)
    assert np.quantile(found.output_tokens, [0.5, 0.9, 0.99]) == pytest.approx(outputs, abs=1)


def test_a_real_hour_is_read_in_less_than_a_fifth_of_a_second() -> None:
    file = real("azure-llm-2023", "AzureLLMInferenceTrace_conv.csv.gz")
    play(file)
    before_s = time.process_time()
    play(file)
    assert time.process_time() - before_s < 0.2


def test_the_mooncake_hour_is_read_with_blocks_and_spread_over_its_3_s_steps() -> None:
    file = real("mooncake-fast25", "conversation_trace.jsonl.gz")
    found, bulk = play(file), play(file, spread="0 s")
    assert len(found) == len(bulk) == 12_031
    assert (np.diff(bulk.arrival_s) == 0).mean() == pytest.approx(0.90, abs=0.005)
    assert (np.diff(found.arrival_s) == 0).mean() < 0.001
    assert "stamps step by about 3 s" in found.notes[0]
    assert found.blocks is not None
    assert (np.diff(found.blocks.offsets) == -(-found.prompt_tokens // 512)).mean() > 0.99
    assert len(np.unique(found.blocks.ids)) / len(found.blocks.ids) == pytest.approx(1 - 0.366, abs=0.005)


def test_the_real_servegen_clients_ask_at_the_published_rate(tmp_path: Path) -> None:
    for part in ("traces", "datasets"):
        with tarfile.open(real("servegen", f"{part}_deepseek-r1.tar.gz")) as packed:
            packed.extractall(tmp_path, filter="data")
    found = play(tmp_path / "reason" / "deepseek-r1", duration="1 d", rate=None)
    assert len(found) / 86_400 == pytest.approx(16.0, abs=0.1)
    assert len(set(found.tenant or [])) >= 60
    share = np.sort(np.unique(found.tenant or [], return_counts=True)[1])[::-1][:10].sum() / len(found)
    assert 0.6 < share < 0.95
