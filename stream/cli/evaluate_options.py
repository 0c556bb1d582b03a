"""What goes together on the command line of `overdraw evaluate`."""

from __future__ import annotations

from collections.abc import Collection

NAB, CAMPAIGNS, CI = "nab", "campaigns", "ci"
PER_KEY = ("synthetic", "servegen", CI)
SUITES_OF = {
    "--dial": PER_KEY[:2],
    "--against": PER_KEY,
    "--vary": PER_KEY,
    "--caution": PER_KEY,
    "--calibrated": PER_KEY[:1],
    "--floors": (CI,),
    "--worlds": (CAMPAIGNS,),
    "--data": ("servegen", NAB),
}
"""Options that not every suite has; what a world is made of, suites themselves say."""
OF_NAB = ("--suite", "--data", "--json")
WHY = {
    (CI, "--dial"): "it has a dial of its own, so that its floors mean something",
    (CAMPAIGNS, "--dial"): "it has a dial of its own, --set false_alerts_per_1000_group_days=X",
    ("servegen", "--calibrated"): "there are no other clients that nothing was tuned on",
}
APART = (
    ("--vary", ("--dial", "--against", "--floors", "--caution", "--calibrated")),
    ("--caution", ("--floors", "--calibrated")),
)
"""What varies runs the worlds once for each of its values; floors are those of the detector as it is."""
KNOBS = (
    "false_alerts_per_1000_key_days", "false_pages_per_week", "min_excess_tokens", "min_calls", "accept_days",
    "allowed_lateness_seconds", "timezone", "holidays_file", "priors_file",
)  # fmt: skip
"""Settings that decide what is found of a single key, whose worlds have one length of buckets."""


def refusal(suite: str, given: Collection[str]) -> str | None:
    """Why a suite cannot be run with the options that were given, and what to do; None if it can.

    >>> refusal("ci", ["--suite", "--dial"])
    '--dial is not for the suite ci: it has a dial of its own, so that its floors mean something'
    >>> refusal("synthetic", ["--vary", "--floors"])
    '--floors is for the suite ci'
    """
    if suite == NAB and (others := [option for option in given if option not in OF_NAB]):
        return f"{others[0]} is not for the suite nab, which is what it is: it takes --data and --json"
    for option in given:
        suites = SUITES_OF.get(option, (suite,))
        if suite in suites:
            continue
        if why := WHY.get((suite, option)):
            return f"{option} is not for the suite {suite}: {why}"
        return f"{option} is for the suite{'s' * (len(suites) > 1)} {', '.join(suites)}"
    for option, without in APART:
        for other in without:
            if option in given and other in given:
                return f"{option} and {other} do not go together: leave one of them out"
    return None
