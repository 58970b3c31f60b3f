from __future__ import annotations

import base64
import html
import http.client
import random
import re
import threading
import time
import traceback
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from endpoints import DIM, FakeEndpoint, dripping, vector_of

from binq.encoders.endpoint import CohereEncoder, OpenAIEncoder
from binq.encoders.keys import check_url, find_key
from binq.encoders.transport import Transport
from binq.errors import BinqError, EnvironmentFailure, InputError, UsageError
from binq.io.redaction import Redaction


def _openai(endpoint: FakeEndpoint, waits: list[float], **options: Any) -> OpenAIEncoder:
    options.setdefault("normalize", False)
    return OpenAIEncoder(
        f"{endpoint.url}#fake", transport=Transport(sleep=waits.append, timeout=5), **options
    )


def _expected(texts: list[str]) -> np.ndarray:
    return np.array([vector_of(text) for text in texts], np.float32)


def test_rows_are_ordered_by_index_in_batches(endpoint: FakeEndpoint, waits: list[float]) -> None:
    # The server answers every batch backwards.
    texts = [f"text {i}" for i in range(10)]
    rows = _openai(endpoint, waits, batch_size=4).encode(texts)
    np.testing.assert_array_equal(rows, _expected(texts))
    assert rows.dtype == np.float32
    assert [len(request["input"]) for request in endpoint.requests] == [4, 4, 2]
    assert {request["encoding_format"] for request in endpoint.requests} == {"base64"}
    assert {request["model"] for request in endpoint.requests} == {"fake"}


def test_a_server_without_base64_is_asked_for_numbers(
    endpoint: FakeEndpoint, waits: list[float]
) -> None:
    endpoint.no_base64 = True
    encoder = _openai(endpoint, waits)
    np.testing.assert_allclose(encoder.encode(["a", "b"]), _expected(["a", "b"]), rtol=1e-6)
    encoder.encode(["c"])
    assert ["encoding_format" in request for request in endpoint.requests] == [True, False, False]


def test_prompt_cut_and_normalization_happen_here(
    endpoint: FakeEndpoint, waits: list[float]
) -> None:
    encoder = _openai(endpoint, waits, prompt="query: ", truncate_dim=5, normalize=True)
    rows = encoder.encode(["x"])
    wanted = _expected(["query: x"])[:, :5]
    np.testing.assert_allclose(rows, wanted / np.linalg.norm(wanted), rtol=1e-5)
    metadata = encoder.metadata()
    assert metadata["binq.model"] == "fake"
    assert metadata["binq.prompt"] == "query: "
    assert metadata["binq.truncate_dim"] == "5"
    assert metadata["binq.normalized"] == "true"


def test_the_only_model_is_found_and_several_must_be_chosen_from(endpoint: FakeEndpoint) -> None:
    assert OpenAIEncoder(endpoint.url).name == "fake"
    assert OpenAIEncoder(f"{endpoint.url}/embeddings/").name == "fake"
    endpoint.models = ["one", "two"]
    with pytest.raises(UsageError, match="one, two"):
        OpenAIEncoder(endpoint.url)
    endpoint.models = []
    encoder = OpenAIEncoder(endpoint.url)
    encoder.encode(["x"])
    assert encoder.name == endpoint.url
    assert "model" not in endpoint.requests[-1]


def test_passing_faults_are_tried_again_with_growing_waits(
    endpoint: FakeEndpoint, waits: list[float]
) -> None:
    endpoint.faults = [(500, {}, b"oops"), (503, {}, b""), (429, {}, {"error": "slow down"})]
    np.testing.assert_array_equal(_openai(endpoint, waits).encode(["a"]), _expected(["a"]))
    assert len(endpoint.requests) == 4
    assert len(waits) == 3
    for wait, most in zip(waits, (0.5, 1.0, 2.0), strict=True):
        assert most / 2 <= wait <= most


def test_retry_after_is_honoured(endpoint: FakeEndpoint, waits: list[float]) -> None:
    later = datetime.now(UTC) + timedelta(seconds=60)
    endpoint.faults = [
        (429, {"Retry-After": "7"}, b""),
        (503, {"Retry-After": format_datetime(later, usegmt=True)}, b""),
        (429, {"Retry-After": "soon"}, b""),
    ]
    _openai(endpoint, waits).encode(["a"])
    assert waits[0] == 7
    assert 50 < waits[1] <= 60
    assert waits[2] <= 2


def test_a_wait_of_hours_ends_the_run(endpoint: FakeEndpoint, waits: list[float]) -> None:
    endpoint.faults = [(429, {"Retry-After": "7200"}, b"")]
    with pytest.raises(EnvironmentFailure, match="7200 seconds"):
        _openai(endpoint, waits).encode(["a"])
    assert waits == []


def test_it_gives_up_in_the_end(endpoint: FakeEndpoint, waits: list[float]) -> None:
    endpoint.faults = [(502, {}, b"bad gateway")] * 20
    with pytest.raises(EnvironmentFailure, match=r"failed 7 times.*502: bad gateway"):
        _openai(endpoint, waits).encode(["a"])
    assert len(endpoint.requests) == 7
    assert len(waits) == 6


def test_connections_that_break_are_tried_again(endpoint: FakeEndpoint, waits: list[float]) -> None:
    def hang_up(handler: Any) -> None:
        handler.close_connection = True

    def stop_half_way(handler: Any) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(b'{"data": [')
        handler.close_connection = True

    endpoint.faults = [hang_up, stop_half_way]
    np.testing.assert_array_equal(_openai(endpoint, waits).encode(["a"]), _expected(["a"]))
    assert len(waits) == 2


def test_an_endpoint_that_is_not_there(waits: list[float]) -> None:
    encoder = OpenAIEncoder("http://127.0.0.1:9/v1#m", transport=Transport(sleep=waits.append))
    with pytest.raises(EnvironmentFailure, match="cannot be reached"):
        encoder.encode(["a"])
    with pytest.raises(EnvironmentFailure, match="cannot be reached"):
        OpenAIEncoder("http://127.0.0.1:9/v1", transport=Transport(sleep=waits.append))


@pytest.mark.parametrize(
    ("status", "kind", "message"),
    [
        (400, InputError, "maximum context length"),
        (422, InputError, "maximum context length"),
        (401, EnvironmentFailure, "BINQ_API_KEY"),
        (404, EnvironmentFailure, "check address and model"),
    ],
)
def test_lasting_faults_are_not_tried_again(
    endpoint: FakeEndpoint, waits: list[float], status: int, kind: type, message: str
) -> None:
    endpoint.faults = [(status, {}, {"error": {"message": "maximum\ncontext length is 512"}})]
    with pytest.raises(kind, match=message) as caught:
        _openai(endpoint, waits).encode(["a"])
    assert f"{status}: maximum context length" in str(caught.value)
    assert len(endpoint.requests) == 1


def test_batches_that_are_too_large_are_halved(endpoint: FakeEndpoint, waits: list[float]) -> None:
    endpoint.max_batch = 3
    texts = [f"t{i}" for i in range(10)]
    np.testing.assert_array_equal(_openai(endpoint, waits).encode(texts), _expected(texts))


def test_redirects_are_not_followed_since_the_key_would_go_along(
    endpoint: FakeEndpoint, waits: list[float]
) -> None:
    for status in (301, 302, 303, 307, 308):
        for place in (f"{endpoint.root}/v2/elsewhere", "http://[::1/"):
            endpoint.faults = [(status, {"Location": place}, b"")]
            with pytest.raises(EnvironmentFailure, match="points to"):
                _openai(endpoint, waits).encode(["a"])
    assert len(endpoint.requests) == 10


@pytest.mark.parametrize(
    "answer",
    [
        b"<html>hello</html>",
        b"[" * 100_000,
        [],
        {},
        {"data": None},
        {"data": []},
        {"data": [{"index": 0, "embedding": [1.0]}]},
        {"data": [{"index": 0, "embedding": [1.0]}, {"index": 0, "embedding": [1.0]}]},
        {"data": [{"index": 0, "embedding": [1.0]}, {"index": 2, "embedding": [1.0]}]},
        {"data": [{"index": 0, "embedding": [1.0]}, {"index": True, "embedding": [1.0]}]},
        {"data": [{"index": 0, "embedding": [1.0]}, {"index": 1, "embedding": [1.0, 2.0]}]},
        {"data": [{"index": 0, "embedding": []}, {"index": 1, "embedding": []}]},
        {"data": [{"index": 0, "embedding": ["1"]}, {"index": 1, "embedding": [True]}]},
        {"data": [{"index": 0, "embedding": "AAA"}, {"index": 1, "embedding": "AAAA"}]},
        {"data": [{"index": 0, "embedding": [10**400]}, {"index": 1, "embedding": [1.0]}]},
        {"data": ["a", "b"]},
    ],
)
def test_answers_that_cannot_be_used(
    endpoint: FakeEndpoint, waits: list[float], answer: Any
) -> None:
    endpoint.faults = [(200, {}, answer)]
    with pytest.raises(EnvironmentFailure):
        _openai(endpoint, waits).encode(["a", "b"])


def test_nan_is_refused(endpoint: FakeEndpoint, waits: list[float]) -> None:
    coded = base64.b64encode(np.array([1, np.nan], "<f4").tobytes()).decode()
    for row in (coded, [1.0, 1e300], [1.0, -1e39]):
        endpoint.faults = [(200, {}, {"data": [{"index": 0, "embedding": row}]})]
        with pytest.raises(InputError, match="NaN"):
            _openai(endpoint, waits).encode(["a"])


_PIECES = (
    *(b"null", b"1e999", b"-1", b'"\\ud800"', b"[]", b"{}", b"[[", b"true", b"9" * 5000, b"NaN"),
    *(b"\0", b"\xff", b"\r\n", b":", b"chunked", b"1_0", b'"AAAA"', b'"="', b"HTTP/1.1 100 x"),
)


@pytest.mark.slow
def test_whatever_a_server_says_is_rows_or_one_of_our_errors(
    endpoint: FakeEndpoint, waits: list[float]
) -> None:
    rng = random.Random(7)
    statuses = (b"200 OK", b"200 OK", b"200 OK", b"429 Slow", b"400 Bad", b"401 No", b"302 There")
    listed = b'{"data": [{"id": "m", "index": 0, "embedding": [1.0, 2.0]}]}'
    cohere = b'{"embeddings": {"float": [[1.0, 2.0]], "ubinary": [[1, 2]]}}'

    def mutated(body: bytes) -> Any:
        fields = b"Retry-After: 3\r\nLocation: http://h/\r\nWWW-Authenticate: Basic realm=x\r\n"
        if rng.random() < 0.3:
            fields += b"Transfer-Encoding: chunked\r\n"
            body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
        else:
            fields += b"Content-Length: %d\r\n" % len(body)
        said = bytearray(b"HTTP/1.1 %s\r\n%s\r\n" % (rng.choice(statuses), fields) + body)
        for _ in range(rng.choice((1, 1, 2, 5))):
            at = rng.randrange(len(said) + 1)
            said[at : at + rng.choice((0, 1, 5, 30))] = rng.choice((*_PIECES, b"", b"", b"x"))

        def send(handler: Any) -> None:
            handler.close_connection = True
            handler.wfile.write(said)

        return send

    transport = Transport("some-key-of-ours", sleep=waits.append, timeout=0.1, deadline=0.3)
    codes = []
    for number in range(400):
        endpoint.listing = mutated(listed)
        endpoint.faults = [mutated(cohere if number % 4 < 2 else listed)]
        try:
            if number % 4 == 3:
                OpenAIEncoder(endpoint.url, transport=transport)
            elif number % 4 == 2:
                OpenAIEncoder(f"{endpoint.url}#m", transport=transport).encode(["a"])
            else:
                address, bits = f"{endpoint.root}/v2/embed#m", number % 2 == 0
                CohereEncoder(address, bits=bits, transport=transport).encode(["a"])
        except BinqError as error:
            codes.append(error.exit_code)
    assert 100 < len(codes) < 400
    assert set(codes) <= {2, 3, 5}


def test_no_texts_ask_nothing(endpoint: FakeEndpoint, waits: list[float]) -> None:
    assert _openai(endpoint, waits).encode([]).shape == (0, 0)
    assert endpoint.requests == []


@pytest.mark.parametrize("role", ["document", "query"])
def test_cohere_floats(endpoint: FakeEndpoint, role: Any) -> None:
    encoder = CohereEncoder(f"{endpoint.root}/v2/embed#m", normalize=False, batch_size=2)
    texts = ["a", "b", "c"]
    rows = encoder.encode(texts, role)
    kind = {"document": "search_document", "query": "search_query"}[role]
    np.testing.assert_allclose(rows, _expected([kind + text for text in texts]), rtol=1e-6)
    assert encoder.bits is None
    assert endpoint.requests[0]["model"] == "m"
    assert endpoint.requests[0]["truncate"] == "NONE"


def test_cohere_bits(endpoint: FakeEndpoint) -> None:
    encoder = CohereEncoder(f"{endpoint.root}/v2/embed#m", bits=True)
    assert encoder.bits == 0
    codes = encoder.encode(["a", "b"])
    wanted = np.packbits(_expected(["search_documenta", "search_documentb"]) > 0, axis=1)
    np.testing.assert_array_equal(codes, wanted)
    assert codes.dtype == np.uint8
    assert encoder.bits == DIM
    assert encoder.metadata()["binq.bits"] == str(DIM)
    assert encoder.metadata()["binq.layout"] == "ubinary"


@pytest.mark.parametrize(
    "rows", [[[256]], [[-1]], [[1.0]], [["a"]], [[]], ["AA"], None, [[1], [2]]]
)
def test_cohere_codes_that_cannot_be_used(endpoint: FakeEndpoint, rows: Any) -> None:
    endpoint.reshape = lambda _: {"embeddings": {"ubinary": rows}}
    encoder = CohereEncoder(f"{endpoint.root}/v2/embed#m", bits=True)
    with pytest.raises(EnvironmentFailure):
        encoder.encode(["a"])


def test_cohere_needs_a_model() -> None:
    with pytest.raises(UsageError, match="#MODEL"):
        CohereEncoder("http://127.0.0.1/v2/embed")


def test_keys_come_from_the_environment_or_a_file(
    endpoint: FakeEndpoint, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    OpenAIEncoder(f"{endpoint.url}#m").encode(["a"])
    assert "Authorization" not in endpoint.headers[-1]
    monkeypatch.setenv("BINQ_API_KEY", "from-environment\n")
    OpenAIEncoder(f"{endpoint.url}#m").encode(["a"])
    assert endpoint.headers[-1]["Authorization"] == "Bearer from-environment"
    file = tmp_path / "key"
    file.write_text("  from-file\n")
    OpenAIEncoder(f"{endpoint.url}#m", key_file=file).encode(["a"])
    assert endpoint.headers[-1]["Authorization"] == "Bearer from-file"


def test_a_provider_s_key_goes_to_that_provider_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    assert find_key("https://api.openai.com/v1") == "secret"
    assert find_key("https://api.openai.com.example.org/v1") is None
    assert find_key("http://127.0.0.1:11434/v1") is None


@pytest.mark.parametrize("content", [b"", b"two words", b"a\nb", b"\xff\xfe", b"x" * 5000])
def test_what_cannot_be_a_key_is_refused_and_not_repeated(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "key"
    file.write_bytes(content)
    with pytest.raises(InputError) as caught:
        find_key("http://h/v1", file)
    assert "words" not in str(caught.value)
    with pytest.raises(InputError, match="no such file"):
        find_key("http://h/v1", tmp_path / "none")


def test_the_key_stands_in_no_message(
    endpoint: FakeEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BINQ_API_KEY", "top-secret")
    endpoint.faults = [(401, {}, {"error": "no"})]
    with pytest.raises(EnvironmentFailure) as caught:
        OpenAIEncoder(f"{endpoint.url}#m").encode(["a"])
    assert "top-secret" not in repr(caught.value) + str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://",
        "ftp://h/v1",
        "http://u:p@h/v1",
        "http://h:99999/v1",
        "http://h/ v1",
        "http://[::1",
        "http://h/v1?key=u:p",
        "http://h/püfad",
        f"http://{'h' * 70}.example/v1",
    ],
)
def test_addresses_that_cannot_be_asked(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_url(url)
    assert "u:p" not in str(caught.value)


def test_answers_without_end_are_cut_off(endpoint: FakeEndpoint) -> None:
    encoder = OpenAIEncoder(f"{endpoint.url}#fake", transport=Transport(max_answer=100))
    with pytest.raises(EnvironmentFailure, match="too large"):
        encoder.encode(["a"])


def test_an_answer_of_far_more_than_was_asked_for_is_refused(endpoint: FakeEndpoint) -> None:
    encoder = OpenAIEncoder(f"{endpoint.url}#fake")
    for body in (b"[" + b"[]," * 1_000_000 + b"1]", b'{"data":"' + bytes(8 << 20) + b'"}'):
        endpoint.faults.append((200, {}, body))
        with pytest.raises(EnvironmentFailure, match="too large"):
            encoder.encode(["a"])


def test_http_errors_are_understood_to_be_transient() -> None:
    # What urllib lets through beside OSError; the transport catches it by this name.
    assert issubclass(http.client.RemoteDisconnected, OSError)
    assert issubclass(http.client.IncompleteRead, http.client.HTTPException)


@pytest.mark.parametrize("key", ["sk-Top/Secret+1234567890", "k3y&<9", "q7"])
def test_a_key_that_the_server_sends_back_is_never_shown(
    endpoint: FakeEndpoint, waits: list[float], monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("BINQ_API_KEY", key)
    told: list[str] = []
    transport = Transport(
        key, sleep=waits.append, timeout=5, on_wait=lambda why, _: told.append(why)
    )
    encoder = OpenAIEncoder(f"{endpoint.url}#m", transport=transport)
    forms = [key, f"Bearer {key}", f"it is [{key}]"]
    if len(key) > 3:
        bare = base64.b64encode(key.encode()).decode()
        basic = base64.b64encode(f"user:{key}".encode()).decode()
        forms += [key.upper(), key[: len(key) - 1], quote(key, safe=""), bare, basic]
        forms += [key.encode().hex(), html.escape(key), f"{'x' * (198 - len(key) // 2)}{key}"]

    def as_status(text: str) -> Any:
        def send(handler: Any) -> None:
            handler.wfile.write(f"{text} is no status\r\n\r\n".encode())
            handler.close_connection = True

        return send

    shown = []
    for form in forms:
        nested = {"data": [{"index": form, "embedding": [1.0]}]}
        again = [(503, {}, {"error": form})] * 2
        for faults in (
            *([(status, {}, {"error": {"message": form}})] for status in (400, 401, 404, 418)),
            [(500, {}, form.encode())] * 7,
            [(429, {"Retry-After": "9999"}, f'{{"detail": "{form}'.encode())],
            [(200, {}, form.encode())],
            [(200, {}, nested)],
            [as_status(form)] * 7,
            [*again, (404, {}, b"")],
        ):
            endpoint.faults = list(faults)
            with pytest.raises((InputError, EnvironmentFailure)) as caught:
                encoder.encode(["a"])
            assert not endpoint.faults
            text = "".join(traceback.format_exception(caught.value))
            shown.append(text + repr(vars(caught.value)))
        for names in ([form], [form, "b"]):
            endpoint.models = names
            with pytest.raises((UsageError, EnvironmentFailure)) as found:
                OpenAIEncoder(endpoint.url)
            shown.append(str(found.value))
    hidden = [form for form in {*forms, key[:8], key[-8:]} if len(form) < 100]
    for text in shown + told:
        text = text.replace("it is [***]", "")
        for form in hidden:
            assert not re.search(rf"(?<![a-z0-9]){re.escape(form)}(?![a-z0-9])", text, re.I), text
    assert any("***" in text for text in told)


def test_what_is_no_secret_stays_readable() -> None:
    redact = Redaction(["sk-proj-abcdefgh12345678", "", "x"])
    for text in ("the model example/x2 is overloaded", "İstanbul ſk", "line 12345"):
        assert redact(text) == text
    assert redact("İ sk-PROJ-abcdefgh1 and abcdefgh") == "İ *** and ***"
    assert redact("x, ax x") == "***, ax ***"
    key = "sk-proj-abcdefgh12345678"
    for form in (
        "\n ".join(key[start : start + 6] for start in range(0, len(key), 6)),
        "\u200b".join(key),
        "".join(f"\\u{ord(c):04X}" for c in key),
        "".join(f"&#{ord(c)};" for c in key),
        key.encode().hex(" "),
        base64.encodebytes(f"someone:{50 * 'x'}:{key}".encode()).decode()[70:].strip(),
    ):
        assert re.fullmatch(r"it is .{0,12}\*\*\*.{0,6}!", redact(f"it is {form}!"), re.DOTALL), (
            form
        )
    assert Redaction([])("anything") == "anything"


def test_a_proxy_s_password_is_no_message_s_business(
    endpoint: FakeEndpoint, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://someone:pass%2Fword99@proxy.example:3128")
    told = base64.b64encode(b"someone:pass/word99").decode()
    endpoint.faults = [(404, {}, f"no: {told} pass/word99 pass%2Fword99".encode())]
    with pytest.raises(EnvironmentFailure) as caught:
        _openai(endpoint, waits).encode(["a"])
    assert "word" not in str(caught.value)
    assert told[-8:] not in str(caught.value)


_ANSWER = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("head", "drop"),
    [
        (_ANSWER + b"Content-Length: 1000000\r\n\r\n", b"["),
        (_ANSWER + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n[\r\n"),
        (_ANSWER + b"X-Long: ", b"x"),
        (_ANSWER, b"X-Many: x\r\n"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"HTTP/1.1 4", b""),
        (b"HTTP/1.1 500 Oops\r\n\r\n", b"x"),
    ],
)
def test_a_request_as_a_whole_has_an_end(
    endpoint: FakeEndpoint, waits: list[float], head: bytes, drop: bytes
) -> None:
    endpoint.faults = [dripping(head, drop)] * 7
    transport = Transport(sleep=waits.append, timeout=5, deadline=0.1)
    encoder = OpenAIEncoder(f"{endpoint.url}#m", transport=transport)
    begun = time.monotonic()
    with pytest.raises(EnvironmentFailure) as caught:
        encoder.encode(["a"])
    assert time.monotonic() - begun < 10
    if b"500" in head:
        assert "failed 7 times" in str(caught.value)
        assert "500: Oops" in str(caught.value)
    else:
        assert "does not answer in time" in str(caught.value)
        assert "no whole answer within 0.1 seconds" in str(caught.value)
        assert len(waits) == 2  # silence is not waited for as often as a busy server


def test_silence_and_floods_have_an_end_too(endpoint: FakeEndpoint, waits: list[float]) -> None:
    endpoint.faults = [dripping(b"", b"")] * 3
    transport = Transport(sleep=waits.append, timeout=0.1, deadline=60, max_answer=1000)
    encoder = OpenAIEncoder(f"{endpoint.url}#m", transport=transport)
    with pytest.raises(EnvironmentFailure, match=r"no answer within 0\.1 seconds"):
        encoder.encode(["a"])
    flood = b"HTTP/1.1 100 Continue\r\n\r\n" * 10_000
    for head, drop in ((b"", flood), (_ANSWER + b"\r\n", flood)):
        endpoint.faults = [dripping(head, drop, 0)]
        with pytest.raises(EnvironmentFailure, match="too large"):
            encoder.encode(["a"])


def test_a_list_of_models_that_is_none(endpoint: FakeEndpoint, waits: list[float]) -> None:
    for nonsense in (
        b"<html>hello</html>",
        b"[" * 100_000,
        b"\xff\xfe",
        b"",
        b"3",
        b"null",
        [],
        ["fake"],
        {},
        {"data": None},
        {"data": 5},
        {"data": "fake"},
        {"data": {"id": "fake"}},
        {"data": [None]},
        {"data": [[]]},
        {"data": [{}, {"id": "fake"}]},
        {"data": [{"id": None}]},
        {"data": [{"id": ""}]},
        {"data": [{"id": 7}]},
        {"data": [{"id": ["fake"]}]},
        {"data": [{"id": "\ud800"}]},
        {"data": [{"id": "a\x1b[31m"}]},
        {"data": [{"id": "x" * 1000}]},
    ):
        endpoint.listing = nonsense
        with pytest.raises(EnvironmentFailure, match=r"list of models.*/models.*#MODEL"):
            OpenAIEncoder(endpoint.url)
    endpoint.listing = dripping(_ANSWER, b"X-Long: " + b"x" * 70_000)
    with pytest.raises(EnvironmentFailure, match="cannot be reached"):
        OpenAIEncoder(endpoint.url, transport=Transport(sleep=waits.append))
    # A server that has no such list is asked for its only model all the same.
    endpoint.listing = lambda handler: handler.send(404, {"error": "no such page"}, {})
    assert OpenAIEncoder(endpoint.url).name == endpoint.url


def test_absurd_retry_after(endpoint: FakeEndpoint, waits: list[float]) -> None:
    for value in (
        "Fri, 31 Dec 9999 23:59:59 GMT",
        "Fri, 31 Dec 9999 23:59:59 -2359",
        "Fri, 31 Dec 9999 23:59:59",
        "1e308",
        "inf",
        "9" * 400,
    ):
        endpoint.faults = [(429, {"Retry-After": value}, b"busy")]
        with pytest.raises(EnvironmentFailure, match=r"429: busy, in more than a day$"):
            _openai(endpoint, waits).encode(["a"])
    assert waits == []
    values = (
        *("-5", "-1e308", "0", "nan", "", "soon", "Fri, 31 Dec 10000 23:59:59 GMT"),
        *("Mon, 01 Jan 0001 00:00:00 +2359", "Fri, 31 Dec 2026 23:59:59 +99999999999999", "0x10"),
        *("Fri, 99 Foo 2026 99:99:99 GMT", "\u00b2", "1970-01-01T00:00:00Z"),
    )
    for value in values:
        endpoint.faults = [(503, {"Retry-After": value}, b"busy")]
        _openai(endpoint, waits).encode(["a"])
    # Nobody is asked again at once.
    assert len(waits) == len(values)
    assert all(0.2 < wait <= 0.5 for wait in waits)


def test_a_wait_is_told_with_its_reason(endpoint: FakeEndpoint, waits: list[float]) -> None:
    told: list[tuple[str, float]] = []
    endpoint.faults = [
        (429, {"Retry-After": "7"}, {"error": "slow\ndown"}),
        (500, {}, b"oops"),
        lambda handler: handler.connection.close(),
    ]
    transport = Transport(sleep=waits.append, on_wait=lambda *why: told.append(why))
    OpenAIEncoder(f"{endpoint.url}#m", transport=transport).encode(["a"])
    assert [why for why, _ in told[:2]] == ["429: slow down", "500: oops"]
    assert "closed connection" in told[2][0]
    assert [seconds for _, seconds in told] == waits


def test_while_one_request_waits_for_a_busy_server_no_other_is_made(
    endpoint: FakeEndpoint,
) -> None:
    busy, waits, made = threading.Event(), [], threading.Event()

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 1:
            busy.set()
            assert made.wait(5)
        else:
            made.set()

    encoder = OpenAIEncoder(f"{endpoint.url}#m", transport=Transport(sleep=sleep))
    endpoint.faults = [(429, {"Retry-After": "60"}, b"")]
    first = threading.Thread(target=encoder.encode, args=(["a"],))
    first.start()
    assert busy.wait(5)
    encoder.encode(["b"])
    first.join()
    assert waits[0] == 60
    assert 50 < waits[1] <= 60
    assert len(waits) == 2
