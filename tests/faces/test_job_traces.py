"""Job traces: every published schema is read, every trap is seen, every mistake has its line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from clustersim.errors import ClusterSimError, SpecError, UnknownNameError
from clustersim.plots import jobs as plots
from clustersim.policies.cluster import JobScheduler, Placement
from clustersim.policies.registry import names
from clustersim.record.tables import TABLES
from clustersim.rng import Streams
from clustersim.sim.cluster import simulate_cluster
from clustersim.spec.base import card_data, card_files
from clustersim.spec.joblist import CARDS, JobTrace, SyntheticJobs
from clustersim.spec.jobs import JobCluster, NodeGroup, Scheduling
from clustersim.workload.jobs import ReadOptions, draw_jobs, formats, make_jobs, read_jobs

ROOT = Path(__file__).resolve().parents[2]
TRACES = ROOT.parent / "shared" / "data" / "traces"


def trace(name: str) -> Path:
    if not (TRACES / name).is_file():
        pytest.skip(f"the trace {name} is not beside this checkout")
    return TRACES / name


def written(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return file


@pytest.mark.parametrize(
    ("name", "jobs", "span_s", "largest", "queues"),
    [
        ("philly-pollux/philly.csv.gz", 82_247, 9_408_690, 128, 15),
        ("helios-venus-2vc-sept/helios_venus_2vc_sept.csv.gz", 1_867, 2_216_428, 144, 2),
        ("muri/trace1.csv.gz", 1_494, 10_817_570, 32, 1),
        ("muri/cluster_trace.csv.gz", 400, 2_344_695, 32, 1),
        ("tiresias/60_job.csv", 60, 1_779, 8, 1),
        ("alibaba-openb-2023/openb_pod_list_default.csv.gz", 7_255, 12_901_761, 8, 4),
        ("gavel/max_min_fairness.trace", 96, 46_317, 4, 1),
    ],
)
def test_public_traces_are_read_whole(name, jobs, span_s, largest, queues):
    summary = read_jobs(trace(name)).summary()
    assert [summary[k] for k in ("jobs", "span_s", "largest", "queues")] == [jobs, span_s, largest, queues]


def test_philly_is_put_in_order_and_its_dates_begin_at_zero():
    jobs = read_jobs(trace("philly-pollux/philly.csv.gz"))
    assert np.all(np.diff(jobs.submit_s) >= 0)
    assert jobs.submit_s[0] == 0
    assert jobs.summary()["accelerator_s"] == pytest.approx(978_078 * 3600, rel=1e-5)


def test_muri_is_in_milliseconds():
    jobs = read_jobs(trace("muri/trace1.csv.gz"))
    assert jobs.duration_s[0] == 2_868_294.0


def test_pods_that_never_ran_are_counted_and_parts_of_accelerators_kept():
    jobs = read_jobs(trace("alibaba-openb-2023/openb_pod_list_default.csv.gz"))
    assert jobs.dropped == {"never scheduled in the trace": 897}
    assert 0.2 < np.mean(jobs.share < 1) < 0.5
    assert np.all(jobs.accelerators[jobs.share < 1] == 1)


def test_older_traces_of_gavel_have_seven_columns():
    jobs = read_jobs(trace("gavel/msr-seed0/11cb48.trace.gz"))
    assert len(jobs) > 100
    assert np.all(jobs.duration_s > 0)


# -- small files by hand -----------------------------------------------------------------------------

HELIOS = """\
job_id,user,vc,jobname,gpu_num,cpu_num,node_num,state,submit_time,start_time,end_time,duration,queue
7,u1,vcA,x,8,32,1,COMPLETED,2020-04-01 00:00:10,2020-04-01 00:00:10,2020-04-01 00:01:10,60,0
6,u1,vcA,x,1,4,1,CANCELLED,2020-04-01 00:00:00,2020-04-01 00:00:00,2020-04-01 00:00:05,5,0
8,u2,vcB,x,0,4,1,FAILED,2020-04-01 00:00:00,2020-04-01 00:00:00,2020-04-01 00:00:05,5,0
"""
ACME = """\
job_id,user,node_num,gpu_num,cpu_num,type,state,submit_time,start_time,end_time,duration,queue,gpu_time
a,u,2,16,64,Pretrain,COMPLETED,2023-03-01 00:00:00+08:00,2023-03-01 00:01:00+08:00,x,600,60,9600
b,u,1,8,64,Eval,FAILED,2023-03-01 00:00:30+08:00,,,,30,
"""
PAI = """job_name,task_name,inst_num,status,start_time,end_time,plan_cpu,plan_mem,plan_gpu,gpu_type
j1,worker,4,Terminated,100,400,600,30,100,V100
j2,tf,1,Failed,50,80,600,30,25,MISC
j3,tf,2,Terminated,50,80,600,30,25,T4
j4,tf,1,Running,50,,600,30,100,T4
"""
SWF = """; a comment
; UnixStartTime: 0
1 0 5 100 4 -1 -1 8 3600 -1 1 3 1 -1 2 -1 -1 -1
2 10 -1 -1 -1 -1 -1 4 60 -1 5 3 1 -1 2 -1 -1 -1
3 20 0 50 4 -1 -1 -1 -1 -1 0 4 1 -1 -1 -1 -1 -1
"""
SACCT = """JobID|User|Partition|Submit|Start|End|Timelimit|AllocTRES|State
11|ann|gpu|2024-01-01T00:00:00|2024-01-01T00:01:00|2024-01-01T01:01:00|1-02:00:00|gres/gpu:h100=8,gres/gpu=8|COMPLETED
12|bob|gpu|2024-01-01T00:00:30|2024-01-01T00:01:00|Unknown|UNLIMITED|gres/gpu=1|RUNNING
13|bob|cpu|2024-01-01T00:00:40|2024-01-01T00:01:00|2024-01-01T00:02:00|00:10:00|cpu=4|CANCELLED by 0
14|bob|gpu|2024-01-01T00:00:50|2024-01-01T00:01:00|2024-01-01T00:02:00|00:10:00|gres/gpu:a100=2|CANCELLED by 7
"""
TIME = "2017-10-09 0{}:00:00"
PHILLY = [
    {"status": "Failed", "vc": "v", "jobid": "j", "user": "u", "submitted_time": TIME.format(1)}
    | {"attempts": []},
    {"status": "Killed", "vc": "v", "jobid": "k", "user": "u", "submitted_time": TIME.format(1)}
    | {"attempts": []},
]
for begin, end, devices in ((2, 3, ["gpu0"]), (4, 6, ["gpu0", "gpu1"])):
    attempt = {"start_time": TIME.format(begin), "end_time": TIME.format(end)}
    PHILLY[0]["attempts"].append(attempt | {"detail": [{"ip": "m", "gpus": devices}]})


def test_helios_logs_lose_their_processor_jobs_and_say_so(tmp_path):
    jobs = read_jobs(written(tmp_path, "cluster_log.csv", HELIOS))
    assert jobs.name.tolist() == ["6", "7"]
    assert jobs.submit_s.tolist() == [0.0, 10.0]
    assert jobs.status.tolist() == ["cancelled", "finished"]
    assert jobs.dropped == {"asks for no accelerator": 1}


def test_acme_stamps_have_a_zone_and_jobs_without_a_duration_are_counted(tmp_path):
    jobs = read_jobs(written(tmp_path, "trace_seren.csv", ACME))
    assert jobs.accelerators.tolist() == [16]
    assert jobs.dropped == {"no duration: it never ran or had not ended": 1}


def test_pai_tasks_are_gangs_or_parts(tmp_path):
    jobs = read_jobs(written(tmp_path, "pai_task_table.csv", PAI))
    assert jobs.name.tolist() == ["j2", "j1"]
    assert jobs.accelerators.tolist() == [1, 4]
    assert jobs.share.tolist() == [0.25, 1.0]
    assert jobs.kinds.tolist() == [(), ("V100",)]
    assert sum(jobs.dropped.values()) == 2


def test_swf_takes_what_was_asked_before_what_was_used(tmp_path):
    jobs = read_jobs(written(tmp_path, "log.swf", SWF))
    assert jobs.accelerators.tolist() == [8, 4]
    assert jobs.estimate_s.tolist() == [3600.0, np.inf]
    assert jobs.queue.tolist() == ["2", ""]
    assert jobs.status.tolist() == ["finished", "failed"]
    assert jobs.dropped == {"never ran": 1}


def test_sacct_names_kinds_limits_and_ends(tmp_path):
    jobs = read_jobs(written(tmp_path, "sacct.txt", SACCT))
    assert jobs.name.tolist() == ["11", "14"]
    assert jobs.accelerators.tolist() == [8, 2]
    assert jobs.kinds.tolist() == [("h100",), ("a100",)]
    assert jobs.limit_s.tolist() == [26 * 3600.0, 600.0]
    assert jobs.status.tolist() == ["finished", "cancelled"]
    assert sum(jobs.dropped.values()) == 2


@pytest.mark.parametrize(("attempts", "duration_s"), [("sum", 3 * 3600.0), ("last", 2 * 3600.0)])
def test_attempts_of_philly_are_summed_or_the_last_counts(tmp_path, attempts, duration_s):
    file = written(tmp_path, "cluster_job_log.json", json.dumps(PHILLY))
    jobs = read_jobs(file, options=ReadOptions(attempts=attempts))
    assert jobs.duration_s.tolist() == [duration_s]
    assert jobs.accelerators.tolist() == [2]
    assert jobs.dropped == {"never ran, or had not ended": 1}


def test_our_own_table_holds_everything_a_job_can_say(tmp_path):
    text = (
        "# ours\nsubmit_s,duration_s,accelerators,queue,estimate_s,kinds,share,min_accelerators,deadline_s\n"
        "3,5,1,a,9,h100|h200,0.5,1,\n1,6,8,b,,,,2,100\n"
    )
    jobs = read_jobs(written(tmp_path, "jobs.csv", text))
    assert jobs.submit_s.tolist() == [1.0, 3.0]
    assert jobs.kinds.tolist() == [(), ("h100", "h200")]
    assert jobs.estimate_s.tolist() == [np.inf, 9.0]
    assert jobs.share.tolist() == [1.0, 0.5]
    assert jobs.min_accelerators.tolist() == [2, 1]
    assert jobs.deadline_s.tolist() == [100.0, np.inf]


def test_pollux_workloads_need_to_be_told_how_long_applications_run(tmp_path):
    text = "name,time,application,num_replicas,batch_size\na,0,bert,4,8\nb,10,ncf,1,8\n"
    file = written(tmp_path, "workload-1.csv", text)
    with pytest.raises(
        ClusterSimError, match="give services_s, the accelerator-seconds of each application: bert, ncf"
    ):
        read_jobs(file)
    jobs = read_jobs(file, options=ReadOptions(services_s={"bert": 400.0}))
    assert jobs.duration_s.tolist() == [100.0]
    assert jobs.max_accelerators.tolist() == [64]
    assert sum(jobs.dropped.values()) == 1


def test_jobs_that_share_a_second_keep_the_order_of_the_file():
    jobs = make_jobs(
        submit_s=[5, 5, 5, 0], duration_s=[1] * 4, accelerators=[1] * 4, name=["a", "b", "c", "d"]
    )
    assert jobs.name.tolist() == ["d", "a", "b", "c"]


MISTAKES = [
    ("submit_s,duration_s,accelerators\n1,2,x\n", "2: accelerators: 'x' is not a number"),
    ("submit_s,duration_s,accelerators\n1,2\n", "2: has 2 fields where the header has 3"),
    ("submit_s,duration_s,accelerators\n1,-2,1\n", "2: the duration is negative"),
    ("submit_s,duration_s,accelerators\n1,2,1.5\n", "2: the accelerators are no whole number"),
    (
        "timestamp,duration,num_gpus,cluster\nyesterday,2,1,a\n2017-01-01 00:00:00,1,1,a\n",
        "2: timestamp: 'yesterday'",
    ),
    ("submit_s,duration_s,accelerators\n1,2,1\n,2,1\n\n4,oops,1\n", "5: duration_s: 'oops' is not a number"),
]


@pytest.mark.parametrize(("text", "says"), MISTAKES)
def test_a_mistake_is_told_with_its_line(tmp_path, text, says):
    file = written(tmp_path, "jobs.csv", text)
    with pytest.raises(SpecError) as error:
        read_jobs(file)
    assert f"jobs.csv:{says}" in str(error.value)


def test_a_foreign_file_is_told_what_could_be_read(tmp_path):
    with pytest.raises(
        ClusterSimError, match=r"no known schema has the columns 'a,b'.*name one: acme, fleetsim"
    ):
        read_jobs(written(tmp_path, "x.csv", "a,b\n1,2\n"))
    with pytest.raises(UnknownNameError, match="did you mean 'philly'"):
        read_jobs(written(tmp_path, "x.csv", "a,b\n1,2\n"), "phily")


def test_a_damaged_archive_and_an_empty_file_are_told(tmp_path):
    whole = gzip.compress(b"submit_s,duration_s,accelerators\n" + b"1,2,3\n" * 1000)
    (tmp_path / "cut.csv.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ClusterSimError, match="cut short or damaged"):
        read_jobs(tmp_path / "cut.csv.gz")
    with pytest.raises(ClusterSimError, match="holds no jobs"):
        read_jobs(written(tmp_path, "empty.csv", "submit_s,duration_s,accelerators\n"))


def test_every_schema_has_a_name():
    assert {"acme", "fleetsim", "gavel", "helios", "jobs", "muri", "openb-2023", "pai-2020", "philly"} <= set(
        formats()
    )
    assert {"philly-json", "pollux", "sacct", "swf", "tiresias"} <= set(formats())


# -- figures -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tables():
    draws = np.random.default_rng(2)
    jobs = make_jobs(
        submit_s=draws.integers(0, 5_000, 300),
        duration_s=draws.integers(1, 900, 300),
        accelerators=draws.choice([1, 2, 8, 16], 300),
        queue=draws.choice(["red", "blue"], 300),
    )
    outcome = simulate_cluster(JobCluster(groups=(NodeGroup(nodes=8, accelerators=8),)), jobs)
    return {name: pd.DataFrame(columns) for name, columns in outcome.tables.items()}


def area(trace):
    return float(np.dot(np.asarray(trace.y)[:-1], np.diff(np.asarray(trace.x))))


def test_the_area_under_utilization_is_the_service_of_all_jobs(tables):
    figure = plots.utilization(tables["job_spans"], 64)
    assert area(figure.data[0]) * 64 == pytest.approx(tables["jobs"]["service_s"].sum(), rel=1e-9)


def test_the_area_under_the_queue_is_the_wait_of_all_jobs(tables):
    figure = plots.queue_length(tables["jobs"])
    assert area(figure.data[1]) == pytest.approx(tables["jobs"]["wait_s"].sum(), rel=1e-9)


def test_bars_of_reasons_add_up_to_the_mean_wait(tables):
    figure = plots.wait_reasons(tables["jobs"], tables["job_waits"])
    means = tables["jobs"].groupby("queue")["wait_s"].mean()
    assert sum(np.asarray(bar.y) for bar in figure.data).tolist() == pytest.approx(means.tolist())
    assert list(figure.data[0].x) == ["blue", "red"]


def test_the_picture_of_nodes_has_a_row_for_each_and_keeps_the_service(tables):
    figure = plots.node_map(tables["job_spans"], 8, 8)
    picture, times_s = figure.data[0].z, figure.data[0].x
    assert picture.shape == (8, plots.COLUMNS)
    width_s = float(times_s[1] - times_s[0])
    assert picture.sum() * 8 * width_s == pytest.approx(tables["jobs"]["service_s"].sum(), rel=1e-3)
    assert plots.node_map(tables["job_spans"], 5_000, 8).data[0].z.shape[0] <= plots.ROWS


def test_curves_of_jobs_end_at_one_and_stretches_are_named_by_queue(tables):
    figure = plots.jobs_cdf({"fifo": tables["jobs"]}, "wait_s")
    assert figure.data[0].y[-1] == 1.0
    assert {trace.name for trace in plots.gantt(tables["job_spans"], tables["jobs"]).data} == {"red", "blue"}
    curve = pd.DataFrame({"arrived": [0.0, 32.0, 64.0], "fragments": [4.0, 2.0, 0.0]})
    assert list(plots.fragmentation({"fgd": curve}, 64).data[0].x) == [0.0, 0.5, 1.0]


def test_figures_of_nothing_say_so(tables):
    none = {name: table.iloc[:0] for name, table in tables.items()}
    figures = [
        plots.utilization(none["job_spans"], 8),
        plots.queue_length(none["jobs"]),
        plots.jobs_cdf({"a": none["jobs"]}),
        plots.wait_reasons(none["jobs"], none["job_waits"]),
        plots.node_map(none["job_spans"], 4, 8),
        plots.gantt(none["job_spans"], none["jobs"]),
        plots.fragmentation({}, 8),
    ]
    assert all(len(figure.layout.annotations) == 1 for figure in figures)


def test_every_column_of_the_result_tables_is_there_and_no_other(tables):
    for name, table in tables.items():
        assert list(table.columns) == list(TABLES[name].names)


# -- drawn workloads ---------------------------------------------------------------------------------


def card(name, **changes):
    data = {**card_data(CARDS, name), **changes}
    return SyntheticJobs.model_validate(data, context={"needs_units": True})


@pytest.mark.parametrize("name", sorted(card_files(CARDS)))
def test_every_card_of_jobs_is_drawn_as_it_says(name):
    spec = card(name)
    jobs = draw_jobs(spec, Streams(1))
    assert len(jobs) == spec.jobs
    weight = np.array([size.weight for size in spec.sizes])
    mean = float(np.dot(weight, [size.accelerators for size in spec.sizes]) / weight.sum())
    assert jobs.accelerators.mean() == pytest.approx(mean, rel=0.15)
    assert len(jobs) / jobs.submit_s[-1] == pytest.approx(spec.rate, rel=0.1)


def test_arrivals_are_as_bursty_as_asked_and_follow_the_day():
    plain = draw_jobs(card("philly-like", daily=0, cv=4), Streams(5))
    gaps_s = np.diff(plain.submit_s)
    assert gaps_s.std() / gaps_s.mean() == pytest.approx(4.0, rel=0.15)
    daily = draw_jobs(card("philly-like", daily=0.8, cv=1), Streams(5))
    hour = (daily.submit_s % 86_400) // 3600
    assert np.mean((hour >= 9) & (hour < 15)) > 3 * np.mean((hour >= 21) | (hour < 3))


def test_schedulers_meet_the_same_jobs_and_another_seed_gives_others():
    first, again, other = (draw_jobs(card("llm-development"), Streams(seed)) for seed in (1, 1, 2))
    assert first.duration_s.tolist() == again.duration_s.tolist()
    assert first.duration_s.tolist() != other.duration_s.tolist()
    assert 0.3 < np.mean(first.status == "failed") < 0.5
    assert np.all(first.min_accelerators <= first.accelerators)


def test_a_trace_is_cut_to_what_is_asked_for_and_what_is_left_out_is_counted(tmp_path):
    text = "submit_s,duration_s,accelerators,queue\n0,1,1,a\n10,1,1,b\n20,1,1,a\n30,1,1,a\n40,1,1,a\n"
    file = written(tmp_path, "jobs.csv", text)
    trace = JobTrace(file=file, queues=("a",), start=5.0, jobs=2, speed=2.0)
    jobs = draw_jobs(trace, Streams(0))
    assert jobs.submit_s.tolist() == [10.0, 15.0]
    assert jobs.dropped == {
        "of other virtual clusters": 1,
        "outside the time chosen": 1,
        "more than were asked for": 1,
    }
    with pytest.raises(ClusterSimError, match="no virtual cluster 'c'; there are a, b"):
        draw_jobs(JobTrace(file=file, queues=("c",)), Streams(0))


# -- the manual page ---------------------------------------------------------------------------------

PAGE = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")


def test_the_example_of_the_manual_page_prints_what_it_says(capsys):
    code, shown = PAGE.split("```python\n")[1].split("```\n```\n")
    exec(compile(code, "docs/cluster.md", "exec"), {})
    assert capsys.readouterr().out == shown.split("```")[0]


def test_the_scheduler_of_the_manual_page_works(tmp_path):
    file = written(tmp_path, "youngest.py", PAGE.split("```python\n")[2].split("```")[0])
    scheduling = Scheduling.model_validate({"scheduler": f"{file}:Youngest"})
    jobs = make_jobs(submit_s=[0, 1, 2], duration_s=[9, 9, 9], accelerators=[8, 8, 8])
    cluster = JobCluster(groups=(NodeGroup(nodes=1, accelerators=8),))
    assert simulate_cluster(cluster, jobs, scheduling).tables["jobs"]["start_s"].tolist() == [0.0, 18.0, 9.0]


@pytest.mark.parametrize("sort", [JobScheduler, Placement])
def test_the_manual_page_names_every_policy_and_every_format(sort):
    assert [name for name in [*names(sort), *formats()] if f"`{name}`" not in PAGE] == []
