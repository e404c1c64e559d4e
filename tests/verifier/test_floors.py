"""The shipped TCB floors: dated, sourced, keyed by family, model and stepping."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dokimos.evidence.snp import Fms, Product, Tcb, product_of
from dokimos.verifier.floors import AS_OF, SHIPPED, Floor, TcbMinimum, floors_for


def test_every_row_has_source_and_dates():
    assert date.fromisoformat(AS_OF)
    for row in SHIPPED:
        assert date.fromisoformat(row.published) <= date.fromisoformat(AS_OF)
        assert "CVE-" in row.source
        assert row.minimum.levels()
        assert product_of(Fms(row.family, row.model, row.stepping or 0)) in Product


def test_no_processor_has_two_rows():
    places = [(row.family, row.model, row.stepping) for row in SHIPPED]
    assert len(set(places)) == len(places)


# Numbers of AMD-SB-3019, as the reference of this project quotes them, independent of the table.
@pytest.mark.parametrize(
    ("fms", "ucode"),
    [
        (Fms(0x19, 0x01, 1), 0xDB),
        (Fms(0x19, 0x11, 1), 0x54),
        (Fms(0x19, 0x11, 2), 0x4F),
        (Fms(0x19, 0xA0, 2), 0x19),
    ],
)
def test_the_microcode_floors_are_those_of_the_bulletin(fms, ucode):
    (row,) = floors_for(fms)
    assert row.minimum == TcbMinimum(ucode=ucode)


def test_bergamo_has_its_own_floor_though_its_product_is_genoa():
    bergamo = Tcb.from_bytes(bytes.fromhex("0a00000000001719"), Product.GENOA)
    (own,), (genoa,) = floors_for(Fms(0x19, 0xA0, 2)), floors_for(Fms(0x19, 0x11, 1))
    assert own.minimum.unmet(bergamo) == ()
    assert genoa.minimum.unmet(bergamo) == ("ucode",)


def test_an_unknown_stepping_has_no_floor_and_a_row_without_stepping_fits_every_one():
    assert floors_for(Fms(0x19, 0x11, 9)) == ()
    row = Floor(family=0x19, model=0x11, minimum=TcbMinimum(snp=1))
    assert floors_for(Fms(0x19, 0x11, 9), (row,)) == (row,)
    assert floors_for(Fms(0x1A, 0x11, 9), (row,)) == ()


def test_a_level_that_the_processor_does_not_have_is_not_met():
    genoa = Tcb.from_bytes(bytes(8), Product.GENOA)
    assert TcbMinimum(fmc=0).unmet(genoa) == ("fmc",)
    assert TcbMinimum(fmc=0).unmet(Tcb.from_bytes(bytes(8), Product.TURIN)) == ()


@settings(max_examples=100, deadline=None)
@given(raw=st.binary(min_size=8, max_size=8), product=st.sampled_from(list(Product)))
def test_a_tcb_meets_itself_and_nothing_one_higher(raw, product):
    tcb = Tcb.from_bytes(raw, product)
    levels = tcb.components()
    assert TcbMinimum(**levels).unmet(tcb) == ()
    for name, level in levels.items():
        assert TcbMinimum(**levels | {name: level + 1}).unmet(tcb) == (name,)
