"""`vlm-ood keys` and `vlm-ood serve`."""

import json
from pathlib import Path

import pytest
from typer import Typer
from typer.testing import CliRunner

from service.settings import Settings, SettingsError
from vlm_ood.cli import keys, serve

runner = CliRunner()


@pytest.fixture(autouse=True)
def _data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLM_OOD_DATA", str(tmp_path))


def test_a_key_is_made_listed_and_revoked() -> None:
    made = runner.invoke(keys.app, ["create", "--tenant", "acme", "-a", "score", "-a", "manage", "--json"])
    key = json.loads(made.stdout)
    assert key["token"].startswith(f"vo_{key['id']}_")
    assert runner.invoke(keys.app, ["revoke", key["id"]]).exit_code == 0
    listed = json.loads(runner.invoke(keys.app, ["list", "--json"]).stdout)
    assert [(row["tenant"], row["access"]) for row in listed] == [("acme", ["manage", "score"])]
    assert listed[0]["revoked"] is not None
    assert key["token"] not in json.dumps(listed)


def test_the_token_alone_is_on_standard_output() -> None:
    made = runner.invoke(keys.app, ["create"])
    assert made.exit_code == 0
    assert made.stdout.strip().startswith("vo_")
    assert len(made.stdout.split()) == 1
    assert "acme" not in runner.invoke(keys.app, ["list"]).stdout


def test_options_come_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[Settings] = []
    monkeypatch.setattr("service.start.serve", ran.append)
    monkeypatch.setenv("VLM_OOD_PORT", "9000")
    monkeypatch.setenv("VLM_OOD_ENCODERS", "embedded, random:ViT-B-32")
    serve_app = Typer()
    serve_app.command()(serve.command)
    assert runner.invoke(serve_app, ["--host", "127.0.0.2"]).exit_code == 0
    assert runner.invoke(serve_app, ["--port", "9001", "-e", "random:ViT-B-16"]).exit_code == 0
    assert [(each.host, each.port) for each in ran] == [("127.0.0.2", 9000), ("127.0.0.1", 9001)]
    assert [each.encoders for each in ran] == [("embedded", "random:ViT-B-32"), ("random:ViT-B-16",)]


def test_a_setting_that_cannot_be_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match="workers"):
        serve.command(workers="threads")
    monkeypatch.setenv("VLM_OOD_PORT", "many")
    with pytest.raises(SettingsError, match=r"^settings: port: "):
        keys.list_()


def test_settings_read_lists_and_know_loopback() -> None:
    assert Settings(host="::1").loopback
    assert Settings(host="localhost").loopback
    assert not Settings(host="192.168.0.7").loopback
    assert Settings(host="0.0.0.0").hosts == ()
    assert Settings().engine().encoders == ("embedded",)
    assert Settings(url_ports="443,8443").url_ports == (443, 8443)  # type: ignore[arg-type]
