"""The container: built as documented, run read-only, without root or capabilities, and used as its users would."""

import http.client
import json
import re
import shutil
import subprocess
import threading
import time

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest

from elbound.bundle import sign_bundle
from elbound.bundle.signature import read_signing_key, write_signing_key
from supply.pins import locked
from tests.image.conftest import OCI, ROOT
from tests.image.engine import INSECURE

pytestmark = pytest.mark.timeout(2400)  # the first test waits for the build

ABSENT = ("sklearn", "matplotlib", "httpx", "pytest", "pip")


@pytest.fixture(scope="session")
def expected(bundle, items):
    """What the library itself says of `items`, in this process."""
    from elbound import Scorer

    scorer = Scorer.from_bundle(bundle, device="cpu")
    return scorer.score_tensor(scorer.to_tensor(items).x)


def post_rows(url, items, **options):
    return httpx.post(f"{url}/score", json={"rows": items.to_pylist()}, timeout=60, **options)


def test_scores_over_http_are_those_of_the_library(server, items, expected):
    answer = post_rows(server.url, items)
    assert answer.status_code == 200, answer.text
    found = answer.json()["items"]
    np.testing.assert_allclose([item["score"] for item in found], expected.score, rtol=1e-4)
    np.testing.assert_allclose([item["p_value"] for item in found], expected.p_value, atol=0.01)


def test_an_uploaded_table_is_scored(server, items, expected):
    sink = pa.BufferOutputStream()
    pyarrow.csv.write_csv(items, sink)
    answer = httpx.post(
        f"{server.url}/score", content=sink.getvalue().to_pybytes(), headers={"Content-Type": "text/csv"}, timeout=60
    )
    assert answer.status_code == 200, answer.text
    np.testing.assert_allclose([item["score"] for item in answer.json()["items"]], expected.score, rtol=1e-4)


def test_a_mounted_file_is_scored_in_bulk(image, bundle, items, expected, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    data.chmod(0o777)  # the container's user is nobody here
    pyarrow.csv.write_csv(items, data / "rows.csv")
    mounts = ("-v", f"{bundle}:/bundles/model:ro,z", "-v", f"{data}:/data:z")
    done = image.run("score", "model", "/data/rows.csv", "--out", "/data/scores.csv", options=mounts)
    assert done.returncode == 0, done.stdout + done.stderr
    found = pyarrow.csv.read_csv(data / "scores.csv")
    np.testing.assert_allclose(found["score"].to_numpy(), expected.score, rtol=1e-4)


def test_a_folder_of_bundles_is_mounted(image, bundle):
    done = image.run("inspect", bundle.name, options=("-v", f"{bundle.parent}:/bundles:ro,z"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "colour" in done.stdout


def test_a_missing_bundle_is_one_line(image):
    done = image.run(options=INSECURE)
    assert done.returncode == 1
    assert "error: /bundles/model is not a bundle" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("package", ABSENT)
def test_what_serving_does_not_need_is_absent(server, package):
    done = server.exec("python", "-c", f"import {package}")
    assert done.returncode != 0
    assert f"No module named '{package}'" in done.stderr


INSTALLERS = ("pip", "pip3", "wheel", "gcc", "g++", "cc", "c++", "clang", "ld", "as", "make", "cargo")


def test_nothing_that_compiles_or_installs_is_there(server):
    """Neither on the path nor in a Python: the one of the service and the one below it."""
    look = f"import shutil; print(*(name for name in {INSTALLERS!r} if shutil.which(name)))"
    assert server.exec("python", "-c", look).stdout.strip() == ""
    find = "import importlib.util as u, sys; print(*(name for name in sys.argv[1:] if u.find_spec(name)))"
    installers = ("pip", "wheel", "ensurepip")  # setuptools in the service's own Python is torch's
    for python, names in (("python", installers), ("/usr/local/bin/python3", (*installers, "setuptools"))):
        done = server.exec(python, "-c", find, *names)
        assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr


def test_every_package_of_the_image_is_pinned(server):
    """Names and versions are those of constraints.txt, none more."""
    code = "import importlib.metadata as m; print(*(f'{d.name}=={d.version}' for d in m.distributions()), sep='\\n')"
    found = {
        line.partition("+")[0].lower().replace("_", "-") for line in server.exec("python", "-c", code).stdout.split()
    }
    pinned = {f"{pin.name}=={pin.version}" for pin in locked()}
    assert {line for line in found if not line.startswith("elbound==")} <= pinned
    assert {"torch", "cryptography", "uvicorn"} <= {line.partition("==")[0] for line in found}


def test_the_image_says_what_it_was_built_from(image, labels):
    assert labels.items() <= image.labels.items()
    assert image.labels["licenses"] == "Apache-2.0"


def test_make_labels_it_so(labels):
    asked = ["make", "--dry-run", "image", "ENGINE=engine", "SOURCE=https://git.example.com/elbound"]
    recipe = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert set(re.findall(rf"--label {OCI}\.(\w+)=", recipe)) == labels.keys()


def test_a_signed_bundle_is_asked_for_and_served(image, bundle, items, tmp_path):
    tmp_path.chmod(0o755)
    write_signing_key(tmp_path / "release.key")
    signed = shutil.copytree(bundle, tmp_path / "signed")
    mounted = ("-v", f"{tmp_path}/release.key.pub:/keys.pem:ro,z")
    settings = (*INSECURE, "-e", "ELBOUND_REQUIRE_SIGNATURE=1", "-e", "ELBOUND_TRUSTED_KEYS_FILE=/keys.pem")
    refused = image.run(options=("-v", f"{signed}:/bundles/model:ro,z", *mounted, *settings))
    assert (refused.returncode, "is not signed" in refused.stderr) == (1, True), refused.stderr
    sign_bundle(signed, read_signing_key(tmp_path / "release.key"))
    with image.serve(signed, *mounted, *settings) as container:
        assert post_rows(container.url, items).status_code == 200


def test_torch_is_the_cpu_build(server):
    done = server.exec("python", "-c", "import torch; print(torch.version.cuda)")
    assert done.stdout.strip() == "None", done.stderr


def test_the_server_is_not_root_and_has_no_capabilities(server):
    read = server.exec("python", "-c", "print(open('/proc/1/status').read())").stdout
    status = {key: value.split() for key, _, value in (line.partition(":") for line in read.splitlines())}
    assert status["Uid"] == ["10001"] * 4
    assert status["Gid"] == ["10001"] * 4
    assert {int(status[kind][0], 16) for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
    assert status["NoNewPrivs"] == ["1"]


@pytest.mark.parametrize("folder", ["/", "/opt/elbound", "/bundles", "/bundles/model", "/var/tmp", "/run"])
def test_nothing_but_tmp_can_be_written(server, folder):
    assert server.exec("python", "-c", f"open('{folder}/x', 'w')").returncode != 0
    assert server.exec("python", "-c", "open('/tmp/x', 'w')").returncode == 0


def test_the_health_check_tells_a_server_from_none(server, image):
    done = server.exec(*image.health_check)
    assert done.returncode == 0, done.stderr
    assert server.exec(*image.health_check, options=("-e", "http_proxy=http://127.0.0.1:9")).returncode == 0
    assert server.exec(*image.health_check, options=("-e", "ELBOUND_PORT=9")).returncode != 0


def test_settings_move_the_server_and_its_health_check(image, bundle):
    with image.serve(bundle, "-e", "ELBOUND_PORT=9000", *INSECURE, port=9000) as container:
        assert container.exec(*image.health_check).returncode == 0


def test_without_keys_it_does_not_serve_everybody(image, bundle):
    done = image.run(options=("-v", f"{bundle}:/bundles/model:ro,z"))
    assert done.returncode == 1
    assert "without keys the server listens on loopback only" in done.stderr


def test_with_a_key_a_request_needs_it(image, bundle, items, tmp_path):
    tmp_path.chmod(0o777)  # the container's user is nobody here
    mounted = ("-v", f"{tmp_path}:/secrets:z", "-e", "ELBOUND_API_KEYS_FILE=/secrets/keys.json")
    made = image.run("keys", "new", "--name", "me", "--scope", "score", options=mounted)
    assert made.returncode == 0, made.stdout + made.stderr
    key = made.stdout.strip()
    with image.serve(bundle, *mounted) as container:
        refused = post_rows(container.url, items)
        assert refused.status_code == 401
        assert refused.json()["error"]["where"] == "authorization"
        assert post_rows(container.url, items, headers={"Authorization": "Bearer wrong"}).status_code == 401
        assert post_rows(container.url, items, headers={"Authorization": f"Bearer {key}"}).status_code == 200


def test_a_stopping_server_finishes_what_it_accepted(image, bundle, items):
    body = json.dumps({"rows": items.to_pylist()}).encode()
    with image.serve(bundle) as container:
        started = time.monotonic()
        half_sent = http.client.HTTPConnection(httpx.URL(container.url).netloc.decode(), timeout=60)
        half_sent.putrequest("POST", "/score")
        half_sent.putheader("Content-Type", "application/json")
        half_sent.putheader("Content-Length", str(len(body)))
        half_sent.endheaders(body[:1000])
        time.sleep(1)
        statuses = []
        stopping = threading.Thread(target=lambda: statuses.append(container.stop()))
        stopping.start()
        time.sleep(2)
        assert stopping.is_alive()
        half_sent.send(body[1000:])
        answer = half_sent.getresponse()
        assert answer.status == 200
        assert len(json.loads(answer.read())["items"]) == items.num_rows
        half_sent.close()
        stopping.join()
        assert time.monotonic() - started < 15
        assert statuses[0] in (0, 143)  # 143 where an init process passes the signal on
