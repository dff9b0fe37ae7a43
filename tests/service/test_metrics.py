"""Labels of metrics are those of the program: what callers send does not make new series."""

from random import Random

from starlette.testclient import TestClient

from tests.service.conftest import Start
from tests.service.fakes import files, png


def series(client: TestClient) -> set[str]:
    """Name and labels of every series of HTTP."""
    lines = client.get("/metrics").text.splitlines()
    return {line.rpartition(" ")[0] for line in lines if line.startswith(("vlm_ood_http", "vlm_ood_images"))}


def test_hundreds_of_methods_and_paths_make_no_new_series(start: Start) -> None:
    client = start()
    random = Random(0)
    paths = (
        "/{0}",
        "/v1/{0}",
        "/v1/detectors/{0}",
        "/v1/banks/{0}?x={0}",
        "/page/{0}",
        "/v1/methods/{0}/{0}",
        "/livez/{0}",
    )

    def send(count: int) -> None:
        for _ in range(count):
            word = "".join(random.choices("abcdefghijklmnopqrstuvwxyz%0", k=12)) + "secret"
            client.request(f"M{word[:5].upper().replace('%', '')}", random.choice(paths).format(word))
            client.get(random.choice(paths).format(word))
            client.request(f"M{word[:5].upper().replace('%', '')}", "/livez")

    for path in paths:
        for method in ("GET", "BREW"):
            client.request(method, path.format("secret"))
            client.request(method, path.format("%2e%2e%00secret"))
    client.request("BREW", "/livez")
    series(client)  # counts itself
    before = series(client)
    send(300)
    assert series(client) == before
    assert not [each for each in before if "secret" in each or "BREW" in each]


def test_outcomes_of_images_are_codes_of_the_program(start: Start) -> None:
    client = start()
    names = [f"secret{row}.png" for row in range(5)]
    for name in names:
        fields = {"classes": ["red", "blue"], "method": "mcm"}
        client.post("/v1/score", files=[("images", (name, b"secret" + name.encode())), *files(png())], data=fields)
    outcomes = {each for each in series(client) if each.startswith("vlm_ood_images_total")}
    assert outcomes == {'vlm_ood_images_total{outcome="scored"}', 'vlm_ood_images_total{outcome="image"}'}
