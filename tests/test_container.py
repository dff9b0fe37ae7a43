"""The Dockerfile and the compose file are checked as text; no container engine builds or runs them here."""

import re
from pathlib import PurePosixPath
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from tests.conftest import ROOT

RECIPE = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text(encoding="utf-8"))
STEPS = [line.strip().partition(" ")[::2] for line in RECIPE.splitlines() if line.strip() and line[0] not in "# "]
LAST_STAGE = STEPS[max(row for row, (name, _) in enumerate(STEPS) if name == "FROM") :]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))


def last(name: str) -> str:
    return [value for step, value in LAST_STAGE if step == name][-1]


def test_the_last_user_is_not_root() -> None:
    user = last("USER").partition(":")[0]
    assert int(user) > 0


def test_nothing_is_added_from_a_url_and_nothing_is_unpacked_by_surprise() -> None:
    assert not [value for name, value in STEPS if name == "ADD"]
    assert not re.search(r"curl|wget", RECIPE)


def test_every_base_is_pinned_to_a_patch_version_of_slim() -> None:
    bases = [value.split()[0] for name, value in STEPS if name == "FROM"]
    assert len(bases) > 1
    assert all(re.fullmatch(r"python:3\.12\.\d+-slim-\w+", base) for base in bases)


def test_the_health_check_asks_a_path_that_needs_no_key() -> None:
    from service.security.access import OPEN_PATHS

    paths = re.findall(r"http://127\.0\.0\.1:8000(/\w+)", last("HEALTHCHECK"))
    assert paths
    assert set(paths) <= OPEN_PATHS
    assert last("EXPOSE") == "8000"


def test_everything_copied_is_let_in_by_dockerignore() -> None:
    ignore = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    let_in = {line[1:] for line in ignore if line.startswith("!")}
    copied = {name for step, value in STEPS if step == "COPY" and "--from" not in value for name in value.split()[:-1]}
    assert ignore[0] == "*"
    assert copied == let_in
    assert all((ROOT / name).exists() for name in copied)


def test_every_folder_that_is_written_lies_on_the_volume() -> None:
    environment = dict(pair.split("=", 1) for step, value in LAST_STAGE if step == "ENV" for pair in value.split())
    volume = PurePosixPath(last("VOLUME"))
    for name in ("HOME", "HF_HOME", "VLM_OOD_CACHE", "VLM_OOD_DATA"):
        assert PurePosixPath(environment[name]).is_relative_to(volume), name


@pytest.mark.parametrize("name", ["server", "server-cuda"])
def test_a_composed_server_has_no_more_rights_than_it_needs(name: str) -> None:
    server = COMPOSE["services"][name]
    assert server["read_only"] is True
    assert server["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in server["security_opt"]
    assert server["user"] == last("USER")
    assert any(mount.startswith("/tmp") for mount in server["tmpfs"])
    assert all(port.startswith("127.0.0.1:") for port in server["ports"])
    assert server["volumes"] == ["data:/data"]
    assert server["healthcheck"]["test"][-1] in RECIPE
    assert not {"privileged", "network_mode", "pid"} & server.keys()


def test_only_the_cuda_server_has_a_profile_and_a_gpu() -> None:
    services = COMPOSE["services"]
    assert "profiles" not in services["server"]
    assert services["server-cuda"]["profiles"] == ["cuda"]
    assert {service["build"]["args"]["VARIANT"] for service in services.values()} == {"cpu", "cuda"}
    assert re.search(r"\bcpu\) .*\bcuda\) ", RECIPE)
