"""Recipes that need an engine we do not have: each is parsed, and what it names is looked up."""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.parts import DEPLOY, ROOT, parsed

# -- Docker ----------------------------------------------------------------------------------------

INSTRUCTIONS = {"FROM", "RUN", "COPY", "USER", "WORKDIR", "VOLUME", "ENV", "ENTRYPOINT", "CMD"}


def instructions() -> list[tuple[str, str]]:
    text = (DEPLOY / "docker/Dockerfile").read_text()
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [
        (word, " ".join(rest.split()))
        for line in joined.splitlines()
        if line.strip()
        for word, _, rest in [line.partition(" ")]
    ]


def test_the_image_is_built_from_what_is_there_and_runs_as_nobody_special() -> None:
    given = instructions()
    assert given[0][0] == "FROM"
    assert {word for word, _ in given} <= INSTRUCTIONS
    for word, rest in given:
        if word == "COPY":
            *sources, _ = rest.split()
            assert all((ROOT / source).exists() for source in sources), rest
    users = [rest for word, rest in given if word == "USER"]
    assert users
    assert users[-1] not in {"root", "0"}
    assert dict(given)["ENTRYPOINT"] == '["chunkarr"]'


def test_the_image_holds_every_package_and_a_python_that_is_asked_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    copied = {s for word, rest in instructions() if word == "COPY" for s in rest.split()[:-1]}
    folders = set(project["tool"]["setuptools"]["package-dir"].values())
    assert folders <= copied
    version = re.fullmatch(r"python:3\.(\d+)-slim", dict(instructions())["FROM"])
    least = re.search(r">=3\.(\d+)", project["project"]["requires-python"])
    assert version
    assert least
    assert int(version[1]) >= int(least[1])


def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "docker/compose.yaml").read_text())
    return found


SERVICE_KEYS = {
    "image": str,
    "build": dict,
    "volumes": list,
    "networks": list,
    "security_opt": list,
    "cap_drop": list,
    "command": list,
    "restart": str,
    "depends_on": dict,
    "mem_limit": str,
    "cpus": int,
    "profiles": list,
    "environment": dict,
}


@pytest.mark.parametrize("name", ["credentials", "scheduler", "worker", "client"])
def test_a_service_is_made_of_what_compose_knows(name: str) -> None:
    given = services()
    service = given["services"][name]
    for key, value in service.items():
        assert isinstance(value, SERVICE_KEYS[key]), key
    assert parsed(service["command"])
    assert "ports" not in service, "nothing is published beyond the network of the cluster"
    assert set(service.get("depends_on", {})) <= set(given["services"])
    for mount in service["volumes"]:
        assert mount.split(":")[0] in given["volumes"]
    assert set(service["networks"]) <= set(given["networks"])
    context = DEPLOY / "docker" / service["build"]["context"]
    assert (context / service["build"]["dockerfile"]).resolve() == DEPLOY / "docker/Dockerfile"


def test_workers_of_compose_fit_their_containers() -> None:
    worker = services()["services"]["worker"]
    assert parsed(worker["command"])["memory"] == "3GiB"
    assert worker["mem_limit"] == "4g"


# -- Kubernetes ------------------------------------------------------------------------------------

Schema = Any
"""A type, a list with the schema of its items, or a dict; `key?` may be left out, `*` is any."""

LABELS = {"*": str}
META = {"name": str, "labels": LABELS}
QUANTITIES = {"*": (str, int)}
CONTAINER = {
    "name": str,
    "image": str,
    "imagePullPolicy": str,
    "command": [str],
    "args": [str],
    "ports?": [{"name": str, "containerPort": int}],
    "env?": [{"name": str, "value": str}],
    "readinessProbe?": {"tcpSocket": {"port": (str, int)}, "periodSeconds?": int},
    "resources": {"requests": QUANTITIES, "limits": QUANTITIES},
    "securityContext": {"allowPrivilegeEscalation": bool, "capabilities": {"drop": [str]}},
    "volumeMounts": [{"name": str, "mountPath": str, "readOnly?": bool}],
}
POD = {
    "automountServiceAccountToken": bool,
    "securityContext": {
        "runAsNonRoot": bool,
        "runAsUser": int,
        "fsGroup": int,
        "seccompProfile": {"type": str},
    },
    "containers": [CONTAINER],
    "volumes": [
        {
            "name": str,
            "secret?": {"secretName": str, "defaultMode": int},
            "persistentVolumeClaim?": {"claimName": str},
        }
    ],
}
SCHEMAS: dict[tuple[str, str], Schema] = {
    ("v1", "PersistentVolumeClaim"): {
        "spec": {"accessModes": [str], "resources": {"requests": QUANTITIES}}
    },
    ("v1", "ConfigMap"): {"data": {"*": str}},
    ("v1", "Service"): {
        "spec": {
            "selector": LABELS,
            "ports": [{"name": str, "port": int, "targetPort": (str, int)}],
        }
    },
    ("apps/v1", "Deployment"): {
        "spec": {
            "replicas": int,
            "strategy?": {"type": str},
            "selector": {"matchLabels": LABELS},
            "template": {"metadata": {"labels": LABELS}, "spec": POD},
        }
    },
    ("networking.k8s.io/v1", "NetworkPolicy"): {
        "spec": {
            "podSelector": {"matchLabels": LABELS},
            "policyTypes": [str],
            "ingress": [{"from": [{"podSelector": {"matchLabels": LABELS}}]}],
        }
    },
}


def wrong(value: Any, schema: Schema, place: str = "") -> Iterator[str]:
    """Name the places where a value is not what a schema says."""
    if isinstance(schema, list):
        if not isinstance(value, list):
            yield f"{place}: not a list"
            return
        for number, item in enumerate(value):
            yield from wrong(item, schema[0], f"{place}[{number}]")
    elif isinstance(schema, dict):
        if not isinstance(value, dict):
            yield f"{place}: not a mapping"
            return
        known = {key.rstrip("?"): part for key, part in schema.items()}
        needed = {key for key in schema if not key.endswith("?") and key != "*"}
        yield from (f"{place}.{key}: missing" for key in needed - value.keys())
        for key, item in value.items():
            if key in known or "*" in known:
                yield from wrong(item, known.get(key, known.get("*")), f"{place}.{key}")
            else:
                yield f"{place}.{key}: unknown"
    elif not isinstance(value, schema):
        yield f"{place}: {value!r}"


def manifests() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / "kubernetes/cluster.yaml").read_text()))


def kinds(kind: str) -> dict[str, Any]:
    return {m["metadata"]["name"]: m for m in manifests() if m["kind"] == kind}


@pytest.mark.parametrize("position", range(len(manifests())))
def test_a_manifest_follows_its_schema(position: int) -> None:
    given = manifests()[position]
    schema = SCHEMAS[given["apiVersion"], given["kind"]]
    assert not list(wrong(given, {"apiVersion": str, "kind": str, "metadata": META, **schema}))


def test_manifests_name_what_there_is() -> None:
    claims, deployments = kinds("PersistentVolumeClaim"), kinds("Deployment")
    header = (DEPLOY / "kubernetes/cluster.yaml").read_text().split("apiVersion")[0]
    for name, deployment in deployments.items():
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        assert deployment["spec"]["selector"]["matchLabels"] == labels, name
        pod = deployment["spec"]["template"]["spec"]
        volumes = {volume["name"] for volume in pod["volumes"]}
        for volume in pod["volumes"]:
            if "secret" in volume:
                assert f"secret generic {volume['secret']['secretName']} " in header
            else:
                assert volume["persistentVolumeClaim"]["claimName"] in claims
        (container,) = pod["containers"]
        assert {mount["name"] for mount in container["volumeMounts"]} == volumes
        assert "memory" in container["resources"]["limits"]
    (service,) = kinds("Service").values()
    scheduler = deployments["chunkarr-scheduler"]["spec"]["template"]
    assert service["spec"]["selector"] == scheduler["metadata"]["labels"]
    (port,) = scheduler["spec"]["containers"][0]["ports"]
    assert service["spec"]["ports"][0]["targetPort"] == port["name"]
    address = f"tls://{service['metadata']['name']}:{service['spec']['ports'][0]['port']}"
    assert kinds("ConfigMap")["chunkarr-client"]["data"]["CHUNKARR_EXECUTOR"] == address
    assert address in worker_words()


def test_clients_are_told_to_be_the_user_that_workers_are() -> None:
    header = (DEPLOY / "kubernetes/cluster.yaml").read_text().split("apiVersion")[0]
    said = " ".join(header.replace("#", " ").split())
    for deployment in kinds("Deployment").values():
        context = deployment["spec"]["template"]["spec"]["securityContext"]
        assert f"runAsUser: {context['runAsUser']}" in said
        assert f"fsGroup: {context['fsGroup']}" in said


def worker_words() -> list[str]:
    container = kinds("Deployment")["chunkarr-worker"]["spec"]["template"]["spec"]["containers"][0]
    return shlex.split(container["args"][0].split("exec ")[1])


def test_commands_of_pods_are_chunkarr_s() -> None:
    for deployment in kinds("Deployment").values():
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        script = container["args"][0]
        subprocess.run(["sh", "-n", "-c", script], check=True)
        words = shlex.split(script.split("exec ")[1])
        assert words[0] == "chunkarr"
        assert parsed(words[1:])


def test_workers_of_a_pod_fit_its_memory() -> None:
    container = kinds("Deployment")["chunkarr-worker"]["spec"]["template"]["spec"]["containers"][0]
    assert container["resources"]["limits"]["memory"] == "8Gi"
    assert parsed(worker_words()[1:])["memory"] == "6400MiB"
    assert 6400 <= 0.8 * 8192


# -- systemd ---------------------------------------------------------------------------------------

UNITS = sorted((DEPLOY / "systemd").glob("*.service"))


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_unit_is_what_systemd_takes(path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd is not here")
    command = ["systemd-analyze", "verify", "--man=no", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert path.name not in done.stderr, done.stderr


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_unit_starts_what_chunkarr_has(path: Path) -> None:
    text = path.read_text().replace("\\\n", " ")
    given = dict(
        pair.split("=", 1)
        for line in re.findall(r"^Environment=(.*)$", text, re.MULTILINE)
        for pair in line.split()
    )
    (line,) = re.findall(r"^ExecStart=(.*)$", text, re.MULTILINE)
    used = set(re.findall(r"\$\{(\w+)\}", line))
    assert used <= given.keys()
    words = shlex.split(re.sub(r"\$\{(\w+)\}", lambda m: given[m[1]], line))
    options = parsed(words[words.index("chunkarr") + 1 :])
    assert options["host"] == "127.0.0.1", "nothing listens beyond loopback unless it is asked for"


def test_workers_of_a_unit_share_files_with_programs_of_their_user() -> None:
    units = [dict(re.findall(r"^(\w+)=(.*)$", path.read_text(), re.MULTILINE)) for path in UNITS]
    assert len({unit["User"] for unit in units}) == 1
    (worker,) = (unit for path, unit in zip(UNITS, units, strict=True) if "worker" in path.name)
    # All else is read-only: where programs leave chunks by default has to be named.
    assert worker["ProtectSystem"] == "strict"
    assert worker["PrivateTmp"] == "no"
    assert {"/tmp", "/var/tmp"} <= set(worker["ReadWritePaths"].split())


# -- Slurm by dask-jobqueue ------------------------------------------------------------------------


def test_jobs_of_jobqueue_hold_the_key_and_share_the_disk(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("jobqueue", DEPLOY / "slurm/jobqueue.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with module.make_cluster(str(tmp_path), cores=4, memory="8GB") as cluster:
        script = cluster.job_script()
    assert "#SBATCH --cpus-per-task=4" in script or "#SBATCH -n 1" in script
    assert f"export CHUNKARR_SPILL_DIR={tmp_path}" in script
    assert "--tls-key" in script
    assert "127.0.0.1:0" in script
