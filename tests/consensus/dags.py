"""DAGs for tests of the commit rule, in the form that `mpisa chain decide` reads."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from consensus.replay import decide_case


class Dag:
    """A DAG under construction. Vertex ids are r<round>.v<author>, twins have .t1, .t2, ... behind."""

    def __init__(
        self,
        authorities: int = 4,
        *,
        leaders_per_round: int = 1,
        stakes: Sequence[int] | None = None,
        leaders: Sequence[Sequence[int]] | None = None,
        gc_depth: int = 60,
    ) -> None:
        self.authorities = authorities
        self.leaders_per_round = leaders_per_round
        self.stakes = list(stakes) if stakes is not None else [1] * authorities
        self.leaders = leaders
        self.gc_depth = gc_depth
        self.vertices: list[dict[str, Any]] = []

    def name(self, round_number: int, author: int) -> str:
        """The id of the author's first vertex of the round, of genesis for round 0."""
        return f"r{round_number}.v{author}" if round_number else f"g{author}"

    def add(self, round_number: int, author: int, parents: Iterable[str], *, twin: int = 0) -> str:
        """Add a vertex with these parents; its id."""
        identifier = self.name(round_number, author) + (f".t{twin}" if twin else "")
        self.vertices.append({"id": identifier, "round": round_number, "author": author, "parents": list(parents)})
        return identifier

    def layer(
        self,
        round_number: int,
        authors: Iterable[int] | None = None,
        *,
        without: Mapping[int, Iterable[int]] | None = None,
        instead: Mapping[str, str] | None = None,
    ) -> "Dag":
        """A round in which each of the authors (all by default) references every vertex of the round below.

        `without`: author -> whose vertices it leaves out. `instead`: reference this id (a twin) in place of that one.
        """
        known = {item["id"] for item in self.vertices} | {self.name(0, author) for author in range(self.authorities)}
        for author in range(self.authorities) if authors is None else authors:
            order = [author, *(other for other in range(self.authorities) if other != author)]
            left_out = set((without or {}).get(author, ()))
            parents = [
                self.name(round_number - 1, other)
                for other in order
                if other not in left_out and self.name(round_number - 1, other) in known
            ]
            self.add(round_number, author, [(instead or {}).get(parent, parent) for parent in parents])
        return self

    def layers(self, first: int, last: int, authors: Iterable[int] | None = None) -> "Dag":
        """Full rounds first..last."""
        chosen = None if authors is None else list(authors)
        for round_number in range(first, last + 1):
            self.layer(round_number, chosen)
        return self

    def case(self, resume_after: object = None) -> dict[str, Any]:
        """The case as a file would hold it."""
        return {
            "name": "test",
            "authorities": self.authorities,
            "stakes": self.stakes,
            "leaders_per_round": self.leaders_per_round,
            "leaders": self.leaders,
            "gc_depth": self.gc_depth,
            "resume_after": resume_after,
            "vertices": self.vertices,
        }

    def decide(self, resume_after: object = None) -> dict[str, Any]:
        """What the commit rule says."""
        return decide_case(self.case(resume_after))

    def verdicts(self, resume_after: object = None) -> list[str]:
        """Decisions as short text: `1.0 commit r1.v1`, `2.0 skip`."""
        return [
            f"{item['round']}.{item['slot']} {item['verdict']}" + (f" {item['vertex']}" if item["vertex"] else "")
            for item in self.decide(resume_after)["decisions"]
        ]

    def commits(self, resume_after: object = None) -> list[list[str]]:
        """The vertices of each commit."""
        return [item["vertices"] for item in self.decide(resume_after)["commits"]]
