"""What is installed is pinned by hash, base images by digest, and each tool says what it could not do."""

import hashlib
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from supply import audit, images, newest, pins, torch_cpu

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = list(PROJECT["optional-dependencies"])
INDEX = "sha256:" + hashlib.sha256(b'{"manifests": []}').hexdigest()


def exact(file: str) -> dict[str, str]:
    """The versions of a file that has nothing but exact versions."""
    lines = [line for line in (ROOT / file).read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line) for line in lines), file
    return {str(canonicalize_name(line.partition("==")[0])): line.partition("==")[2] for line in lines}


def requirements(*extras: str) -> list[str]:
    return PROJECT["dependencies"] + [one for extra in extras for one in PROJECT["optional-dependencies"][extra]]


def needed(texts: list[str]) -> set[str]:
    """The names of these requirements and of what they need in turn, as far as pinned versions are installed here."""
    pinned = {(pin.name, pin.version) for pin in pins.locked()}
    found: set[str] = set()
    waiting = [Requirement(text) for text in texts]
    while waiting:
        one = waiting.pop()
        name = str(canonicalize_name(one.name))
        key = f"{name}[{','.join(sorted(one.extras))}]"
        if key in found or not applies(one, set()):
            continue
        if name == "elbound":
            waiting += [Requirement(text) for extra in one.extras for text in PROJECT["optional-dependencies"][extra]]
            continue
        found.add(key)
        try:
            installed = distribution(name)
        except PackageNotFoundError:
            continue
        if (name, installed.version.partition("+")[0]) in pinned:
            below = [Requirement(text) for text in installed.requires or []]
            waiting += [requirement for requirement in below if applies(requirement, one.extras)]
    return {key.partition("[")[0] for key in found}


def applies(one: Requirement, extras: set[str]) -> bool:
    return one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in (extras or {""}))


def test_all_that_the_project_names_is_pinned_within_its_ranges() -> None:
    versions = {pin.name: pin.version for pin in pins.locked()}
    for text in requirements(*EXTRAS):
        one = Requirement(text)
        if one.name != "elbound":
            assert one.specifier.contains(versions[canonicalize_name(one.name)]), text


@pytest.mark.parametrize("extras", [(), *((extra,) for extra in EXTRAS)], ids="-".join)
def test_the_pins_of_an_extra_are_what_its_packages_say_they_need(extras: tuple[str, ...]) -> None:
    """The lines "# via" of constraints.txt say the same as the metadata of what is installed here."""
    chosen = pins.needed(pins.locked(), pins.roots(pins.project(), extras), cuda=False)
    cuda = {name for name in needed(requirements(*extras)) if name.startswith(pins.CUDA)}
    assert needed(requirements(*extras)) - cuda - {"torch"} <= {pin.name for pin in chosen}
    assert not any(pin.name.startswith(pins.CUDA) or pin.name == "torch" for pin in chosen)


def test_serving_needs_a_fraction_of_what_is_pinned_and_a_gpu_needs_more() -> None:
    locked, roots = pins.locked(), pins.roots(pins.project(), ())
    cpu = {pin.name for pin in pins.needed(locked, roots, cuda=False)}
    cuda = {pin.name for pin in pins.needed(locked, roots, cuda=True)}
    assert not {"pytest", "scikit-learn", "adlfs", "ray"} & cuda
    assert "torch" in cuda - cpu
    assert all(name == "torch" or name.startswith(pins.CUDA) for name in cuda - cpu)


def test_an_extra_or_a_package_that_is_not_there_is_named() -> None:
    with pytest.raises(ValueError, match=r"no extra 'gpu'. It has bench, dev"):
        pins.roots(pins.project(), ["gpu"])
    with pytest.raises(ValueError, match=r"does not pin leftpad. `make lock` adds it"):
        pins.needed(pins.locked(), {"leftpad"}, cuda=False)
    with pytest.raises(ValueError, match="'a==1' has no hash"):
        pins.read("# made by hand\na==1\n    # via elbound (pyproject.toml)\n")


def test_pip_takes_a_file_by_its_hash_alone(tmp_path: Path) -> None:
    """From a folder of one's own: the file whose hash is pinned, and no other of the same name and version."""
    links, source = tmp_path / "links", tmp_path / "source"
    links.mkdir()
    source.mkdir()
    (source / "setup.py").write_text("from setuptools import setup\nsetup(name='leaf', version='1', py_modules=[])\n")
    pip = [sys.executable, "-m", "pip", "--isolated", "--disable-pip-version-check"]
    wheel = [*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(links), str(source)]
    subprocess.run(wheel, capture_output=True, check=True)
    hashed = hashlib.sha256(next(links.iterdir()).read_bytes()).hexdigest()
    entry = f"leaf==1 \\\n    --hash=sha256:{hashed}\n    # via elbound (pyproject.toml)\n"
    for text, taken in ((entry, True), (entry.replace(hashed, "0" * 64), False)):
        (tmp_path / "pins.txt").write_text(pins.read(text)[0].text)
        offline = ["--no-index", f"--find-links={links}", "--target", str(tmp_path / "into")]
        install = [*pip, "install", *offline, "--require-hashes", "-r", str(tmp_path / "pins.txt")]
        done = subprocess.run(install, capture_output=True, text=True, check=False)
        assert (done.returncode == 0) == taken, done.stderr
        assert taken or "DO NOT MATCH THE HASHES" in done.stderr


def test_the_cpu_build_of_torch_is_pinned_in_the_locked_version() -> None:
    (pin,) = pins.read((ROOT / "torch-cpu.txt").read_text())
    assert pin.requirement == f"torch=={next(one.version for one in pins.locked() if one.name == 'torch')}"


@pytest.fixture
def torch_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A page that lists wheels of torch 2.13.0 and others, and a copy of constraints.txt that a test may change."""
    version = next(one.version for one in pins.locked() if one.name == "torch")
    names = (f"{version}%2Bcpu-cp311-cp311-linux", f"{version}-cp312-none-macosx", f"{version}%2Bcpu-cp310-cp310-linux")
    page = tmp_path / "page.html"
    links = [
        f'<a href="/whl/torch-{name}.whl#sha256={i:064x}">' for i, name in enumerate((*names, "1.0-cp311-cp311-x"))
    ]
    page.write_text("\n".join(links))
    (tmp_path / "constraints.txt").write_bytes((ROOT / "constraints.txt").read_bytes())
    monkeypatch.setattr(pins, "FOLDER", tmp_path)
    monkeypatch.setattr(torch_cpu, "FILE", tmp_path / "torch-cpu.txt")
    return page


def test_the_hashes_of_torch_are_those_of_its_own_index(torch_page: Path) -> None:
    torch_cpu.main(torch_page.as_uri())
    (pin,) = pins.read(torch_cpu.FILE.read_text())
    assert re.findall("sha256:0*([0-9a-f])", pin.text) == ["0", "1"]  # neither Python 3.10 nor torch 1.0


def test_an_index_of_torch_that_does_not_answer_changes_nothing(
    torch_page: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch_cpu.main(torch_page.as_uri())
    before = torch_cpu.FILE.read_text()
    absent = torch_page.with_name("absent").as_uri()
    torch_cpu.main(absent)
    assert "stays as it is" in capsys.readouterr().out
    assert torch_cpu.FILE.read_text() == before
    torch_cpu.FILE.write_text(before.replace("torch==", "torch==1."))
    with pytest.raises(SystemExit, match="is not for torch"):
        torch_cpu.main(absent)


def test_every_image_of_others_has_a_digest() -> None:
    found = [image for file in images.files(ROOT) for image in images.images(file)]
    assert {image.tag.partition(":")[0] for image in found} == {"python", "prom/prometheus", "grafana/grafana"}
    assert [str(image) for image in found if not re.fullmatch("sha256:[0-9a-f]{64}", image.digest)] == []


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Dockerfile and a manifest that name images of others, the own one, a stage and a variable."""
    (tmp_path / "deploy").mkdir()
    (tmp_path / "Dockerfile").write_text(
        f"ARG PYTHON_IMAGE=python:3.11@sha256:{'0' * 64}\nFROM ${{PYTHON_IMAGE}} AS base\nFROM base\nFROM debian:12\n"
    )
    (tmp_path / "deploy" / "compose.yaml").write_text(
        'a:\n  image: elbound\nb:\n  - image: "prom/prometheus:v3"  # keep\n'
    )
    monkeypatch.setattr(images, "FOLDER", tmp_path)
    return tmp_path


@pytest.fixture
def skopeo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """A program of that name which runs a line of shell, first on the PATH."""

    def write(line: str) -> None:
        program = tmp_path / "bin" / "skopeo"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f'#!/bin/sh\nlast() {{ for one; do :; done; echo "$one"; }}\n{line}\n')
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")

    return write


def test_renewing_writes_what_the_registry_has(
    checkout: Path, skopeo: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    skopeo(f"""last "$@" >> {checkout}/asked; printf '{{"manifests": []}}'""")
    monkeypatch.setattr(sys, "argv", ["images", "--renew"])
    with pytest.raises(SystemExit) as ended:
        images.main()
    assert ended.value.code == 0
    assert (checkout / "Dockerfile").read_text() == (
        f"ARG PYTHON_IMAGE=python:3.11@{INDEX}\nFROM ${{PYTHON_IMAGE}} AS base\nFROM base\nFROM debian:12@{INDEX}\n"
    )
    compose = f'a:\n  image: elbound\nb:\n  - image: "prom/prometheus:v3@{INDEX}"  # keep\n'
    assert (checkout / "deploy" / "compose.yaml").read_text() == compose
    asked = ["library/python:3.11", "library/debian:12", "prom/prometheus:v3"]
    assert (checkout / "asked").read_text().split() == [f"docker://docker.io/{tag}" for tag in asked]
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_a_registry_that_does_not_answer_changes_no_file(
    checkout: Path, skopeo: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    skopeo("case \"$(last \"$@\")\" in *prom*) echo 'no such host' >&2; exit 1;; esac; printf '{}'")
    before = [file.read_text() for file in images.files(checkout)]
    monkeypatch.setattr(sys, "argv", ["images", "--renew"])
    with pytest.raises(SystemExit, match=r"No digest was changed. skopeo .*: no such host"):
        images.main()
    assert [file.read_text() for file in images.files(checkout)] == before


def test_images_without_a_digest_are_named_and_fail_the_check(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["images"])
    with pytest.raises(SystemExit) as ended:
        images.main()
    assert ended.value.code == 1
    assert capsys.readouterr().out.splitlines() == [
        "Dockerfile: debian:12 has no digest: `make renew-base` writes it",
        "deploy/compose.yaml: prom/prometheus:v3 has no digest: `make renew-base` writes it",
    ]


def test_names_get_their_registry() -> None:
    names = ("python:3", "prom/prometheus:v3", "ghcr.io/a/b:1", "localhost/a:1")
    assert [images.full_name(name) for name in names] == [
        "docker.io/library/python:3", "docker.io/prom/prometheus:v3", "ghcr.io/a/b:1", "localhost/a:1"
    ]  # fmt: skip


def test_an_audit_says_what_it_found() -> None:
    hole = {"id": "PYSEC-1", "fix_versions": ["2.1", "3.0"]}
    good, bad = {"name": "a", "version": "1", "vulns": []}, {"name": "b", "version": "2", "vulns": [hole]}
    untold = {"name": "c", "skip_reason": "not found"}
    assert audit.summary([good]) == (
        ["audit passed: none of 1 packages that were asked about have known vulnerabilities"],
        False,
    )
    lines, vulnerable = audit.summary([good, bad, untold])
    assert vulnerable
    assert lines == [
        "audit failed: 1 of 2 packages that were asked about have known vulnerabilities",
        "b 2: PYSEC-1, mended in 2.1 or 3.0",
        "not audited, since the package index says nothing about them: c",
    ]


def test_an_audit_that_asked_about_nothing_has_not_passed() -> None:
    lines, vulnerable = audit.summary([{"name": "c", "skip_reason": "not found"}])
    assert (lines, vulnerable) == (
        ["audit skipped: the package index says nothing about vulnerabilities of any of 1 packages"], False
    )  # fmt: skip


@pytest.mark.parametrize(
    ("ends", "says"),
    [
        (
            "raise SystemExit('requests.exceptions.ConnectionError: refused')",
            "audit skipped: the package index does not",
        ),
        ("raise SystemExit('unknown option')", "audit failed: pip-audit ended with 1 and no report. unknown option"),
    ],
)
def test_an_audit_is_skipped_offline_and_fails_otherwise(ends: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "pip_audit.py").write_text(ends)
    done = subprocess.run(
        [sys.executable, "-m", "supply.audit"],
        cwd=ROOT,
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert (done.stdout + done.stderr).startswith(says)
    assert (done.returncode == 0) == says.startswith("audit skipped")


def test_a_python_that_does_not_start_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shim = tmp_path / "python3.99"
    shim.write_text("#!/bin/sh\nexit 127\n")
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    assert newest.interpreter("3.99") is None
    own = tmp_path / "pyenv" / "versions" / "3.99.1" / "bin" / "python3.99"
    own.parent.mkdir(parents=True)
    own.write_text("#!/bin/sh\nexit 0\n")
    own.chmod(0o755)
    assert newest.interpreter("3.99") == str(own)


def test_where_no_python_is_there_nothing_was_tested(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["newest", "3.99"])
    with pytest.raises(SystemExit) as ended:
        newest.main()
    assert ended.value.code == 1
    assert capsys.readouterr().out.splitlines() == ["Python 3.99: not installed", "Python 3.99: skipped"]


def test_what_makes_the_bill_of_materials_is_pinned() -> None:
    assert "cyclonedx-bom" in exact(".ci/sbom.txt")
