"""The bundle: what training writes and the service loads. The format is specified in `docs/bundle.md`."""

from elbound.bundle.files import (
    BundleContent,
    check_bundle,
    check_target,
    load_bundle,
    read_checked,
    replace_file,
    save_bundle,
    sign_bundle,
)
from elbound.bundle.manifest import Manifest, TrainingRecord

__all__ = [
    "BundleContent", "Manifest", "TrainingRecord", "check_bundle", "check_target", "load_bundle", "read_checked",
    "replace_file", "save_bundle", "sign_bundle",
]  # fmt: skip
