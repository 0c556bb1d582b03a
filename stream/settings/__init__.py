"""Settings: defaults < overdraw.toml < OVERDRAW_* < flags; unknown names and bad values are errors.

Every setting stands in `model.Settings`, with which of them fit together. Beside it lives what a value may be
(`values`), the small files that some of them name (`files`), and where they come from (`sources`).
"""

from __future__ import annotations

from stream.settings.files import MAX_PRIORS_BYTES, text_of
from stream.settings.model import DECIDING, Settings
from stream.settings.sources import CONFIG_FILE, PREFIX, SettingsError, load_settings
from stream.settings.values import IntakeFormat

__all__ = [
    "CONFIG_FILE",
    "DECIDING",
    "MAX_PRIORS_BYTES",
    "PREFIX",
    "IntakeFormat",
    "Settings",
    "SettingsError",
    "load_settings",
    "text_of",
]
