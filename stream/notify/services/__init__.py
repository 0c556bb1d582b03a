"""One module a service.

To add one: a module, its line in `NOTIFIERS`, its model in `config`; the contract suite takes it up.
"""

from __future__ import annotations

from typing import Any

from stream.notify.config import NotifyConfig, Secrets
from stream.notify.service import Notifier
from stream.notify.services.alertmanager import Alertmanager
from stream.notify.services.pagerduty import PagerDuty
from stream.notify.services.slack import Slack
from stream.notify.services.webhook import Webhook

NOTIFIERS: dict[str, type[Any]] = {
    "alertmanager": Alertmanager,
    "pagerduty": PagerDuty,
    "slack": Slack,
    "webhook": Webhook,
}


def notifier_of(config: NotifyConfig, name: str, secrets: Secrets) -> Notifier:
    """The notifier of this name in the file, with its secrets."""
    chosen = config.notifiers[name]
    made: Notifier = NOTIFIERS[chosen.type](chosen, secrets)
    return made
