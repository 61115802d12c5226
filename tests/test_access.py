"""Who may do what: the admin key and TLS against a real Triton, secrets from files, and that none of it is shown."""

from __future__ import annotations

import http.client
import json
import ssl
import stat
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import tritonclient.grpc as triton
import trustme
from conftest import MODELS, moving_square, write_clip
from served import serving
from tritonclient.utils import InferenceServerException

from clients.__main__ import main as clients
from clients.config import Triton, load_settings
from clients.errors import AccessRefused, ConfigError, ServerUnavailable
from clients.inference.access import Access, access_to
from clients.inference.server import TritonLink
from clients.secret import Secrets
from clients.serving import server_of
from clients.sources.address import Address
from clients.types import Tier
from deploy.access import RESTRICTED, ServerAccess, made_admin_key, new_admin_key
from deploy.server import TritonServer

KEY_NAME = "TEST_TRITON_KEY"


class Guarded:
    """A Triton with a key and a certificate for `localhost`."""

    def __init__(self, server: TritonServer, key: str, ca: Path, log: Path) -> None:
        self.server, self.key, self.ca, self.log = server, key, ca, log
        self.url = server.grpc_url.replace("127.0.0.1", "localhost")

    def access(self, key: str | None = None) -> Access:
        return Access(key, secure=True, ca=self.ca.read_bytes())


@pytest.fixture(scope="module")
def guarded(run_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("guarded")
    authority = trustme.CA()
    leaf = authority.issue_cert("localhost", "127.0.0.1")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    leaf.private_key_pem.write_to_path(folder / "key.pem")
    for part in leaf.cert_chain_pems:
        part.write_to_path(folder / "cert.pem", append=True)
    key = new_admin_key()
    access = ServerAccess(key, folder / "cert.pem", folder / "key.pem")
    with TritonServer(run_repository, access=access, log=folder / "triton.log") as server:
        yield Guarded(server, key, folder / "ca.pem", folder / "triton.log")


@pytest.mark.anyio
async def test_without_the_key_only_inference_is_open(guarded: Guarded) -> None:
    """Health and metadata answer everyone; configuration, statistics and shared memory ask for the key."""
    async with TritonLink(guarded.url, access=guarded.access()) as link:
        assert await link.is_ready()
        assert await link.ready_tiers([Tier.N]) == (Tier.N,)
        for refused in (link.labels(Tier.N), link.engine_counts(), link.registered()):
            with pytest.raises(AccessRefused, match=r"triton\.admin_key_env"):
                await refused


@pytest.mark.anyio
async def test_with_the_key_everything_that_the_client_needs_works(guarded: Guarded) -> None:
    """The same questions, answered."""
    async with TritonLink(guarded.url, access=guarded.access(guarded.key)) as link:
        assert len(await link.labels(Tier.N)) == 4
        assert (await link.engine_counts()).inferences >= 0
        assert await link.registered() == frozenset()


@pytest.mark.anyio
async def test_a_wrong_key_is_no_key(guarded: Guarded) -> None:
    """Somebody else's key opens nothing."""
    async with TritonLink(guarded.url, access=guarded.access(new_admin_key())) as link:
        with pytest.raises(AccessRefused):
            await link.engine_counts()


def test_http_is_restricted_the_same_way(guarded: Guarded) -> None:
    """What gRPC refuses, HTTP refuses too, and with the key both give it."""

    def status(method: str, path: str, headers: dict[str, str]) -> int:
        connection = http.client.HTTPConnection(guarded.server.http_url.removeprefix("http://"), timeout=10)
        try:
            connection.request(method, path, headers=headers)
            return connection.getresponse().status
        finally:
            connection.close()

    guarded_paths = [
        ("GET", "/v2/models/yolo12n/config"),
        ("GET", "/v2/models/yolo12n/stats"),
        ("GET", "/v2/systemsharedmemory/status"),
        ("GET", "/v2/trace/setting"),
        ("GET", "/v2/logging"),
        ("POST", "/v2/repository/index"),
    ]
    for method, path in guarded_paths:
        assert status(method, path, {}) == 403, path
        assert status(method, path, {"admin-key": guarded.key}) == 200, path
    assert status("GET", "/v2/health/ready", {}) == 200


def test_model_control_is_off_even_with_the_key(guarded: Guarded) -> None:
    """Nobody loads, changes or unloads a model of a server that runs."""
    with triton.InferenceServerClient(guarded.url, ssl=True, root_certificates=str(guarded.ca)) as client:
        headers = {"triton-grpc-protocol-admin-key": guarded.key}
        with pytest.raises(InferenceServerException, match="explicit model load / unload is not allowed"):
            client.load_model("yolo12n", headers=headers)
        with pytest.raises(InferenceServerException, match="explicit model load / unload is not allowed"):
            client.unload_model("yolo12n", headers=headers)


@pytest.mark.anyio
@pytest.mark.parametrize("ca", ["other", "none"])
async def test_a_certificate_of_somebody_else_is_refused(guarded: Guarded, ca: str) -> None:
    """A server that our authority does not vouch for is no server; nor is one that a plain client speaks to."""
    access = Access(secure=True, ca=trustme.CA().cert_pem.bytes()) if ca == "other" else Access()
    async with TritonLink(guarded.url, access=access) as link:
        assert not await link.is_ready()
        with pytest.raises(ServerUnavailable):
            await link.ready_tiers([Tier.N])


def test_the_key_is_in_no_log(guarded: Guarded) -> None:
    """Triton's own log does not repeat its command line's secret."""
    assert guarded.key not in guarded.log.read_text()
    assert guarded.key not in repr(ServerAccess(guarded.key))
    assert guarded.key not in repr(Access(guarded.key))


def test_a_whole_run_over_tls_with_the_key(
    guarded: Guarded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """`clients run` with triton.tls, tls_ca and admin_key_env infers by shared memory, and says the key nowhere."""
    clip = write_clip(tmp_path / "clip.mp4", moving_square(25))
    (tmp_path / "key").write_text(guarded.key + "\n")
    monkeypatch.setenv(f"{KEY_NAME}_FILE", str(tmp_path / "key"))
    config = tmp_path / "config.yaml"
    config.write_text(
        f"model: {{default: yolo12n, fallback: yolo12n, high_precision: yolo12n}}\n"
        f"triton: {{tls: true, tls_ca: {guarded.ca}, admin_key_env: {KEY_NAME}, transport: shm}}\n"
        f"sinks: {{jsonl: {tmp_path / 'out.jsonl'}}}\n"
        f"cameras:\n  - {{id: cam, source: {clip}}}\n"
    )
    code = clients(["run", "--config", str(config), "--set", f"triton.url={guarded.url}"])
    told = capfd.readouterr()
    assert code == 0, told.err
    summary = json.loads(told.out.splitlines()[-1])
    assert summary["inferences"] > 0
    assert summary["transport"] == "shm"
    assert summary["mean_batch"] is not None
    assert guarded.key not in told.out + told.err + (tmp_path / "out.jsonl").read_text()


def test_the_web_side_speaks_tls_and_takes_its_token_from_a_file(
    guarded: Guarded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One certificate chain for all: the API over HTTPS, Triton over TLS; plain HTTP gets nothing."""
    clip = write_clip(tmp_path / "clip.mp4", moving_square(25))
    for name, value in (("key", guarded.key), ("token", "a token that nobody guesses")):
        (tmp_path / name).write_text(value + "\n")
    monkeypatch.setenv(f"{KEY_NAME}_FILE", str(tmp_path / "key"))
    monkeypatch.setenv("TEST_WEB_TOKEN_FILE", str(tmp_path / "token"))
    config = tmp_path / "config.yaml"
    folder = guarded.ca.parent
    config.write_text(
        f"model: {{default: yolo12n, fallback: yolo12n, high_precision: yolo12n}}\n"
        f"triton: {{url: {guarded.url}, tls: true, tls_ca: {guarded.ca}, admin_key_env: {KEY_NAME}}}\n"
        f"web: {{enabled: true, port: 0, tls_cert: {folder / 'cert.pem'}, tls_key: {folder / 'key.pem'},\n"
        f"      token_env: TEST_WEB_TOKEN, state: {tmp_path / 'state.json'}}}\n"
        f"sinks: {{jsonl: }}\ncameras:\n  - {{id: cam, source: {clip}, loop: true}}\n"
    )
    context = ssl.create_default_context(cafile=str(guarded.ca))
    with serving(config, tmp_path / "log", verify=context) as served:
        assert served.url.startswith("https://")
        assert served.http.get("/healthz").status_code == 200
        assert served.http.get("/v1/streams").status_code == 401
        token = {"Authorization": "Bearer a token that nobody guesses"}
        assert served.http.get("/v1/streams", headers=token).json()[0]["id"] == "cam"
        with pytest.raises(httpx.RemoteProtocolError):
            httpx.get(served.url.replace("https", "http") + "/healthz")
    assert "a token that nobody guesses" not in (tmp_path / "log").read_text()


def test_a_certificate_of_the_web_side_that_cannot_be_used_is_one_clear_line(
    guarded: Guarded, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Said before a model is loaded."""
    config = tmp_path / "config.yaml"
    config.write_text("cameras:\n  - {id: cam, source: c.mp4}\nsinks: {jsonl: }\n")
    wrong = ["--set", f"web.tls_cert={guarded.ca}", "--set", f"web.tls_key={guarded.ca}"]
    web = ["--set", "web.enabled=true", "--set", "web.port=0", "--set", f"triton.url={guarded.url}"]
    assert clients(["run", "--config", str(config), *web, *wrong]) == 2
    assert "web.tls_cert: " in capfd.readouterr().err
    assert clients(["run", "--config", str(config), *web, *wrong[:2]]) == 2
    assert "tls_cert and tls_key go together" in capfd.readouterr().err


@pytest.mark.anyio
async def test_the_embedded_triton_has_a_key_of_its_own(tmp_path: Path) -> None:
    """The server that a fleet starts is restricted as well: the fleet knows its key, a stranger does not."""
    config = tmp_path / "config.yaml"
    config.write_text(
        f"model: {{default: yolo12n, fallback: yolo12n, high_precision: yolo12n}}\n"
        f"triton: {{models: {MODELS}, log: {tmp_path / 'triton.log'}}}\n"
    )
    async with server_of(load_settings(config)) as (url, access):
        async with TritonLink(url) as stranger:
            assert await stranger.is_ready()
            with pytest.raises(AccessRefused):
                await stranger.engine_counts()
        async with TritonLink(url, access=access) as link:
            assert await link.labels(Tier.N)


def test_every_protocol_but_the_three_open_ones_is_restricted() -> None:
    """Triton knows nine; health, metadata and inference are for everyone."""
    nine = {"health", "metadata", "inference", *RESTRICTED}
    assert len(nine) == 9
    assert len(RESTRICTED) == 6


def test_secrets_come_from_the_environment_or_from_files(tmp_path: Path) -> None:
    """The variable first, then the file that NAME_FILE names, then the folder of secrets; line ends are cut off."""
    (tmp_path / "named").write_text("from a named file\n")
    (tmp_path / "THIRD").write_text("from the folder\n")
    environment = {"FIRST": "from the environment", "FIRST_FILE": "/nowhere", "SECOND_FILE": str(tmp_path / "named")}
    known = Secrets(environment, folder=tmp_path)
    assert [known[name] for name in ("FIRST", "SECOND", "THIRD")] == [
        "from the environment",
        "from a named file",
        "from the folder",
    ]
    assert "FOURTH" not in known
    broken = Secrets({"SECOND_FILE": str(tmp_path / "missing")}, folder=tmp_path)
    with pytest.raises(ValueError, match="SECOND cannot be read: No such file"):
        broken["SECOND"]


def test_a_cameras_password_may_lie_in_a_file(tmp_path: Path) -> None:
    """`${NAME}` in a source takes a secret from its file, and hides it."""
    (tmp_path / "CAM_PASSWORD").write_text("p@ss\n")
    address = Address.parse("rtsp://viewer:${CAM_PASSWORD}@cam/1", Secrets({}, folder=tmp_path))
    assert address.target == "rtsp://viewer:p%40ss@cam/1"
    assert "p%40ss" not in address.shown
    assert "p@ss" in address.secrets


@pytest.mark.parametrize(
    ("environment", "complaint"),
    [
        ({}, f"{KEY_NAME} is not set, nor {KEY_NAME}_FILE"),
        ({KEY_NAME: "short"}, "must hold 16 or more"),
        ({KEY_NAME: "with spaces and more"}, "must hold 16 or more"),
    ],
)
def test_a_key_that_cannot_be_used_is_one_clear_line(environment: dict[str, str], complaint: str) -> None:
    """Said before anything is started, without the key itself."""
    with pytest.raises(ConfigError, match=complaint) as caught:
        access_to(Triton(admin_key_env=KEY_NAME), environment)
    assert not any(value in str(caught.value) for value in environment.values())


def test_a_certificate_file_that_is_missing_is_one_clear_line(tmp_path: Path) -> None:
    """On the client's side and on the server's."""
    with pytest.raises(ConfigError, match=r"triton.tls_ca: .*missing.pem: cannot be read"):
        access_to(Triton(tls=True, tls_ca=tmp_path / "missing.pem"), {})
    with pytest.raises(ConfigError, match=r"missing.pem: no such file"):
        ServerAccess(None, tmp_path / "missing.pem", tmp_path / "missing.key")
    with pytest.raises(ConfigError, match="one without the other"):
        ServerAccess(None, tmp_path / "missing.pem")


def test_the_key_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    """A stack that starts with nothing prepared makes its key; a restart finds the same one."""
    file = tmp_path / "run" / "key"
    environment = {f"{KEY_NAME}_FILE": str(file)}
    first = made_admin_key(KEY_NAME, Secrets(environment), environment)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert made_admin_key(KEY_NAME, Secrets(environment), environment) == first
    assert first is not None
    assert len(first) >= 32


def test_a_stranger_may_infer(guarded: Guarded) -> None:
    """Inference without a key and without shared memory: what a stranger on the network may do."""
    frames = np.full((1, 576, 640), 114, dtype=np.uint8)
    inputs = [triton.InferInput("frames", list(frames.shape), "UINT8")]
    inputs[0].set_data_from_numpy(frames)
    for name, values in (("geometry", [1, 1, 0, 0]), ("thresholds", [0.25, 0.7])):
        tensor = triton.InferInput(name, [1, len(values)], "FP32")
        tensor.set_data_from_numpy(np.array([values], dtype=np.float32))
        inputs.append(tensor)
    with triton.InferenceServerClient(guarded.url, ssl=True, root_certificates=str(guarded.ca)) as client:
        answer = client.infer("yolo12n", inputs)
    assert answer.as_numpy("detections").shape == (1, 300, 6)
