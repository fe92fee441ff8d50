"""The steps of a migration, as data."""

from __future__ import annotations

from dataclasses import dataclass

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError

DOCTOR, ADOPT, PLAN, STAGE, MEASURE = "doctor", "adopt", "plan", "stage", "measure"
CANARY, COMPARE, CONFIRM, ROLLOUT, REPORT = "canary", "compare", "confirm", "rollout", "report"


@dataclass(frozen=True)
class Step:
    """One step.

    Args:
        name: by which --until names it.
        says: what is done, for people.
        alone: the verb that does the same by itself; '' where there is none.
    """

    name: str
    says: str
    alone: str = ""


STEPS = (
    Step(DOCTOR, "check the hosts", "doctor"),
    Step(ADOPT, "record what serves now, so that it can be gone back to", "adopt"),
    Step(PLAN, "what would start, and whether it fits", "plan"),
    Step(STAGE, "put on every host what it needs, touching nothing that runs", "stage"),
    Step(MEASURE, "what serves on the canary now, for comparison", "compare --record"),
    Step(CANARY, "switch the canary", "rollout"),
    Step(COMPARE, "measure the canary once more, and compare", "compare --against"),
    Step(CONFIRM, "agree to the rest"),
    Step(ROLLOUT, "switch the other hosts in batches", "rollout"),
    Step(REPORT, "all of it on one page"),
)
NAMES = tuple(one.name for one in STEPS)
# What serves is not touched before the canary: until then nobody has to agree to anything.
BEFORE_THE_SWITCH = NAMES[: NAMES.index(CANARY)]
# What is done again once the description says something else. What the old service answered does not change by that.
DESCRIBED = tuple(name for name in NAMES if name not in (MEASURE, REPORT))


def step_named(name: str) -> Step:
    """The step of a name.

    Raises:
        DeployError: there is none.
    """
    for one in STEPS:
        if one.name == name:
            return one
    raise DeployError(f"there is no step {name!r}", f"use one of {', '.join(NAMES)}")
