"""deploy/kubernetes, as far as it can be checked without a cluster: schemas, names that must meet, commands."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import kubernetes_validate
import pytest
import yaml
from compose_file import ROOT, command, health_command, services, variables

from clients.config import load_settings
from clients.shards import parse_shard

FOLDER = ROOT / "deploy" / "kubernetes"
KUBERNETES = "1.30"
KEY, SECRETS = "triton-key", "fleet-secrets"  # made by hand, see docs/scaling.md
Manifest = dict[str, Any]


def kustomization() -> Manifest:
    """The list of what is applied."""
    loaded: Manifest = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
    return loaded


def manifests() -> list[Manifest]:
    """Every object, in the order of the files."""
    texts = [(FOLDER / name).read_text() for name in kustomization()["resources"]]
    return [one for text in texts for one in yaml.safe_load_all(text)]


def of_kind(kind: str) -> dict[str, Manifest]:
    """The objects of a kind, by name."""
    return {one["metadata"]["name"]: one for one in manifests() if one["kind"] == kind}


def pods() -> Iterator[tuple[str, Manifest]]:
    """The name and pod template of everything that makes pods."""
    for kind in ("Job", "StatefulSet"):
        for name, one in of_kind(kind).items():
            yield name, one["spec"]["template"]


def containers() -> list[tuple[str, Manifest]]:
    """Every container, by its name."""
    both = [pod["spec"].get("initContainers", []) + pod["spec"]["containers"] for _, pod in pods()]
    return [(one["name"], one) for some in both for one in some]


def container(name: str) -> Manifest:
    """The container of this name."""
    return dict(containers())[name]


def without(words: list[str], *some: str) -> list[str]:
    """The words with one run of them left out."""
    at = next(at for at in range(len(words)) if words[at : at + len(some)] == list(some))
    return words[:at] + words[at + len(some) :]


@pytest.mark.parametrize("manifest", manifests(), ids=lambda one: f"{one['kind']}-{one['metadata']['name']}")
def test_every_object_is_what_its_schema_says(manifest: Manifest) -> None:
    """Strictly: a key that Kubernetes does not know is an error."""
    kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


def test_every_file_is_applied() -> None:
    """None lies there unused, and the configuration is the map that pods mount."""
    files = {path.name for path in FOLDER.glob("*.yaml")}
    maps = kustomization()["configMapGenerator"]
    assert files == {*kustomization()["resources"], "kustomization.yaml", "config.yaml"}
    assert maps == [{"name": "fleet-config", "files": ["config.yaml"]}]


@pytest.mark.parametrize(("name", "pod"), list(pods()), ids=lambda value: value if isinstance(value, str) else "")
def test_pods_are_of_the_restricted_kind(name: str, pod: Manifest) -> None:
    """What the namespace enforces: not root, a seccomp profile, no token of the cluster, volumes of harmless kinds."""
    told = of_kind("Namespace")["yolo12-fleet"]["metadata"]["labels"]
    assert told["pod-security.kubernetes.io/enforce"] == "restricted"
    security = pod["spec"]["securityContext"]
    assert security["runAsNonRoot"] is True
    assert security["runAsUser"] == 1000, f"{name}: the images' user"
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["spec"]["automountServiceAccountToken"] is False
    for volume in pod["spec"]["volumes"]:
        assert len({"configMap", "secret", "emptyDir", "persistentVolumeClaim"} & set(volume)) == 1


@pytest.mark.parametrize(("name", "one"), containers(), ids=lambda value: value if isinstance(value, str) else "")
def test_containers_may_no_more_than_they_must(name: str, one: Manifest) -> None:
    """No privilege, no capability, nothing writable but volumes, memory bounded; every mount is a volume of its pod."""
    assert one["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert one["resources"]["limits"]["memory"]
    assert one["resources"]["requests"]["cpu"]
    template = next(
        pod for _, pod in pods() if one in pod["spec"]["containers"] + pod["spec"].get("initContainers", [])
    )
    volumes = {volume["name"] for volume in template["spec"]["volumes"]} | {"results"}
    assert {mount["name"] for mount in one["volumeMounts"]} <= volumes, name


def test_images_and_commands_are_those_of_docker_compose() -> None:
    """Which are run for real in the tests; the differences are a pool's: no shared memory, no TLS files, a shard."""
    compose, known = services("gpu"), variables()
    plain = {"export-onnx": "export-onnx", "export-engine": "export-engine"}
    for name, service in plain.items():
        assert container(name)["args"] == command(compose[service])
    served = without(command(compose["triton"]), "--client-shm")
    served = without(served, "--tls-cert", known["TRITON_TLS_CERT"], "--tls-key", known["TRITON_TLS_KEY"])
    assert container("triton")["args"] == served
    streams = without(container("streams")["args"], "--shard", "$(ORDINAL)/$(SHARDS)")
    streams = without(streams, "--set", "web.token_env=WEB_TOKEN")
    assert streams == without(command(compose["streams"]), "--set", "triton.url=triton:8001")
    for name, service in (*plain.items(), ("triton", "triton"), ("streams", "streams")):
        assert container(name)["image"] == compose[service]["image"]
    for name, probe in (("triton", "livenessProbe"), ("streams", "readinessProbe")):
        assert container(name)[probe]["exec"]["command"] == health_command(compose[name])


def test_every_card_is_one_triton() -> None:
    """One GPU for each pod of Triton and for what builds its engines, none for the fleet."""
    cards = {name: one["resources"]["limits"].get("nvidia.com/gpu", 0) for name, one in containers()}
    assert cards == {"export-onnx": 0, "export-engine": 1, "triton": 1, "streams": 0}


def test_the_configuration_names_every_triton_that_there_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its endpoints are the StatefulSet's pods at the headless service, as many as the autoscaler may start."""
    monkeypatch.setenv("CAM_PASSWORD", "secret")
    settings = load_settings(FOLDER / "config.yaml")
    assert settings.streams()
    scaler, triton = of_kind("HorizontalPodAutoscaler")["triton"]["spec"], of_kind("StatefulSet")["triton"]["spec"]
    service = of_kind("Service")[triton["serviceName"]]["spec"]
    assert service["clusterIP"] == "None"
    assert settings.triton.addresses == tuple(f"triton-{number}.triton:8001" for number in range(scaler["maxReplicas"]))
    assert scaler["minReplicas"] <= triton["replicas"] <= scaler["maxReplicas"]
    assert scaler["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "triton"}


def test_every_pod_of_the_fleet_is_a_shard() -> None:
    """Its ordinal of as many as there are; together they are all of them."""
    fleet = of_kind("StatefulSet")["fleet"]["spec"]
    told = {one["name"]: one for one in container("streams")["env"]}
    assert int(told["SHARDS"]["value"]) == fleet["replicas"]
    field = told["ORDINAL"]["valueFrom"]["fieldRef"]["fieldPath"]
    assert field == "metadata.labels['apps.kubernetes.io/pod-index']"
    written = container("streams")["args"][-1]
    for ordinal in range(fleet["replicas"]):
        text = written.replace("$(ORDINAL)", str(ordinal)).replace("$(SHARDS)", told["SHARDS"]["value"])
        assert str(parse_shard(text)) == f"{ordinal}/{fleet['replicas']}"


@pytest.mark.parametrize("kind", ["Service", "PodDisruptionBudget", "NetworkPolicy"])
def test_selectors_meet_pods(kind: str) -> None:
    """What selects by label selects pods that exist; services and policies name ports that are open there."""
    labels = {pod["metadata"]["labels"]["app"]: pod for _, pod in pods()}
    for name, one in of_kind(kind).items():
        selector = one["spec"].get("podSelector", one["spec"].get("selector"))
        wanted = selector.get("matchLabels", {}) if kind != "Service" else selector
        assert name == "nothing-else" or wanted["app"] in labels, name
        if kind == "Service":
            ports = {port["containerPort"] for port in labels[wanted["app"]]["spec"]["containers"][0]["ports"]}
            assert {port["port"] for port in one["spec"]["ports"]} == ports


def test_nothing_is_reached_that_is_not_named() -> None:
    """All traffic is refused first; Triton has no way out and is asked by the fleet and Prometheus only."""
    policies = of_kind("NetworkPolicy")
    assert policies["nothing-else"]["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    assert "egress" not in policies["triton"]["spec"]
    ports = [[port["port"] for port in rule["ports"]] for rule in policies["triton"]["spec"]["ingress"]]
    assert ports == [[8001], [8002]]


def test_secrets_are_made_by_hand_and_described() -> None:
    """No manifest holds one; those that pods mount are in the guide, keys included."""
    assert not of_kind("Secret")
    mounted = {
        volume["secret"]["secretName"] for _, pod in pods() for volume in pod["spec"]["volumes"] if "secret" in volume
    }
    assert mounted == {KEY, SECRETS}
    guide = (ROOT / "docs" / "scaling.md").read_text()
    for name in mounted:
        assert f"create secret generic {name}" in guide
