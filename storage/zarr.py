"""The readers and writers of Zarr by their public names; importing this imports zarr-python."""

from chunkarr.storage.zarr_store import ZarrStore
from chunkarr.storage.zarr_target import ZarrTarget

__all__ = ["ZarrStore", "ZarrTarget"]
