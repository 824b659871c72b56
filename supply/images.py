"""Say which container images of the Dockerfile and of deploy/ have no digest; with --renew, ask the registries for it.

    python -m supply.images [--renew]

A tag can be moved to another image, a digest cannot: `python:3.11-slim-bookworm@sha256:...`. The tag stays in the line,
so that a reader sees the version and `--renew` knows what to ask for. skopeo or docker's buildx asks the registries.
"""

import argparse
import hashlib
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parents[1]
OWN = "elbound"
"""The image that the Dockerfile makes: it has no digest before it is built."""
LINE = re.compile(r"""^(?:ARG \w+_IMAGE=|FROM |\s*(?:- )?image: ["']?)(?P<image>[\w./:@-]+)""", re.MULTILINE)
SECONDS = 60


@dataclass(frozen=True)
class Image:
    """An image as a file names it: `tag` is the name with its tag, `digest` is empty where the file has none."""

    file: Path
    tag: str
    digest: str

    def __str__(self) -> str:
        return f"{self.tag}@{self.digest}" if self.digest else self.tag


def files(folder: Path) -> list[Path]:
    return [folder / "Dockerfile", *sorted((folder / "deploy").rglob("*.y*ml"))]


def images(file: Path) -> Iterator[Image]:
    """The images of others that a Dockerfile or a manifest names, those that a variable names left out."""
    text = file.read_text()
    stages = set(re.findall(r"^FROM \S+ AS (\w+)", text, re.MULTILINE))
    for match in LINE.finditer(text):
        tag, _, digest = match["image"].partition("@")
        if tag not in stages and tag.partition(":")[0] != OWN:
            yield Image(file, tag, digest)


def digest_of(tag: str) -> str:
    """The digest that a registry has for this tag now: of the list of platforms where there is one.

    Raises LookupError where no program can ask, or the registry does not answer.
    """
    if shutil.which("skopeo"):
        # The digest is the hash of the manifest's bytes, so it is computed from what came, not read from it.
        manifest = asked("skopeo", "inspect", "--raw", f"docker://{full_name(tag)}")
        return f"sha256:{hashlib.sha256(manifest).hexdigest()}"
    if shutil.which("docker"):
        answer = asked("docker", "buildx", "imagetools", "inspect", "--format", "{{.Manifest.Digest}}", tag).decode()
        if not re.fullmatch(r"sha256:[0-9a-f]{64}", answer.strip()):
            raise LookupError(f"docker answered {answer.strip()!r} for {tag}, which is no digest")
        return answer.strip()
    raise LookupError("neither skopeo nor docker, which ask registries, is installed")


def full_name(tag: str) -> str:
    """The name with its registry: docker.io and library/ where it names none."""
    first, slash, _ = tag.partition("/")
    if slash and (first == "localhost" or "." in first or ":" in first):
        return tag
    return f"docker.io/{tag if slash else 'library/' + tag}"


def asked(*command: str) -> bytes:
    try:
        done = subprocess.run(command, capture_output=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise LookupError(f"{command[0]} had no answer for {command[-1]} after {SECONDS} s") from error
    if done.returncode:
        raise LookupError(f"{' '.join(command)}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


def renew(folder: Path) -> None:
    """Write the digest that each tag has now into the files: all of them, or none where a registry does not answer."""
    found = [image for file in files(folder) for image in images(file)]
    digests = {tag: digest_of(tag) for tag in dict.fromkeys(image.tag for image in found)}
    for image in found:
        new = Image(image.file, image.tag, digests[image.tag])
        if new != image:
            image.file.write_text(re.sub(rf"{re.escape(str(image))}(?![\w@.-])", str(new), image.file.read_text()))
            print(f"{image.file.relative_to(folder)}: {image} is now {new.digest}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--renew", action="store_true", help="write the digests that the tags have now")
    try:
        if parser.parse_args().renew:
            renew(FOLDER)
    except LookupError as error:
        sys.exit(f"No digest was changed. {error}")
    without = [image for file in files(FOLDER) for image in images(file) if not image.digest]
    for image in without:
        print(f"{image.file.relative_to(FOLDER)}: {image.tag} has no digest: `make renew-base` writes it")
    sys.exit(bool(without))


if __name__ == "__main__":
    main()
