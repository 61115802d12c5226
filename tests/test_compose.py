"""docker-compose.yml and the Dockerfiles, as far as they can be checked without an engine."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import av
import jsonschema
import pytest
from compose_file import PROFILES, ROOT, STACKS, command, compose, in_order, services, variables
from conftest import moving_square, write_clip
from live_servers import rtsp_server
from packaging.requirements import Requirement

from clients.config import load_settings
from demo.run import CLIP_S

DOCKERFILES = sorted((ROOT / "deploy").glob("*.Dockerfile"))
PAIRS = {"26.08": "11.2.1.2"}  # Triton's image and the TensorRT in it; a new one is looked up in NVIDIA's release notes
BIN = Path(sys.executable).parent


def every_service() -> list[tuple[str, dict[str, Any]]]:
    return list(services().items())


def is_long_running(service: dict[str, Any]) -> bool:
    return service["restart"] != "no"


def test_the_file_is_what_the_compose_specification_says() -> None:
    """Valid by the Compose Specification's own schema."""
    schema = json.loads((ROOT / "tests" / "compose-spec" / "compose-spec.json").read_text())
    found = [error.message for error in jsonschema.Draft7Validator(schema).iter_errors(compose())]
    assert not found


@pytest.mark.parametrize("profile", PROFILES)
def test_each_profile_is_read_by_docker_compose(profile: str) -> None:
    """Compose itself, an old one, takes the file; a newer one takes more, not less."""
    asked = ["docker-compose", "--profile", profile, "config", "--quiet"]
    process = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr


def test_a_plain_up_starts_the_cameras_of_this_host() -> None:
    """Without a profile on the command line, .env chooses the GPU's stack."""
    assert variables()["COMPOSE_PROFILES"] == "gpu"


@pytest.mark.parametrize("profile", PROFILES)
def test_who_is_waited_for_belongs_to_the_profile(profile: str) -> None:
    """Every dependency is started by the same profile, and one that must be healthy says how that is seen."""
    found = services(profile)
    assert in_order(profile)
    for name, service in found.items():
        for other, how in service.get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                assert "healthcheck" in found[other], f"{name} waits for the health of {other}, which has no check"
            else:
                assert not is_long_running(found[other]), f"{name} waits for the end of {other}, which does not end"


@pytest.mark.parametrize("profile", STACKS)
def test_a_stack_goes_from_the_doctor_to_the_dashboards(profile: str) -> None:
    """doctor, models, Triton, streams, one after another; Prometheus before Grafana."""
    order = in_order(profile)
    steps = ("doctor", "export" if profile == "cpu" else "engine", "triton", "streams")
    places = [next(place for place, name in enumerate(order) if name.endswith(step)) for step in steps]
    assert places == sorted(places)
    assert order.index("prometheus") < order.index("grafana")


@pytest.mark.parametrize(
    ("name", "service"), every_service(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_no_service_may_more_than_it_must(name: str, service: dict[str, Any]) -> None:
    """Not root, no capability, no new privileges, nothing writable but volumes and /tmp; logs and memory bounded."""
    assert int(service["user"].split(":")[0]) > 0
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True
    assert {"privileged", "cap_add", "devices", "pid"}.isdisjoint(service)
    assert service["logging"]["options"] == {"max-size": "10m", "max-file": "5"}
    assert service["deploy"]["resources"]["limits"]["memory"]
    assert service["pids_limit"] > 0
    assert not any("docker.sock" in str(volume) for volume in service.get("volumes", ()))


@pytest.mark.parametrize(
    ("name", "service"), every_service(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_ours_are_of_uid_1000_and_what_runs_on_is_watched(name: str, service: dict[str, Any]) -> None:
    """Shared memory needs one uid on both sides; what serves has a health check and time to stop."""
    if service["image"].startswith("yolo12-"):
        assert service["user"] == "1000:1000"
    if is_long_running(service):
        assert "stop_grace_period" in service
        assert "healthcheck" in service


def test_ports_are_published_where_the_operator_says_and_triton_has_none() -> None:
    """127.0.0.1 unless .env says otherwise; Triton is on the network without a way in."""
    assert variables()["BIND"] == "127.0.0.1"
    for name, service in services(BIND="192.0.2.7").items():
        for port in service.get("ports", ()):
            assert port.startswith("192.0.2.7:"), f"{name} publishes {port} elsewhere"
        if "deploy.triton" in command(service):
            assert "ports" not in service
            assert list(service["networks"]) == ["inside"]
    assert compose()["networks"]["inside"] == {"internal": True}


@pytest.mark.parametrize("profile", STACKS)
def test_frames_cross_in_shared_memory_that_the_server_owns(profile: str) -> None:
    """Triton's /dev/shm is the client's, big enough for every slot, and its Triton is asked to take it."""
    found = services(profile)
    triton = next(name for name in found if name.endswith("triton"))
    streams = next(name for name in found if name.endswith("streams"))
    assert found[triton]["ipc"] == "shareable"
    assert found[triton]["shm_size"] == "1gb"
    assert found[streams]["ipc"] == f"service:{triton}"
    assert ("--client-shm" in command(found[triton])) == (profile != "cpu")  # the Triton of PyPI has no such switch


def test_whatever_touches_the_gpu_has_one_reserved() -> None:
    """Decoding and NVML need more than CUDA: video and utility."""
    for name, service in services().items():
        devices = service["deploy"]["resources"].get("reservations", {}).get("devices", [])
        on_gpu = any(profile in ("gpu", "cameras") for profile in service["profiles"]) and (
            name.removeprefix("demo-") in ("doctor", "export-engine", "engine", "triton", "streams")
        )
        assert bool(devices) == on_gpu, name
        if on_gpu:
            assert set(devices[0]["capabilities"]) == {"gpu", "compute", "utility", "video"}
            assert service["environment"]["NVIDIA_DRIVER_CAPABILITIES"] == "compute,utility,video"


def test_both_names_of_a_stack_are_the_same_for_prometheus() -> None:
    """`triton` and `streams` on the network, whatever the profile."""
    for profile in STACKS:
        for name, service in services(profile).items():
            for wanted in ("triton", "streams"):
                if name.endswith(f"-{wanted}"):
                    assert service["networks"]["inside"]["aliases"] == [wanted]


def test_versions_are_pinned_in_pairs() -> None:
    """Triton's image and the TensorRT bindings are of one release; no image is of a floating version."""
    known = variables()
    assert PAIRS[known["TRITON_VERSION"]] == known["TENSORRT_VERSION"]
    for name, service in services().items():
        assert re.search(r":v?\d+\.\d+", service["image"]), f"{name}: {service['image']}"


def test_a_dockerfile_says_the_same_versions_as_the_env_file() -> None:
    """The defaults of the Dockerfiles are those of .env, for who builds without Compose."""
    known = variables()
    for file in DOCKERFILES:
        for name, default in re.findall(r"^ARG (\w+)=(\S+)$", file.read_text(), re.MULTILINE):
            assert known[name] == default, f"{file.name}: {name}"


def test_no_secret_is_in_the_files() -> None:
    """Keys and passwords come from files that the repository does not have."""
    for file in (ROOT / ".env", ROOT / "docker-compose.yml", *DOCKERFILES):
        for line in file.read_text().splitlines():
            assert not re.search(r"(PASSWORD|SECRET|TOKEN|_KEY)\s*[:=]\s*[^\s$/]", line), f"{file.name}: {line}"
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert {"/secrets/", "/certs/"} <= set(ignored)


def test_volumes_and_networks_are_declared_and_mounted_where_ours_may_write() -> None:
    """A named volume takes over the owner of the folder in the image: each one of ours is made for uid 1000 there."""
    whole = compose()
    made = {file.stem: file.read_text() for file in DOCKERFILES}
    for name, service in whole["services"].items():
        assert set(service.get("networks", ())) <= set(whole["networks"]), name
        for volume in service.get("volumes", ()):
            source, target, *_ = volume.split(":")
            if source.startswith((".", "/")):
                continue
            assert source in whole["volumes"], f"{name}: {source}"
            if service["image"].startswith("yolo12-") and not volume.endswith(":ro"):
                text = made[Path(service["build"]["dockerfile"]).stem]
                (owned,) = re.findall(r"chown 1000:1000 (.+)$", text, re.MULTILINE)
                assert target.removeprefix("/app/") in owned.split(), f"{name}: {target}"


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.stem)
def test_dockerfiles_are_clean(file: Path) -> None:
    """hadolint finds nothing, notes included."""
    process = subprocess.run([BIN / "hadolint", file], cwd=ROOT, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stdout


def test_yaml_and_shell_are_clean() -> None:
    """yamllint and shellcheck find nothing."""
    for asked in ([BIN / "yamllint", "--strict", "."], [BIN / "shellcheck", ".ci/run"]):
        process = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False)
        assert process.returncode == 0, process.stdout


def test_each_image_is_built_from_files_that_are_sent_to_the_engine() -> None:
    """What a Dockerfile copies exists, and .dockerignore lets it through."""
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for file in DOCKERFILES:
        for line in re.findall(r"^COPY (?!--from)(.+)$", file.read_text(), re.MULTILINE):
            *sources, _ = line.split()
            for source in sources:
                assert (ROOT / source).exists(), f"{file.name}: {source}"
                assert source.split("/")[0] in sent, f"{file.name}: {source} is not sent"


def test_built_targets_exist() -> None:
    """Every `build` names a Dockerfile and a stage of it."""
    for name, service in services().items():
        if "build" not in service:
            continue
        text = (ROOT / service["build"]["dockerfile"]).read_text()
        target = service["build"].get("target")
        assert target is None or re.search(rf"^FROM .* AS {target}$", text, re.MULTILINE), name
        for argument in service["build"]["args"]:
            assert re.search(rf"^ARG {argument}=", text, re.MULTILINE), f"{name}: {argument}"


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.stem)
def test_every_package_of_an_image_is_pinned(file: Path) -> None:
    """Each group that an image installs is pinned, to a version that the group allows."""
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    for line in re.findall(r"pip install (?:.*\\\n)*.*", file.read_text()):
        names = re.findall(r"--group ([\w-]+)", line)
        constraints = re.search(r"--constraint (\S+)", line)
        assert bool(names) == bool(constraints), line
        for requirement in (one for name in names for one in requirements(groups, name)):
            assert constraints is not None
            version = pins(ROOT / "deploy" / constraints[1]).get(requirement.name.lower().replace("_", "-"))
            assert version is not None, f"{requirement.name} is not pinned; run `make pins`"
            assert requirement.specifier.contains(version), f"{requirement} is pinned to {version}; run `make pins`"


def requirements(groups: dict[str, Any], name: str) -> list[Requirement]:
    found = []
    for entry in groups[name]:
        found += requirements(groups, entry["include-group"]) if isinstance(entry, dict) else [Requirement(entry)]
    return found


def pins(file: Path) -> dict[str, str]:
    lines = (line for line in file.read_text().splitlines() if not line.startswith("#"))
    return dict(line.split("==") for line in lines)


def test_the_fifty_demo_cameras_are_the_demo_but_for_their_sources() -> None:
    """config.cameras.yaml says what config.demo.yaml says; its cameras are those that the service `cameras` serves."""
    fifty, demo = (load_settings(ROOT / name) for name in ("config.cameras.yaml", "config.demo.yaml"))
    for section in ("system", "model", "optimization", "sources", "triton"):
        assert getattr(fifty, section) == getattr(demo, section), section
    served = command(services()["cameras"])
    assert len(fifty.cameras) == int(served[served.index("--cameras") + 1]) == fifty.system.max_streams
    assert [camera.source for camera in fifty.cameras] == [f"rtsp://${{DEMO_CAMERAS}}/{c.id}" for c in fifty.cameras]


def test_a_folder_of_clips_is_served_as_so_many_cameras(tmp_path: Path) -> None:
    """The clips are dealt out in turns: with two of them, camera 1 and 3 are the same."""
    for name, width in (("a", 320), ("b", 160)):
        write_clip(tmp_path / f"{name}.mp4", moving_square(10, width=width))
    widths = []
    with rtsp_server("--folder", str(tmp_path), "--cameras", "3") as port:
        for number in (1, 2, 3):
            url = f"rtsp://127.0.0.1:{port}/cam{number:02}"
            with av.open(url, options={"rtsp_transport": "tcp"}, timeout=20) as camera:
                widths.append(camera.streams.video[0].codec_context.width)
    assert widths == [320, 160, 320]


def test_the_stack_renders_the_clips_that_everybody_renders() -> None:
    """Of another length they would be rendered anew by each who needs them, in a checkout that shares them."""
    words = command(services()["demo-clips"])
    assert words[words.index("--seconds") + 1] == str(CLIP_S)
