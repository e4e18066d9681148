from __future__ import annotations

import dataclasses

import pytest

from simcore.errors import UsageError
from simcore.settings import as_dict, build, fields_of, setting, suggest


@dataclasses.dataclass(frozen=True, kw_only=True)
class Example:
    rate: float = setting(0.1, "learning rate")
    steps: int | None = setting(None, "how many")
    sizes: tuple[int, ...] = setting((1, 2), "a few")
    kind: str = setting("a", "which", choices=("a", "b"))


def test_fields_tell_name_type_default_and_flag():
    rate, steps, sizes, kind = fields_of(Example)
    assert (rate.flag, rate.kind, rate.optional, rate.default) == ("--rate", float, False, 0.1)
    assert (steps.kind, steps.optional, steps.default) == (int, True, None)
    assert (sizes.kind, sizes.default) == (tuple, (1, 2))
    assert kind.choices == ("a", "b")


def test_build_refuses_an_unknown_name_with_the_nearest_one():
    with pytest.raises(UsageError, match=r"recipe\.yaml:3: Example has no setting 'rat'; did you mean 'rate'"):
        build(Example, {"rat": 1}, where="recipe.yaml:3")


def test_as_dict_is_plain():
    assert as_dict(Example(rate=1.0)) == {"rate": 1.0, "steps": None, "sizes": [1, 2], "kind": "a"}


def test_suggest_lists_all_where_none_is_near():
    assert suggest("zzz", ["beta", "alpha"]) == "; known: alpha, beta"
