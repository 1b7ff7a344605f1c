"""YCbCr that is not JPEG: brightness for every pixel and two colours for several, as TIFF 6.0 packs them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deblur_cli.imaging.samples import Samples

REC_601 = (0.299, 0.587, 0.114)
FULL_RANGE = (0.0, 255.0, 128.0, 255.0, 128.0, 255.0)


@dataclass(frozen=True)
class YCbCr:
    """How brightness and colours are packed: one pair of colours for `across` × `down` pixels (TIFF 6.0, section 21).

    `luma` are the weights of red, green and blue, `reference` black and white of each channel.
    """

    across: int = 1
    down: int = 1
    luma: tuple[float, ...] = REC_601
    reference: tuple[float, ...] = FULL_RANGE

    @property
    def unit_bytes(self) -> int:
        """Bytes of one pair of colours and the pixels that share it."""
        return self.across * self.down + 2

    def row_bytes(self, columns: int) -> int:
        """Returns the bytes of `down` rows."""
        return -(-columns // self.across) * self.unit_bytes

    def to_rgb(self, content: bytes | memoryview, rows: int, columns: int) -> Samples:
        """Returns the RGB samples (rows, columns, 3) uint8 of a strip or tile."""
        high, wide = -(-rows // self.down), -(-columns // self.across)
        units = np.frombuffer(content, np.uint8).reshape(high, wide, self.unit_bytes).astype(np.float32)
        brightness = units[..., :-2].reshape(high, wide, self.down, self.across).transpose(0, 2, 1, 3)
        y = brightness.reshape(high * self.down, wide * self.across)
        cb, cr = (units[..., at].repeat(self.down, axis=0).repeat(self.across, axis=1) for at in (-2, -1))
        low, white, cb_grey, cb_top, cr_grey, cr_top = self.reference
        red, green, blue = self.luma
        y = (y - low) * (255 / (white - low))
        cb = (cb - cb_grey) * (127 / (cb_top - cb_grey))
        cr = (cr - cr_grey) * (127 / (cr_top - cr_grey))
        r = y + (2 - 2 * red) * cr
        b = y + (2 - 2 * blue) * cb
        g = (y - red * r - blue * b) / green
        rgb = np.clip(np.rint(np.stack([r, g, b], axis=-1)), 0, 255)
        samples: Samples = rgb.astype(np.uint8)[:rows, :columns]
        return samples
