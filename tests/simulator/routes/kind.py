"""What every kind of thing with an id, a name and labels has alike: found, listed, shown and renamed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Generic

from tests.simulator.routes.call import MOST_PER_PAGE, Call, Handler, Reply, Thing, find_by_id, listed, update
from tests.simulator.state import Json
from tests.simulator.world import World


@dataclass(frozen=True)
class Kind(Generic[Thing]):
    """One kind of things.

    Args:
        name: of one in an answer, as ``firewall``; the paths and lists of many have an s more.
        what: one is called in a message.
        there: those of a project, by id.
        view: one as it is shown.
        filters: what the parameters of a list, beside name and labels, are compared to.
        changed: what else a PUT does to one.
    """

    name: str
    what: str
    there: Callable[[World], Mapping[int, Thing]]
    view: Callable[[World, Thing], Json]
    filters: Mapping[str, Callable[[Thing], object]] = field(default_factory=dict)
    changed: Callable[[Call, Thing], None] = lambda _, __: None

    def one(self, call: Call) -> Thing:
        """The thing that the path names; 404 without one."""
        return find_by_id(self.there(call.world), call.path["id"], self.what)

    def reply(self, call: Call, thing: Thing, status: int = 200, **more: Json | list[Json] | None) -> Reply:
        return status, {self.name: self.view(call.world, thing), **more}

    def get(self, call: Call) -> Reply:
        return self.reply(call, self.one(call))

    def get_list(self, call: Call) -> Reply:
        things = self.there(call.world).values()
        key, shown = f"{self.name}s", partial(self.view, call.world)
        return listed(call, key, things, shown, most=MOST_PER_PAGE, **self.filters)

    def put(self, call: Call) -> Reply:
        thing = self.one(call)
        update(call, self.there(call.world), thing, self.what)
        self.changed(call, thing)
        return self.reply(call, thing)

    @property
    def routes(self) -> dict[str, Handler]:
        return {
            f"GET /{self.name}s": self.get_list,
            f"GET /{self.name}s/{{id}}": self.get,
            f"PUT /{self.name}s/{{id}}": self.put,
        }
