"""The token without which no key is published."""

from __future__ import annotations

import copy
from hashlib import sha256

import pytest

from dokimos.cvm_image.service.gpu_gate import GateClosed, GpuPass, Reason
from dokimos.errors import UsageError
from tests.cvm_image.gate_world import World


def test_nobody_but_the_gate_makes_a_pass():
    with pytest.raises(TypeError):
        GpuPass(object(), bytes(32), None, lambda: 0.0)
    with pytest.raises(TypeError):
        GpuPass(None, bytes(32), None, lambda: 0.0)
    forged = object.__new__(GpuPass)
    for use in (lambda: forged.holds, lambda: forged.spend(b"")):
        with pytest.raises(AttributeError):
            use()


def test_a_pass_is_used_once():
    world = World()
    world.gate.open()
    for used in (world.granted, copy.copy(world.granted)):
        with pytest.raises(UsageError, match="once"):
            used.spend(world.keys)


def kept_unused() -> World:
    """A gate whose service keeps the pass, and publishes nothing yet."""
    world = World()
    world.publish = lambda granted: setattr(world, "granted", granted)
    with pytest.raises(GateClosed):
        world.gate.open()
    return world


def test_a_pass_that_was_kept_for_later_is_worth_nothing():
    world = kept_unused()
    assert not world.granted.holds
    with pytest.raises(UsageError, match="while it holds"):
        world.granted.spend(world.old_keys[-1])


def test_a_pass_is_for_the_keys_of_its_own_pass():
    world = World()
    world.publish = lambda granted: granted.spend(b"keys of another pass")
    with pytest.raises(GateClosed) as caught:
        world.gate.open()
    assert caught.value.reason is Reason.KEYS
    world.closed()


def test_a_pass_names_the_keys_of_the_statement():
    world = World()
    world.gate.open()
    assert world.granted.key_configs_sha256 == sha256(world.keys).digest()
