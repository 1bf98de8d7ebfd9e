from __future__ import annotations

from worker.errors import EngineLost, GatewayTooSlow, SessionError, SessionOver
from worker.groups import gravest

ORDER = (SessionOver, SessionError, EngineLost)


def test_the_gravest_of_several_is_told() -> None:
    over, slow, lost = SessionOver("end"), GatewayTooSlow("slow"), EngineLost("dead")
    assert gravest(ExceptionGroup("", [over, slow]), *ORDER) is slow
    assert gravest(ExceptionGroup("", [slow, ExceptionGroup("", [lost, over])]), *ORDER) is lost


def test_a_defect_is_graver_than_anything_expected() -> None:
    defect = KeyError("x")
    assert gravest(ExceptionGroup("", [EngineLost("dead"), defect]), *ORDER) is defect
