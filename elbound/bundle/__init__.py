"""The bundle: what training writes and the service loads. The format is specified in `docs/bundle.md`."""

from elbound.bundle.files import BundleContent, check_target, load_bundle, replace_file, save_bundle
from elbound.bundle.manifest import Manifest, TrainingRecord

__all__ = ["BundleContent", "Manifest", "TrainingRecord", "check_target", "load_bundle", "replace_file", "save_bundle"]
