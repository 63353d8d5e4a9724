"""Real images from their publisher, fetched once when somebody asks for them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from napari_cellclf.errors import InputError
from napari_cellclf.io.cache import cache_folder
from napari_cellclf.io.remote.checksum import Checksum
from napari_cellclf.io.remote.fetch import fetch_file
from napari_cellclf.io.remote.source import Rules

#: The publisher's public bucket (https://www.rxrx.ai/rxrx1).
RXRX1_URL = "https://storage.googleapis.com/rxrx1-us-central1/images/train"

# The largest of them has 0.2 MB.
_MAX_BYTES = 1 << 20

#: SHA-256 of the six files w1 to w6 of plate 1, well B02, site 1 of each cell type's first
#: experiment.
RXRX1_SHA256: Mapping[str, tuple[str, ...]] = {
    "HEPG2": (
        "c7a41aca3ff93cb3010aafca50143b3e95417284813591e63797d1cd899f0029",
        "d9af7b968b33c01f23e9c9850079390de131cde4f8f9051dbd33b205badd40bb",
        "5dd7e24e0179621f6a46fe8d5d1d4ef4955ce460471943a45c398eaf805435f3",
        "975506fca125ac3712fd54ade8a76afbf19e38b2c00f6d2de54c3c204fd79c72",
        "54b0b02f1539654fe7599d77b838ffc8110a426de285625c6159bac5374e9415",
        "a71e5c1b70d9efd9c81eb197a87948b3477405a306097ad17ff8e5975709cf6e",
    ),
    "HUVEC": (
        "ad3b8eac243f9332f5cdff12edef4a38b04c31a537024b0af7417cb00c48ebbd",
        "e6cbf9fc4740942065f9e960399362c62d121f8ce4e61919ba082480eaa6646f",
        "9da0bfdaf6f66b5704dbbc17fb8e5c9a9a28053da1f53d3e7c6c16e4eadbd1d9",
        "61cc0f62726a9ac4a3428c6e4cae525614f47337e7e04da3e4aa859863206f11",
        "c02867b6de3f78262f311072211a331383896bd9d2fdbef319fd00d64fb9f6cd",
        "5dfab9a47fa0da023b0ba5bf722ed68a20cde43be80a79ec3eb8c14fd06a3747",
    ),
    "RPE": (
        "15bf7503b699842813c742d32778d556f731882cc73c7835c60e1713d01aebdc",
        "b8bf1a0bf8969f3c50e8af7e2b7a1c073e55e17acf1ae9b176cb0d9fd907317e",
        "ac54ef4c77731029245ffffed1fe9f6dad38cc965b37a800312ec0c057b2a3b7",
        "64c50c62b2902bf6d9ae60f5a18b313277a1255872a826e26c5331047dab29fc",
        "f5a547df9ab2815db3c1877d3d8a114d46a8d6d2c240b4102681741a511ecf31",
        "af06a69f77a3889c72dd83b12b09168f50739aa5cc8d8ff6ce93a4bce5c37eb7",
    ),
    "U2OS": (
        "6c43b614b151962841e26b4af745093bdb6fb8597ae756cc75f1faabc9121a7f",
        "7d1c64b8f71959f72b24b1ea5964e93a97f2bbdb3d5b746571edbc3f3dd0edab",
        "4dc092f0a453019bc8e8c7334195a406c1674ca107535dbbf4c87d2e8c28d81b",
        "b7c5166a0a9a07285304e77502cab91e3157608102aa3986b1c3aa43c424c1d5",
        "3df763dfa308dc5e531acae7d9d4667f5623a89497ffd2e899e4021d7a135c5d",
        "a75c371b62f3f917afae30e0d28baf762bec7062eaa47d3bf22c04842f35c93b",
    ),
}


def fetch_rxrx1_site(
    cell_type: str = "HUVEC",
    *,
    base_url: str = RXRX1_URL,
    folder: Path | None = None,
    rules: Rules | None = None,
) -> list[Path]:
    """Fetch one untreated RxRx1 site: six stains, 512x512 pixels, 8 bits, 0.9 MB.

    The images are those of RxRx1 (Recursion, https://www.rxrx.ai/rxrx1), licence
    CC BY-NC-SA 4.0: not for commercial use.
    """
    if cell_type not in RXRX1_SHA256:
        raise InputError(
            f"there is no RxRx1 cell type {cell_type!r}; use one of {', '.join(RXRX1_SHA256)}"
        )
    plate = f"{cell_type}-01/Plate1"
    kept = cache_folder() / "rxrx1" if folder is None else folder
    return [
        fetch_file(
            f"{base_url.rstrip('/')}/{plate}/B02_s1_w{channel}.png",
            kept / plate,
            checksum=Checksum("sha256", digest),
            max_bytes=_MAX_BYTES,
            rules=rules,
        )
        for channel, digest in enumerate(RXRX1_SHA256[cell_type], start=1)
    ]
