"""The commit rule once more, straight from its definition and slow: what the real one is compared with.

vote(v, a, r): v's parent by a, if its round is r. cert(v, b): authors of v's parents one round above b that vote for
b make a quorum. Nothing is tallied or remembered here.
"""

from typing import Any


class Reference:
    """A case and its rule."""

    def __init__(self, case: dict[str, Any]) -> None:
        self.count = case["authorities"]
        self.stakes = case["stakes"]
        self.slots = case["leaders_per_round"]
        self.listed = case["leaders"]
        self.gc_depth = case["gc_depth"]
        self.vertices = {
            f"g{author}": {"id": f"g{author}", "round": 0, "author": author, "parents": []}
            for author in range(self.count)
        } | {item["id"]: item for item in case["vertices"]}
        self.top = max((item["round"] for item in case["vertices"]), default=0)

    def leaders(self, round_number: int) -> list[int]:
        if self.listed is not None:
            return self.listed[round_number - 1] if round_number <= len(self.listed) else []
        return [(round_number + slot) % self.count for slot in range(min(self.slots, self.count))]

    def quorum(self, authors: set[int]) -> bool:
        return 3 * sum(self.stakes[author] for author in authors) > 2 * sum(self.stakes)

    def at(self, round_number: int) -> list[dict[str, Any]]:
        return [item for item in self.vertices.values() if item["round"] == round_number]

    def vote(self, vertex: dict[str, Any], author: int, round_number: int) -> str | None:
        for parent in vertex["parents"]:
            if self.vertices[parent]["author"] == author and self.vertices[parent]["round"] == round_number:
                return parent
        return None

    def is_certificate(self, vertex: dict[str, Any], leader: dict[str, Any]) -> bool:
        voters = {
            self.vertices[parent]["author"]
            for parent in vertex["parents"]
            if self.vertices[parent]["round"] == leader["round"] + 1
            and self.vote(self.vertices[parent], leader["author"], leader["round"]) == leader["id"]
        }
        return self.quorum(voters)

    def direct(self, round_number: int, leader: int) -> tuple[str, str | None]:
        blamers = {
            item["author"] for item in self.at(round_number + 1) if self.vote(item, leader, round_number) is None
        }
        if self.quorum(blamers):
            return "skip", None
        for candidate in self.at(round_number):
            if candidate["author"] == leader:
                holders = {item["author"] for item in self.at(round_number + 2) if self.is_certificate(item, candidate)}
                if self.quorum(holders):
                    return "commit", candidate["id"]
        return "undecided", None

    def ancestors(self, identifier: str) -> set[str]:
        reached, waiting = {identifier}, [identifier]
        while waiting:
            for parent in self.vertices[waiting.pop()]["parents"]:
                if parent not in reached:
                    reached.add(parent)
                    waiting.append(parent)
        return reached

    def decisions(self) -> list[dict[str, Any]]:
        slots = [
            (number, index, leader)
            for number in range(1, self.top + 1)
            for index, leader in enumerate(self.leaders(number))
        ]
        states: dict[tuple[int, int], tuple[str, str | None]] = {}
        for number, index, leader in reversed(slots):
            state = self.direct(number, leader)
            if state[0] == "undecided":
                state = self.indirect(number, leader, slots, states)
            states[number, index] = state
        prefix = []
        for number, index, leader in slots:
            verdict, vertex = states[number, index]
            if verdict == "undecided":
                break
            prefix.append({"round": number, "slot": index, "authority": leader, "verdict": verdict, "vertex": vertex})
        return prefix

    def indirect(
        self,
        number: int,
        leader: int,
        slots: list[tuple[int, int, int]],
        states: dict[tuple[int, int], tuple[str, str | None]],
    ) -> tuple[str, str | None]:
        for later, index, _ in slots:
            if later < number + 3:
                continue
            verdict, anchor = states[later, index]
            if verdict == "skip":
                continue
            if verdict == "undecided":
                return "undecided", None
            past = self.ancestors(anchor or "")
            for candidate in self.at(number):
                if candidate["author"] == leader and any(
                    item["id"] in past and self.is_certificate(item, candidate) for item in self.at(number + 2)
                ):
                    return "commit", candidate["id"]
            return "skip", None
        return "undecided", None

    def expect(self) -> dict[str, Any]:
        decisions = self.decisions()
        commits, taken, gc_round = [], set(), 0
        for item in decisions:
            if item["verdict"] != "commit":
                continue
            fresh = [
                vertex
                for vertex in self.ancestors(item["vertex"])
                if vertex not in taken and self.vertices[vertex]["round"] > gc_round
            ]
            taken.update(fresh)
            order = sorted(fresh, key=lambda key: (self.vertices[key]["round"], self.vertices[key]["author"], key))
            commits.append({"leader": item["vertex"], "vertices": order})
            gc_round = max(0, item["round"] - self.gc_depth)
        return {"decisions": decisions, "commits": commits}
