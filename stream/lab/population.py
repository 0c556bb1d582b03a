"""Who calls: the keys of a simulated installation, their habits, their organisations, networks, clients and models."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from stream.lab.parameters import RENEWAL_GAMMA_SHARE, Floats, Ints, Profile

MODELS = (
    # name, dollars per million input and output tokens, share of keys, part of the output that is reasoning
    ("atlas-large", 3.00, 15.00, 0.30, 0.0),
    ("atlas-small", 0.25, 1.25, 0.45, 0.0),
    ("atlas-reason", 2.00, 8.00, 0.20, 0.7),
    ("boreas-70b", 0.60, 0.60, 0.05, 0.0),
)
LIMITS = np.array([256, 512, 1024, 2048, 4096, 8192, 16_384, 32_768])
"""`max_output_tokens` that callers set."""
MAX_INPUT_TOKENS = 200_000
USER_AGENTS = (
    "openai-python/1.93.0",
    "AsyncOpenAI/Python 1.91.0",
    "OpenAI/JS 5.8.2",
    "langchain/0.3.26 httpx/0.28.1",
    "LiteLLM/1.74.0",
    "anthropic-python/0.57.1",
    "python-requests/2.32.4",
    "axios/1.10.0",
    "Go-http-client/2.0",
    "okhttp/5.1.0",
    "curl/8.14.1",
    "node-fetch/3.3.2",
    "LlamaIndex/0.12.46",
    "aiohttp/3.12.14",
    "Java-http-client/21.0.7",
    "reqwest/0.12.22",
)
COUNTRIES = ("US", "DE", "GB", "FR", "NL", "IN", "JP", "SG", "BR", "CA", "PL", "SE")
# numbers and addresses set aside for documentation and benchmarks: a simulated attacker must be nobody
ASNS = (*range(64_496, 64_512), *range(65_536, 65_552))
LARGEST_SHARE = 0.08
"""No key makes more than this part of all calls: a run's cost and its sums must not hang on one draw."""
LEAST_CALLS_PER_DAY = 12.0


@dataclass(frozen=True, slots=True)
class Population:
    """Keys as columns: element k of every array is key k's. Rates are calls per second, times epoch seconds.

    Addresses stand in `addresses`; a key's are the `address_count` ones from `address_first` on, and so are its users
    and templates in number.
    """

    profile: Profile
    key_ids: tuple[str, ...]
    org_ids: tuple[str, ...]
    org: Ints
    rate: Floats
    cv: Floats
    weibull: NDArray[np.bool_]
    on_share: Floats
    on_seconds: Floats
    amplitude: Floats
    peak_hour: Floats
    weekend: Floats
    fast_sd: Floats
    slow_sd: Floats
    input_mu: Floats
    input_sd: Floats
    output_mu: Floats
    output_sd: Floats
    limit: Ints
    says_limit: NDArray[np.bool_]
    model: Ints
    user_agent: Ints
    address_first: Ints
    address_count: Ints
    users: Ints
    templates: Ints
    cached_share: Floats
    error_share: Floats
    born: Floats
    batch: NDArray[np.bool_]
    batch_start: Floats
    batch_seconds: Floats
    batch_weekday: Ints
    addresses: tuple[str, ...]
    address_asn: Ints
    address_country: tuple[str, ...]

    @property
    def size(self) -> int:
        """Number of keys."""
        return len(self.key_ids)

    def token_moments(self) -> tuple[tuple[Floats, Floats], tuple[Floats, Floats]]:
        """Mean and variance of a call's input tokens and of its output tokens, per key, limits included."""
        nodes = np.array([NormalDist().inv_cdf((i + 0.5) / 512) for i in range(512)])

        def moments(mu: Floats, sd: Floats, limit: Ints | int) -> tuple[Floats, Floats]:
            values = np.exp(mu[:, None] + sd[:, None] * nodes)
            values = np.minimum(np.maximum(values, 1.0), np.reshape(limit, (-1, 1)))
            return values.mean(axis=1), values.var(axis=1)

        return (
            moments(self.input_mu, self.input_sd, MAX_INPUT_TOKENS),
            moments(self.output_mu, self.output_sd, self.limit),
        )


def populate(profile: Profile, seed: int, keys: int, start: float, days: float, rate: float) -> Population:
    """Draw the keys of an installation that makes `rate` calls per second on the mean, all keys together."""
    rng = np.random.default_rng([seed, 0])
    org, org_ids = _organisations(rng, keys)
    orgs = len(org_ids)
    networks = rng.integers(1, 4, orgs)
    first_network = np.cumsum(networks) - networks
    total = int(networks.sum())
    popular = 1 / np.arange(1, len(ASNS) + 1)
    # an organisation sits in one autonomous system; its networks and hosts are its own
    org_asn = rng.choice(len(ASNS), orgs, p=popular / popular.sum())
    network_asn = np.repeat(org_asn, networks)
    hosts = rng.integers(1, 7, total)
    is_v6 = rng.random(total) < 0.2
    first_host = np.cumsum(hosts) - hosts
    addresses = tuple(_address(n, h, bool(is_v6[n])) for n in range(total) for h in range(hosts[n]))
    network_of = np.repeat(np.arange(total), hosts)
    network = first_network[org] + (rng.random(keys) * networks[org]).astype(np.int64)
    mu_out = rng.normal(*profile.output_mu, keys)
    sd_out = profile.output_sd.at(rng.random(keys))
    batch = rng.random(keys) < profile.batch_share
    batch_seconds = 600.0 * rng.integers(3, 15, keys).astype(np.float64)
    late = rng.random(keys) < profile.late_share
    born = np.where(late, start + rng.random(keys) * days * 86_400, start)
    clients = 1 / np.arange(1, len(USER_AGENTS) + 1)
    shares = np.array([share for *_, share, _ in MODELS])
    width = max(3, len(str(keys - 1)))
    return Population(
        profile=profile,
        key_ids=tuple(f"key-{k:0{width}d}" for k in range(keys)),
        org_ids=org_ids,
        org=org,
        rate=_rates(rng, profile.rate_sigma, 1 - (born - start) / (days * 86_400), rate),
        cv=profile.cv.at(rng.random(keys)),
        weibull=rng.random(keys) >= RENEWAL_GAMMA_SHARE,
        on_share=np.where(batch, 1.0, np.minimum(profile.on_share.at(rng.random(keys)), 1.0)),
        on_seconds=3600 * profile.on_hours * np.exp(rng.normal(0, 0.7, keys)),
        amplitude=np.where(batch, 0.0, profile.amplitude.at(rng.random(keys))),
        peak_hour=rng.normal(profile.peak_hour, profile.peak_hour_sd, keys),
        weekend=np.where(batch, 1.0, rng.uniform(*profile.weekend, keys)),
        fast_sd=profile.fast_sd.at(rng.random(keys)),
        slow_sd=profile.slow_sd.at(rng.random(keys)),
        input_mu=rng.normal(*profile.input_mu, keys),
        input_sd=profile.input_sd.at(rng.random(keys)),
        output_mu=mu_out,
        output_sd=sd_out,
        # the smallest limit that cuts few of the key's answers
        limit=LIMITS[np.minimum(np.searchsorted(LIMITS, np.exp(mu_out + 2 * sd_out)), len(LIMITS) - 1)],
        says_limit=rng.random(keys) < 0.6,
        model=rng.choice(len(MODELS), keys, p=shares / shares.sum()),
        user_agent=rng.choice(len(USER_AGENTS), orgs, p=clients / clients.sum())[org],
        address_first=first_host[network],
        address_count=hosts[network],
        users=rng.geometric(0.15, keys),
        templates=rng.integers(1, 6, keys),
        cached_share=np.where(rng.random(keys) < 0.3, rng.uniform(0.2, 0.9, keys), 0.0),
        error_share=rng.beta(1, 80, keys),
        born=born,
        batch=batch,
        batch_start=rng.uniform(0, 86_400 - batch_seconds),
        batch_seconds=batch_seconds,
        batch_weekday=np.where(rng.random(keys) < 0.25, rng.integers(0, 7, keys), -1),
        addresses=addresses,
        address_asn=np.array(ASNS)[network_asn[network_of]],
        address_country=tuple(COUNTRIES[a % len(COUNTRIES)] for a in network_asn[network_of]),
    )


def _rates(rng: np.random.Generator, sigma: float, lifetime: Floats, rate: float) -> Floats:
    """Lognormal mean rates, the largest and the least bounded; over their part of the run they add up to `rate`."""
    keys = len(lifetime)
    rates: Floats = np.exp(rng.normal(0, sigma, keys))
    most = max(LARGEST_SHARE, 2 / keys) * rate
    least = min(LEAST_CALLS_PER_DAY / 86_400, rate / keys)
    for _ in range(50):  # what is cut from the giants goes to the others
        rates = np.clip(rates * (rate / (rates * lifetime).sum()), least, most)
    return rates


def _organisations(rng: np.random.Generator, keys: int) -> tuple[Ints, tuple[str, ...]]:
    """Organisation of every key; their sizes are heavy tailed: most have one key or two, one has a fifth of them."""
    sizes: list[int] = [max(1, keys // 5)]
    while sum(sizes) < keys:
        sizes.append(min(int(rng.pareto(1.1)) + 1, max(1, keys // 5), keys - sum(sizes)))
    org = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    width = max(3, len(str(len(sizes) - 1)))
    return org, tuple(f"org-{o:0{width}d}" for o in range(len(sizes)))


def _address(network: int, host: int, v6: bool) -> str:
    if v6:
        return f"2001:db8:{network % 65_536:x}::{host + 1:x}"
    return f"198.{18 + network // 256 % 2}.{network % 256}.{host + 10}"


def weibull_shapes(cv: Floats) -> Floats:
    """Shape of the Weibull law with a coefficient of variation: its gaps' sd over their mean.

    >>> weibull_shapes(np.array([1.0])).round(2).tolist()
    [1.0]
    """
    shapes = np.exp(np.linspace(math.log(0.15), math.log(6), 400))
    squares = [math.exp(math.lgamma(1 + 2 / s) - 2 * math.lgamma(1 + 1 / s)) - 1 for s in shapes]
    return np.interp(-np.log(cv), -0.5 * np.log(squares), shapes)
