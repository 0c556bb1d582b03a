"""What a replay found as one HTML page, to be passed on: what is said (`page`), of one incident (`incident`), its look.

Pure: texts from values, no file and no clock. Whatever came with the records is untrusted, and goes through `markup`.
"""

from __future__ import annotations

from stream.lab.report.page import Found, page_of

__all__ = ["Found", "page_of"]
