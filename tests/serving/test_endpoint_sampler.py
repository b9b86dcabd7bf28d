"""Drawing from servers: every field is sent, every answer is checked, and no fault loses or doubles a candidate."""

from __future__ import annotations

import collections
import dataclasses
import json

import polars as pl
import pytest
from made_up_samplers import SeedWriter, problems
from serving.stub_server import REFUSALS, Stub

from bestofl_lib.candidates.endpoint_sampler import EndpointSampler
from bestofl_lib.candidates.forecast import forecast
from bestofl_lib.candidates.sampling import generate
from bestofl_lib.candidates.store import Store
from bestofl_lib.display.report.build import report_pages
from bestofl_lib.display.servers import server_sentences
from bestofl_lib.models.contract import Request, Sampling
from bestofl_lib.models.server_answers import ServerError
from bestofl_lib.models.server_facts import added_up
from bestofl_lib.models.servers import Patience, read_addresses
from bestofl_lib.runs import Run
from bestofl_lib.tables import KEY

QUICK = Patience(timeout=1.0, attempts=5, without_answer=20.0, first_contact=2.0)
PROBES = 2  # requests that find out what the log-probabilities are
FIELDS = Sampling(max_new_tokens=200)


def sampler(*stubs, patience=QUICK, model="lab", **options):
    return EndpointSampler([stub.address for stub in stubs], model, patience=patience, **options)


def draw(folder, writer, table=None, n=4, settings=FIELDS):
    return generate(problems(5) if table is None else table, Store(folder), writer, n, settings, progress=False)


def written(table):
    return table.select(*KEY, "completion", "seed")


def expected(tmp_path, **options):
    return written(draw(tmp_path / "expected", SeedWriter(), **options))


# -- nothing is lost, doubled or redrawn ----------------------------------------------------------------------------

PASSING = [
    "500", "502", "503", "429", "429-after", "hang", "hang in the middle", "cut", "drop", "html", "malformed", "list",
    "empty choices", "no choices", "too few choices", "null content", "no finish reason", "aborted", "no model",
]  # fmt: skip


@pytest.mark.parametrize("fault", PASSING)
def test_a_passing_fault_is_sent_again_with_the_same_seed_and_every_candidate_arrives_once(tmp_path, fault):
    with Stub(lambda count, body: fault if count in (PROBES, PROBES + 3, PROBES + 4) else None) as stub:
        writer = sampler(stub, patience=dataclasses.replace(QUICK, timeout=1.0 if "hang" in fault else 20.0))
        table = draw(tmp_path / "served", writer)
    assert written(table).equals(expected(tmp_path))
    sent = collections.Counter(json.dumps(body, sort_keys=True) for body in stub.bodies[PROBES:])
    assert sorted(sent.values(), reverse=True)[:3] == [2, 2, 2] and len(sent) == len(table) == 40
    assert sum(writer.facts["faults"].values()) == 3 and writer.facts["requests"] == PROBES + 43
    assert Store(tmp_path / "served").notes()[0]["faults"] == writer.facts["faults"]


def test_all_faults_at_once_on_two_servers_still_give_every_candidate_once(tmp_path):
    def plan(count, body):
        return PASSING[count // 4 % len(PASSING)] if count > PROBES and count % 4 == 0 else None

    patience = dataclasses.replace(QUICK, attempts=30)
    with Stub(plan) as first, Stub(plan) as second:
        table = draw(tmp_path / "served", sampler(first, second, patience=patience), n=20)
    assert written(table).equals(expected(tmp_path, n=20))
    assert min(first.answered, second.answered) > 40


@pytest.mark.parametrize(("fault", "text"), [("empty text", ""), ("filtered", None), ("thinking", "<think>3 + 4</think>7"), ("cut thinking", "<think>3 + ")])  # fmt: skip
def test_what_was_written_is_never_redrawn_whatever_it_is(tmp_path, fault, text):
    with Stub(lambda count, body: fault if count == PROBES else None) as stub:
        writer = sampler(stub, in_flight=1)
        table = draw(tmp_path, writer, table=problems(1, ("en",)), n=3)
    assert len(stub.bodies) == PROBES + 3 and writer.facts["faults"] == {}
    first = table.row(0, named=True)
    assert text is None or first["completion"] == text
    assert first["finish_reason"] == {"filtered": "error", "cut thinking": "length"}.get(fault, "stop")
    assert writer.facts["ended_by"] == ({"content_filter": 1} if fault == "filtered" else {})


def test_a_prompt_that_is_too_long_ends_its_candidate_and_no_other(tmp_path):
    with Stub(lambda count, body: "too long" if "0?" in body["messages"][-1]["content"] else None) as stub:
        writer = sampler(stub)
        table = draw(tmp_path, writer)
    ended = table.filter(pl.col("finish_reason") == "error")
    assert len(table) == 40 and set(ended["problem_id"]) == {"p0"} and len(ended) == 8
    assert writer.facts["prompts too long"] == 8 and writer.facts["faults"] == {}


def test_a_request_that_always_fails_is_left_out_and_drawn_by_the_next_run(tmp_path):
    def plan(count, body):
        return "500" if "2?" in body["messages"][-1]["content"] and stub.is_ill else None

    patience = dataclasses.replace(QUICK, attempts=2)
    with Stub(plan) as stub:
        stub.is_ill = True
        with pytest.raises(RuntimeError, match=r"left 8 of 40 candidates unwritten.*HTTP 500"):
            draw(tmp_path / "served", sampler(stub, patience=patience))
        stub.is_ill = False
        before = len(stub.bodies)
        writer = sampler(stub)
        table = draw(tmp_path / "served", writer)
    assert written(table).equals(expected(tmp_path)) and len(stub.bodies) == before + PROBES + 8
    assert [note["left_out"] for note in Store(tmp_path / "served").notes()] == [8, 0]


# -- faults that stop the run ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        *REFUSALS,
        ("bad field", r"min_p.*change what it names"),
        ("no template", r"base model.*chat_template='plain'"),
        ("other model", r"'another-7b' where 'lab' was asked for"),
        ("too many tokens", r"201 tokens where max_tokens was 200"),
    ],
)
def test_what_no_repetition_mends_stops_at_once_and_keeps_what_arrived(tmp_path, monkeypatch, fault, message):
    monkeypatch.setenv("BESTOFL_API_KEY", "sk-very-secret")
    with Stub(lambda count, body: fault if count == PROBES + 10 else None) as stub:
        with pytest.raises(ServerError, match=message) as caught:
            draw(tmp_path, sampler(stub, in_flight=2))
        assert len(stub.bodies) <= PROBES + 16
        assert all("Bearer sk-very-secret" in head for head in stub.headers)
    assert "sk-very-secret" not in str(caught.value)
    kept = Store(tmp_path).candidates(partial=True)
    assert len(kept) >= 10
    assert not any(b"sk-very-secret" in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_a_server_that_answers_health_and_nothing_else_stops_the_run_in_bounded_time(tmp_path):
    patience = Patience(timeout=0.2, attempts=100, without_answer=1.5, first_contact=1.0)
    message = r"no request was answered for \d+ s.*2 s allowed.*time-out.*seeded=False"
    stub = Stub(lambda count, body: "hang" if count >= PROBES else None)
    with stub, pytest.raises(ServerError, match=message):
        draw(tmp_path, sampler(stub, patience=patience))


def test_a_server_that_asks_for_more_time_than_is_allowed_is_not_waited_for(tmp_path):
    patience = dataclasses.replace(QUICK, without_answer=0.3)
    stub = Stub(lambda count, body: "429-after" if count == PROBES else None)
    with stub, pytest.raises(ServerError, match=r"exceeds the 0 s allowed.*HTTP 429"):
        draw(tmp_path, sampler(stub, patience=patience))


def test_a_missing_key_is_asked_for(tmp_path):
    stub = Stub(lambda count, body: "401")
    with stub, pytest.raises(ServerError, match="put its key into the environment: BESTOFL_API_KEY"):
        draw(tmp_path, sampler(stub))


def test_a_host_name_that_does_not_exist_is_said_within_seconds(tmp_path):
    with pytest.raises(ServerError, match=r"no server answers.*no-such-host\.invalid"):
        draw(tmp_path, EndpointSampler("http://no-such-host.invalid:8000/v1", "lab", patience=QUICK))


def test_no_server_at_the_address_is_said_within_seconds(tmp_path):
    with Stub() as stub:
        port = stub.port
    with pytest.raises(ServerError, match=rf"no server answers.*{port}.*start it, or correct the address"):
        draw(tmp_path, EndpointSampler(f"http://127.0.0.1:{port}/v1", "lab", patience=QUICK))


def test_an_unknown_model_is_refused_with_the_servers_list(tmp_path):
    with Stub(models=("qwen", "qwen-mono-sw")) as stub, pytest.raises(ServerError, match="serves: qwen, qwen-mono-sw"):
        draw(tmp_path, sampler(stub))


def test_servers_of_different_models_under_one_name_are_refused(tmp_path):
    message = r"different models under the name 'lab'.*/models/lab.*/models/other"
    with Stub() as first, Stub(root="/models/other") as second, pytest.raises(ServerError, match=message):
        draw(tmp_path, sampler(first, second))


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("http://host:8000", r"does not end in /v1; write it like http://host:8000/v1"),
        ("http://host:8000/v1/chat/completions", r"does not end in /v1"),
        ("http://me:secret@host/v1", r"holds a user name or password"),
        (["http://a/v1", "http://a/v1/"], r"http://a/v1 is listed twice"),
        ("ftp://a/v1", "is not a server address"),
        ("missing.txt", "no file missing.txt"),
    ],
)
def test_a_wrong_address_is_named_before_anything_is_asked(address, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
        EndpointSampler(address, "lab")
    assert "secret" not in str(caught.value)


def test_addresses_come_from_a_list_a_text_or_a_file(tmp_path):
    file = tmp_path / "servers.txt"
    file.write_text("http://a:1/v1  # first\n\nhttp://b:2/v1/\n")
    for given in (str(file), "http://a:1/v1, http://b:2/v1", ["http://a:1/v1", "http://b:2/v1"]):
        assert read_addresses(given) == ("http://a:1/v1", "http://b:2/v1")
    assert read_addresses("data/lab/policy") == read_addresses("Qwen/Qwen2.5-7B-Instruct") == ()


# -- what is sent and kept -------------------------------------------------------------------------------------------


def test_every_sampling_field_is_sent_so_that_no_default_of_the_server_is_left(tmp_path):
    settings = Sampling(temperature=0.7, top_p=0.9, top_k=20, max_new_tokens=33)
    with Stub() as stub:
        draw(tmp_path, sampler(stub), table=problems(1, ("en",)), n=1, settings=settings)
    body = stub.bodies[-1]
    assert body.pop("messages")[0]["role"] == "user" and body.pop("seed") >= 0
    assert body == {
        "model": "lab", "temperature": 0.7, "top_p": 0.9, "top_k": 20, "max_tokens": 33, "n": 1, "stream": False,
        "presence_penalty": 0.0, "frequency_penalty": 0.0, "repetition_penalty": 1.0, "min_p": 0.0,
        "ignore_eos": False, "logprobs": True, "return_token_ids": True,
    }  # fmt: skip


@pytest.mark.parametrize(("kind", "all_tokens"), [("vllm", -1), ("llama.cpp", 0), ("openai", None)])
def test_each_kind_of_server_gets_the_fields_that_it_knows(tmp_path, kind, all_tokens):
    with Stub(kind=kind) as stub:
        writer = sampler(stub)
        draw(tmp_path, writer, table=problems(1, ("en",)), n=1)
    assert stub.bodies[-1].get("top_k") == all_tokens and writer.facts["server"] == kind
    assert ("min_p" in stub.bodies[-1]) == (kind != "openai")


def test_top_k_is_refused_where_the_server_would_ignore_it(tmp_path):
    with Stub(kind="openai") as stub, pytest.raises(ServerError, match="top_k 5 cannot be sent"):
        draw(tmp_path, sampler(stub), settings=Sampling(top_k=5))


def test_tokens_and_log_probabilities_are_kept_and_the_server_is_recorded(tmp_path):
    with Stub() as stub:
        writer = sampler(stub, price=2.0)
        table = draw(tmp_path, writer, table=problems(1, ("en",)), n=2)
    assert table["logprob"].to_list() == [-0.25 * n for n in table["n_tokens"]]
    tokens = Store(tmp_path).tokens()
    assert sorted(tokens["token_ids"].list.len()) == sorted(table["n_tokens"])
    facts = Store(tmp_path).notes()[0]
    assert facts["version"] == "0.32.0" and facts["root"] == "/models/lab" and facts["logprobs"].startswith("raw")
    assert facts["cost"] == pytest.approx(2.0 * facts["completion_tokens"] / 1e6, abs=1e-4)


def test_what_servers_were_asked_is_added_up_over_calls_and_said_in_words(tmp_path):
    faults = {PROBES: "500", PROBES + 1: "429", PROBES + 5: "500"}
    with Stub(lambda count, body: faults.get(count)) as stub:
        draw(tmp_path, sampler(stub, price=500.0), n=2)
        draw(tmp_path, sampler(stub, price=500.0), n=4)
        with pytest.raises(ServerError):
            draw(tmp_path, sampler(stub, model="other"), n=5)
    (entry,) = added_up(json.loads(json.dumps(Store(tmp_path).notes())))
    assert entry["drawn"] == entry["with_seed"] == 40 and entry["faults"] == {"HTTP 500": 2, "HTTP 429": 1}
    assert entry["requests"] == len(stub.bodies) == 2 * PROBES + 40 + 3
    (said,) = server_sentences(Store(tmp_path).notes())
    run = Run("served", tmp_path / "runs")
    run.record("sampling", Store(tmp_path).notes())
    (overview,) = report_pages(run, "Served", {})
    assert ("server", said) in overview.rows
    for part in (
        "lab (/models/lab) on vllm 0.32.0", "47 requests, of which 3 failed and were repeated (HTTP 500 2, HTTP 429 1)",
        "40 candidates with the seed that was sent, 0 unseeded", "log-probabilities raw", "temperature 0.8", "top_p 0.95",
        f"{entry['completion_tokens']:,} written", f"{entry['completion_tokens'] * 500 / 1e6:,.2f}.",
    ):  # fmt: skip
        assert part in said


def test_the_price_is_estimated_before_anything_is_asked(tmp_path):
    writer = EndpointSampler("http://127.0.0.1:9/v1", "lab", price=3.0)
    said = str(forecast(problems(5), Store(tmp_path), writer, 4, FIELDS))
    assert said.endswith("at most 8,000 tokens for the rest, which cost at most 0.02")
    assert "cost" not in str(forecast(problems(5), Store(tmp_path), EndpointSampler("http://h/v1", "lab"), 4, FIELDS))


@pytest.mark.parametrize(("mode", "reason"), [("processed", "--logprobs-mode raw_logprobs"), ("", "sends none")])
def test_log_probabilities_that_are_not_the_models_own_are_not_kept(tmp_path, mode, reason):
    with Stub(logprobs=mode) as stub:
        writer = sampler(stub)
        table = draw(tmp_path, writer)
    assert table["logprob"].null_count() == len(table) and reason in writer.facts["logprobs"]
    assert "logprobs" not in stub.bodies[-1]


def test_a_nan_among_log_probabilities_leaves_the_candidate_without_one(tmp_path):
    with Stub(lambda count, body: "nan logprob" if count == PROBES else None) as stub:
        table = draw(tmp_path, sampler(stub, in_flight=1), table=problems(1, ("en",)), n=2)
    assert table["logprob"].null_count() == 1 and set(table["finish_reason"]) == {"stop"}


def test_unseeded_candidates_say_so(tmp_path):
    with Stub() as stub:
        table = draw(tmp_path, sampler(stub, seeded=False))
    assert table["seed"].null_count() == 40 and not any("seed" in body for body in stub.bodies)


def test_several_completions_per_request_carry_the_seeds_that_they_really_got(tmp_path):
    with Stub(lambda count, body: "too few choices" if count == PROBES + 1 else None) as stub:
        table = draw(tmp_path, sampler(stub, per_request=3), n=7)
    assert [len(stub.bodies), len(table)] == [PROBES + 31, 70]
    assert {body["n"] for body in stub.bodies[PROBES:]} == {3, 1}
    assert all(text.endswith(f" -> {seed}") for text, seed in table.select("completion", "seed").iter_rows())


def test_a_begun_answer_is_continued_and_plain_texts_go_to_completions():
    chat = ({"role": "user", "content": "3 + 4"}, {"role": "assistant", "content": "<think>\nKwa"})
    request = Request("p", "sw", 0, chat, 5)
    with Stub() as stub:
        list(sampler(stub).sample([request], FIELDS))
        assert stub.bodies[-1]["continue_final_message"] is True and stub.bodies[-1]["add_generation_prompt"] is False
        writer = sampler(stub, chat_template="plain")
        (found,) = [completion for _, completion in writer.sample([request], FIELDS)]
    assert stub.bodies[-1]["prompt"] == "3 + 4\n\n<think>\nKwa" and found.logprob == -0.25 * found.n_tokens
    assert "+template:plain" in writer.identity


def test_a_server_that_cannot_continue_a_message_is_refused_before_anything_is_drawn():
    chat = ({"role": "user", "content": "3 + 4"}, {"role": "assistant", "content": "Kwa"})
    with Stub(kind="openai") as stub:
        with pytest.raises(ServerError, match="whose beginning is given .*cannot be asked of this server.*use vLLM"):
            list(sampler(stub).sample([Request("p", "sw", 0, chat, 5)], FIELDS))
        asked = len(stub.bodies)
        assert list(sampler(stub).sample([Request("p", "sw", 0, chat[:1], 5)], FIELDS)) and len(stub.bodies) > asked


def test_the_only_model_of_a_server_needs_no_name_and_two_do(tmp_path):
    with Stub() as stub:
        assert sampler(stub, model="").name == "lab"
    with Stub(models=("base", "mono-sw")) as stub, pytest.raises(ServerError, match="base, mono-sw; name one"):
        sampler(stub, model="")


def test_a_dated_name_of_a_hosted_model_is_the_same_model(tmp_path):
    with Stub(lambda count, body: "dated model" if count >= PROBES else None, kind="openai") as stub:
        writer = sampler(stub)
        draw(tmp_path, writer)
    assert writer.facts["models_in_answers"] == ["lab-2026-11-24"]


def test_the_identity_is_known_without_a_server_and_holds_model_and_revision():
    writer = EndpointSampler("http://127.0.0.1:9/v1", "lab", revision="r1")
    assert writer.identity == "served:lab@r1"
    assert EndpointSampler("http://elsewhere:9/v1", "lab", revision="r1").identity == writer.identity


# -- several servers, and load ----------------------------------------------------------------------------------------


def test_the_server_with_the_fewest_requests_in_flight_gets_the_next(tmp_path):
    with Stub(delay=0.01) as quick, Stub(delay=0.1) as slow:
        draw(tmp_path, sampler(quick, slow, in_flight=8), n=40)
    assert quick.answered > 2 * slow.answered > 0
    assert max(quick.most_in_flight, slow.most_in_flight) <= 8


def test_a_server_that_says_it_is_overloaded_gets_fewer_requests(tmp_path):
    def plan(count, body):
        return "503" if stub.in_flight > 4 else None

    patience = dataclasses.replace(QUICK, attempts=3)
    with Stub(plan, delay=0.02) as stub:
        table = draw(tmp_path / "served", sampler(stub, in_flight=64, patience=patience), n=12)
    assert written(table).equals(expected(tmp_path, n=12))
    assert len(stub.bodies) < 2 * 120


def test_a_server_that_joins_late_is_used_only_if_it_holds_the_model(tmp_path, monkeypatch):
    monkeypatch.setattr("bestofl_lib.models.servers._WATCH_SECONDS", 0.1)
    with Stub() as reserved:
        port = reserved.port
    late = Stub(root="/models/other", port=port)
    with Stub(delay=0.05) as stub:
        addresses = f"{stub.address}, http://127.0.0.1:{port}/v1"
        writer = EndpointSampler(addresses, "lab", patience=QUICK, in_flight=2)
        arrived = []
        requests = [Request("p", "en", i, ({"role": "user", "content": "x"},), i) for i in range(200)]
        with pytest.raises(ServerError, match="different models"):
            for item in writer.sample(requests, FIELDS):
                arrived.append(item)
                if len(arrived) == 5:
                    late.__enter__()
        late.__exit__()
    assert 5 <= len(arrived) < 200 and late.answered == 0
