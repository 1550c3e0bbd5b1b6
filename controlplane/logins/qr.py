"""An address as a picture, made here: no service elsewhere gets to see it."""

from __future__ import annotations

import base64
from io import BytesIO

import qrcode
from qrcode.image.svg import SvgPathImage


def qr_data_uri(url: str) -> str:
    image = qrcode.make(url, image_factory=SvgPathImage, border=2)
    buffer = BytesIO()
    image.save(buffer)
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()
