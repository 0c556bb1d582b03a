"""What keys share: organisations, networks, autonomous systems, clients and prompt templates, and their names."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from stream.gateways.traits import client_of, network_of, template_of
from stream.lab.population import ASNS, USER_AGENTS
from stream.lab.worlds.draws import MODELS
from stream.lab.worlds.world import Sums

NETWORKS, CLIENTS, TEMPLATES = 3, 2, 4
"""So many different ones a key has at most."""
NONE = -1
"""The gateway does not say."""
FRAMEWORK_TEMPLATES = 12
"""Default prompts of frameworks: keys of many organisations send them."""
NEW_MODEL = MODELS
"""Index of a model that nobody uses before it is released."""
V4_NETWORKS = 512
"""198.18.0.0/15, set aside for benchmarks, holds so many /24; further networks are of documentation's 2001:db8::/32."""


@dataclass(frozen=True, slots=True)
class Sharing:
    """How a population shares, in numbers; shares are of all keys unless said otherwise.

    large_orgs: keys of each of the largest organisations; the others have Pareto sizes of tail `org_tail`, at most 20
    nats: networks that many organisations share (a cloud's or a carrier's); nat_share: organisations behind one
    home_share: keys that are also used from a network of their own
    asns, clients: how many there are; asn_tail, client_tail: exponent of their Zipf law
    own_client_share: keys whose client is not their organisation's
    org_templates: mean templates of an organisation; framework_share: keys that use a framework's default prompt
    unsaid: calls' traits that the gateway does not say, for all calls of a key alike
    """

    large_orgs: tuple[float, ...]
    org_tail: float
    nats: int
    nat_share: float
    home_share: float
    asns: int
    asn_tail: float
    clients: int
    client_tail: float
    own_client_share: float
    org_templates: float
    framework_share: float
    unsaid: float


SHARINGS = {
    # many small developers behind a few clouds
    "B": Sharing((0.12, 0.05, 0.03), 1.2, 10, 0.5, 0.15, 16, 1.0, 16, 1.0, 0.2, 2.0, 0.2, 0.02),
    # enterprises: large organisations with networks of their own
    "C": Sharing((0.15, 0.12, 0.08, 0.06, 0.04), 1.0, 4, 0.2, 0.05, 24, 0.7, 12, 0.8, 0.1, 4.0, 0.1, 0.08),
    # a platform for everybody: hardly an organisation, carriers' networks, few clients
    "D": Sharing((0.06, 0.04), 1.8, 20, 0.7, 0.4, 12, 1.2, 9, 1.3, 0.3, 1.3, 0.35, 0.04),
}
"""Profile to how its keys share: B and C may be tuned on, D never."""


@dataclass(slots=True)
class Names:
    """What the indices of traits stand for, as a shard gets them: reduced already. Each branch has its own copy."""

    networks: list[str] = field(default_factory=list)
    network_asns: list[int] = field(default_factory=list)
    clients: list[str] = field(default_factory=list)
    templates: list[str] = field(default_factory=list)
    models: tuple[str, ...] = ("atlas-large", "atlas-small", "atlas-reason", "boreas-70b", "atlas-next")

    def copy(self) -> Names:
        """Another one to add to."""
        return Names(list(self.networks), list(self.network_asns), list(self.clients), list(self.templates))

    def add_network(self, asn: int) -> int:
        """Index of one more network, in an autonomous system."""
        number = len(self.networks)
        v4 = f"198.{18 + number // 256}.{number % 256}.0"
        name = network_of(v4 if number < V4_NETWORKS else f"2001:db8:{number % 65_536:x}::1")
        assert name is not None
        self.networks.append(name)
        self.network_asns.append(asn)
        return number

    def add_client(self, user_agent: str) -> int:
        """Index of one more client fingerprint."""
        name = client_of(user_agent)
        assert name is not None
        self.clients.append(name)
        return len(self.clients) - 1

    def add_template(self) -> int:
        """Index of one more prompt template."""
        name = template_of(f"tpl-{len(self.templates):06d}")
        assert name is not None
        self.templates.append(name)
        return len(self.templates) - 1


@dataclass(frozen=True, slots=True)
class Shared:
    """Who has what: an organisation each, and keys x NETWORKS, CLIENTS, TEMPLATES indices, the usual one first."""

    orgs: tuple[str, ...]
    networks: Sums
    clients: Sums
    templates: Sums


def zipf(count: int, tail: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Shares of the first, second, … of so many.

    >>> zipf(3, 1.0).round(2).tolist()
    [0.55, 0.27, 0.18]
    """
    weights = np.arange(1, count + 1, dtype=np.float64) ** -tail
    return np.asarray(weights / weights.sum())


def share(law: Sharing, keys: int, rng: np.random.Generator) -> tuple[Names, Shared]:
    """Give every key its traits."""
    names = Names()
    agents = [names.add_client(agent) for agent in USER_AGENTS[: law.clients]]
    frameworks = [names.add_template() for _ in range(FRAMEWORK_TEMPLATES)]
    asns = np.array(ASNS[: law.asns])
    nats = [names.add_network(int(asns[number % len(asns)])) for number in range(law.nats)]
    sizes = _sizes(law, keys, rng)
    orgs: list[str] = []
    networks = np.full((keys, NETWORKS), NONE, np.int64)
    clients = np.full((keys, CLIENTS), NONE, np.int64)
    templates = np.full((keys, TEMPLATES), NONE, np.int64)
    order = rng.permutation(keys)
    at = 0
    org_of = np.empty(keys, np.int64)
    for number, size in enumerate(sizes):
        orgs.append(f"org-{number:04d}")
        asn = int(rng.choice(asns, p=zipf(len(asns), law.asn_tail)))
        shares_nat = rng.random() < law.nat_share
        own = [names.add_network(asn) for _ in range(0 if shares_nat else min(int(rng.integers(1, 4)), size))]
        own = own or [int(rng.choice(nats, p=zipf(law.nats, 0.8)))]
        client = int(rng.choice(agents, p=zipf(len(agents), law.client_tail)))
        prompts = [names.add_template() for _ in range(max(1, min(int(rng.poisson(law.org_templates)), 2 * size)))]
        for key in order[at : at + size]:
            org_of[key] = number
            home = [names.add_network(asn)] if rng.random() < law.home_share else []
            networks[key] = _filled([*rng.permutation(own)[:2].tolist(), *home], NETWORKS)
            usual = int(rng.choice(agents)) if rng.random() < law.own_client_share else client
            clients[key] = _filled([usual, int(rng.choice(agents))], CLIENTS)
            mine = rng.permutation(prompts)[: TEMPLATES - 1].tolist()
            if rng.random() < law.framework_share:
                mine.insert(0, int(rng.choice(frameworks)))
            templates[key] = _filled(mine, TEMPLATES)
        at += size
    for traits in (networks, clients, templates):
        traits[rng.random(keys) < law.unsaid] = NONE
    return names, Shared(tuple(orgs[org] for org in org_of), networks, clients, templates)


def _sizes(law: Sharing, keys: int, rng: np.random.Generator) -> list[int]:
    sizes = [max(3, round(part * keys)) for part in law.large_orgs]
    while sum(sizes) < keys:
        sizes.append(min(int(rng.pareto(law.org_tail)) + 1, 20, keys - sum(sizes)))
    return sizes


def _filled(values: list[int], length: int) -> list[int]:
    """The values, the last of them repeated up to a length."""
    return (values + [values[-1]] * length)[:length]
