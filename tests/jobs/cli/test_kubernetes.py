"""The manifests of docs/deploy/kubernetes fit the commands, the settings, the exit codes and one another."""

import datetime as dt
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs.cli.cli import parser
from jobs.cli.command import ExitCode
from jobs.config import load_config
from tests.source_tree import ROOT

FOLDER = ROOT / "docs" / "deploy" / "kubernetes"
MANIFESTS: list[dict[str, Any]] = [
    manifest for path in sorted(FOLDER.iterdir()) for manifest in yaml.safe_load_all(path.read_text())
]


def manifest(kind: str) -> dict[str, Any]:
    [found] = [each for each in MANIFESTS if each["kind"] == kind]
    return found


def pod(kind: str) -> dict[str, Any]:
    spec = manifest(kind)["spec"]
    spec = spec["jobTemplate"]["spec"] if kind == "CronJob" else spec
    return dict(spec["template"]["spec"])


@pytest.fixture
def config(tmp_path: Path) -> Any:
    path = tmp_path / "lightsage.toml"
    path.write_text(manifest("ConfigMap")["data"]["lightsage.toml"])
    return load_config(path)


def test_a_pod_is_killed_only_after_it_has_drained_and_answered(config: Any) -> None:
    serve = config.serve
    spec = pod("Deployment")
    [container] = spec["containers"]
    pre_stop = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    assert spec["terminationGracePeriodSeconds"] > pre_stop + serve.drain_seconds + serve.shutdown_seconds
    readiness = container["readinessProbe"]
    # A load balancer that asks /readyz itself must see the failure before the server stops accepting connections.
    assert serve.drain_seconds >= readiness["periodSeconds"] + readiness["timeoutSeconds"]


def test_the_server_is_started_as_the_command_expects() -> None:
    [container] = pod("Deployment")["containers"]
    options = parser().parse_args(container["args"])
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    assert (options.command, options.host) == ("serve", "0.0.0.0")
    assert [port["containerPort"] for port in container["ports"]] == [options.port]
    assert mounts[options.workspace]["readOnly"] is True
    assert str(options.config.parent) in mounts
    annotations = manifest("Deployment")["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == str(options.port)


def test_probes_ask_what_they_are_for() -> None:
    [container] = pod("Deployment")["containers"]
    probes = {kind: container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "readiness", "liveness")}
    assert {kind: probe["path"] for kind, probe in probes.items()} == {
        "startup": "/healthz",
        "readiness": "/readyz",
        "liveness": "/healthz",
    }
    assert {probe["port"] for probe in probes.values()} == {"http"} == {port["name"] for port in container["ports"]}
    assert manifest("Service")["spec"]["ports"][0]["targetPort"] == "http"


def test_selectors_match_the_labels_of_pods() -> None:
    labels = manifest("Deployment")["spec"]["template"]["metadata"]["labels"]
    for selector in (
        manifest("Deployment")["spec"]["selector"]["matchLabels"],
        manifest("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        manifest("Service")["spec"]["selector"],
    ):
        assert selector.items() <= labels.items()
    assert manifest("PodDisruptionBudget")["spec"]["minAvailable"] < manifest("Deployment")["spec"]["replicas"]


@pytest.mark.parametrize("kind", ["Deployment", "CronJob"])
def test_pods_run_without_rights_and_with_limits(kind: str) -> None:
    spec = pod(kind)
    [container] = spec["containers"]
    # The images give their user by name, but Kubernetes checks a number; useradd gives the first user the number 1000.
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] == 1000
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert set(container["resources"]["requests"]) == {"cpu", "memory"}
    assert "memory" in container["resources"]["limits"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in spec["volumes"]}
    assert spec["automountServiceAccountToken"] is False


def test_the_night_runs_the_command_for_yesterday(tmp_path: Path, config: Any) -> None:
    [container] = pod("CronJob")["containers"]
    program = tmp_path / "lightsage"
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    program.chmod(0o755)
    variables = {variable["name"]: variable["value"] for variable in container["env"]}
    command = [*container["command"], *container["args"]]
    environment = {**variables, "PATH": f"{tmp_path}:/usr/bin:/bin"}
    job = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    options = parser().parse_args(job.stdout.splitlines())
    assert options.command == "nightly"
    assert options.date in {dt.datetime.now(dt.UTC).date() - dt.timedelta(days=days) for days in (1, 2)}
    assert (options.events, options.ads) == (["/logs/events/{date}"], "/logs/ads.parquet")
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    assert not mounts[options.workspace].get("readOnly")
    # The servers cannot write down which versions they serve, so the nights must keep enough of them.
    assert config.nightly.keep_versions > 7


def test_only_failures_that_may_pass_are_retried() -> None:
    night = manifest("CronJob")["spec"]
    job = night["jobTemplate"]["spec"]
    [rule] = [rule for rule in job["podFailurePolicy"]["rules"] if rule["action"] == "FailJob"]
    assert rule["onExitCodes"]["values"] == [ExitCode.WRONG_INPUT, ExitCode.REFUSED]
    assert rule["onExitCodes"]["containerName"] == pod("CronJob")["containers"][0]["name"]
    assert pod("CronJob")["restartPolicy"] == "Never", "podFailurePolicy requires it"
    assert job["backoffLimit"] > 0
    assert night["concurrencyPolicy"] == "Forbid"
    start = dt.timedelta(hours=2, minutes=30)
    longest = dt.timedelta(seconds=night["startingDeadlineSeconds"] + job["activeDeadlineSeconds"])
    assert (night["schedule"], night["timeZone"]) == ("30 2 * * *", "Etc/UTC")
    assert start + longest < dt.timedelta(days=1), "all attempts must be over before midnight"


def test_all_parts_name_the_same_claim_and_settings() -> None:
    for kind in ("Deployment", "CronJob"):
        volumes = {volume["name"]: volume for volume in pod(kind)["volumes"]}
        claim = volumes["workspace"]["persistentVolumeClaim"]
        assert claim["claimName"] == manifest("PersistentVolumeClaim")["metadata"]["name"]
        assert claim.get("readOnly", False) is (kind == "Deployment")
        assert volumes["config"]["configMap"]["name"] == manifest("ConfigMap")["metadata"]["name"]
    assert manifest("PersistentVolumeClaim")["spec"]["accessModes"] == ["ReadWriteMany"]


def test_kubectl_reads_the_manifests(tmp_path: Path) -> None:
    if not shutil.which("kubectl"):
        pytest.skip("kubectl is not installed")
    for path in FOLDER.iterdir():
        shutil.copy(path, tmp_path)
    names = "".join(f"- {path.name}\n" for path in sorted(FOLDER.iterdir()))
    (tmp_path / "kustomization.yaml").write_text(f"resources:\n{names}")
    job = subprocess.run(["kubectl", "kustomize", str(tmp_path)], capture_output=True, text=True, check=False)
    assert job.returncode == 0, job.stderr
    assert job.stdout.count("\nkind: ") == len(MANIFESTS)
