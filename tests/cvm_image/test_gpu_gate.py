"""The GPU gate: every state and every failing call of a machine, and never a key without verified GPUs behind it."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dokimos.attest.nvml import Environment, MultiGpu
from dokimos.attest.sim_nvml import SimDevice, bare_report
from dokimos.cvm_image.service.gpu_gate import INTERVAL, LEASE, GateClosed, GpuGate, Reason, State
from dokimos.errors import Error, ExitCode, MalformedEvidence, UnsupportedEvidence, UsageError
from tests.cvm_image.gate_world import NOT_ACCEPTED, World, unavailable

WHOLE_PASS = [
    *("drop", "ready", "stop", "ready"),
    *("settings", "count", "device", "display_devices", "ready"),
    *("prepare", "count", "device", "report", "chain", "verify"),
    *("set_ready 1", "ready", "start"),
    *("settings", "count", "device", "display_devices", "ready", "alive", "publish"),
]
LOOK = ["settings", "count", "device", "display_devices", "ready", "alive"]


def refused(world: World) -> GateClosed:
    """The gate does not open, and nothing of the attempt is left."""
    with pytest.raises(GateClosed) as caught:
        world.gate.open()
    world.closed()
    assert "publish" not in world.log
    assert world.gate.state is State.CLOSED
    assert world.gate.reason is caught.value.reason
    return caught.value


def opened(gpus: int = 1) -> World:
    world = World(gpus)
    world.gate.open()
    assert world.public is not None
    world.log.clear()
    return world


def test_a_whole_pass_asks_and_does_everything_in_this_order():
    world = World()
    world.gate.open()
    assert world.log == WHOLE_PASS
    assert (world.gate.state, world.gate.reason) == (State.OPEN, None)
    assert world.public == world.keys == b"keys of pass 0"
    assert world.granted.holds


def test_several_gpus_each_give_evidence_over_the_one_nonce():
    world = opened(4)
    assert world.machine.is_ready
    assert len(world.nonces) == 1


def machine(**changes):
    def change(world: World) -> None:
        for name, value in changes.items():
            setattr(world.machine, name, value)

    return change


def bus(*addresses):
    def change(world: World) -> None:
        world.bus = lambda: addresses

    return change


def device(**changes):
    def change(world: World) -> None:
        for name, value in changes.items():
            setattr(world.machine.devices[0], name, value)

    return change


def answer(value):
    return lambda world: setattr(world, "answer", value)


def raising(name, error):
    return lambda world: world.raises.update({name: error})


STATES = [
    (machine(cc_feature=False), Reason.CC_FEATURE),
    (machine(environment=Environment.SIMULATION), Reason.ENVIRONMENT),
    (machine(environment=Environment.UNAVAILABLE), Reason.ENVIRONMENT),
    (machine(devtools=True), Reason.DEVTOOLS),
    (machine(multi_gpu=MultiGpu.PROTECTED_PCIE), Reason.MULTI_GPU),
    (machine(multi_gpu=MultiGpu.PROTECTED_PCIE, cc_feature=False), Reason.MULTI_GPU),
    (machine(devices=[]), Reason.DEVICES),
    (machine(devices=[SimDevice(), SimDevice(uuid="GPU-1", bus_id="0000:02:00.0")]), Reason.DEVICES),
    (bus(), Reason.DEVICES),
    (bus("0000:01:00.0", "0000:02:00.0"), Reason.DEVICES),
    (bus("0000:02:00.0"), Reason.DEVICES),
    (device(architecture=8), Reason.DEVICES),
    (machine(stuck=True), Reason.READY),
    (raising("verify", NOT_ACCEPTED), Reason.VERIFICATION),
    (raising("verify", MalformedEvidence("no report")), Reason.VERIFICATION),
    (raising("verify", unavailable("RIM")), Reason.VERIFICATION),
    (answer(False), Reason.VERIFICATION),
    (answer(True), Reason.VERIFICATION),
]
ORDER = [Reason.CC_FEATURE, Reason.ENVIRONMENT, Reason.DEVTOOLS, Reason.DEVICES, Reason.VERIFICATION]


@pytest.mark.parametrize(("change", "reason"), STATES)
def test_a_state_that_may_not_be_keeps_the_gate_closed_and_the_gpus_off(change, reason):
    world = World()
    change(world)
    assert refused(world).reason is reason
    if reason is not Reason.READY:
        assert "set_ready 1" not in world.log
    assert "start" not in world.log


@pytest.mark.parametrize("first", range(len(ORDER)))
def test_the_first_condition_that_does_not_hold_is_the_reason(first):
    changes = {reason: change for change, reason in reversed(STATES)}
    world = World()
    for reason in ORDER[first:]:
        changes[reason](world)
    assert refused(world).reason is ORDER[first]


CALLS = [
    ("settings", Reason.SETTINGS),
    ("count", Reason.DEVICES),
    ("device", Reason.DEVICES),
    ("display_devices", Reason.DEVICES),
    ("ready", Reason.READY),
    ("prepare", Reason.KEYS),
    ("report", Reason.EVIDENCE),
    ("chain", Reason.EVIDENCE),
    ("verify", Reason.VERIFICATION),
    ("set_ready 1", Reason.READY),
    ("start", Reason.ENGINE),
    ("alive", Reason.ENGINE),
    ("publish", Reason.KEYS),
]


@pytest.mark.parametrize(("call", "reason"), CALLS)
@pytest.mark.parametrize("error", [unavailable(), UnsupportedEvidence("no"), OSError(5, "no")])
def test_a_call_that_fails_keeps_the_gate_closed_with_its_reason(call, reason, error):
    world = World()
    world.raises[call] = error
    with pytest.raises(GateClosed) as caught:
        world.gate.open()
    assert caught.value.reason is reason
    assert caught.value.exit_code is getattr(error, "exit_code", ExitCode.REJECTED)
    world.closed()


def test_every_call_of_the_table_is_one_of_a_pass_and_the_other_way_round():
    assert {call for call, _ in CALLS} == set(WHOLE_PASS) - {"drop", "stop"}


@pytest.mark.parametrize("fault", [unavailable(), OSError(5, "no"), TypeError("a fault of ours"), KeyboardInterrupt()])
@pytest.mark.parametrize("place", range(len(WHOLE_PASS)))
def test_a_fault_at_any_one_moment_of_a_pass_leaves_nothing_behind(place, fault):
    world = World()
    world.at[place] = fault
    if WHOLE_PASS[place] == "ready" and place < WHOLE_PASS.index("prepare") and isinstance(fault, Error | OSError):
        # Whether they are ready is asked again, and again before anything is done.
        with contextlib.suppress(GateClosed):
            world.gate.open()
        assert world.log.count("ready") > WHOLE_PASS[: place + 1].count("ready")
        return
    with pytest.raises((GateClosed, TypeError, KeyboardInterrupt)):
        world.gate.open()
    world.closed()
    assert world.gate.state is State.CLOSED


def test_gpus_that_are_ready_before_they_are_verified_are_set_back_first():
    world = World()
    world.machine.is_ready = True
    world.gate.open()
    assert world.effects == ["drop", "set_ready 0", "stop", "prepare", "verify", "set_ready 1", "start", "publish"]


def test_gpus_that_stay_ready_before_they_are_verified_are_refused():
    world = World()
    world.machine.is_ready = world.machine.stuck = True
    with pytest.raises(GateClosed) as caught:
        world.gate.open()
    assert caught.value.reason is Reason.READY
    assert "still take work" in caught.value.left["ready state"]
    assert world.effects.count("prepare") == 0


def test_devtools_gpus_are_never_set_ready_whatever_becomes_of_their_verification():
    """NVIDIA's own verifier sets GPUs in DevTools mode ready although their verification failed."""
    for verification in (None, NOT_ACCEPTED):
        world = World()
        world.machine.devtools = True
        world.raises["verify"] = verification
        assert refused(world).reason is Reason.DEVTOOLS
        assert not {"verify", "set_ready 1", "prepare"} & set(world.log)


def test_devtools_turned_on_during_the_verification_are_found_before_the_keys_are_public():
    world = World()
    world.raises["verify"] = lambda: setattr(world.machine, "devtools", True)
    assert refused(world).reason is Reason.DEVTOOLS


def test_gpus_that_lose_their_readiness_before_the_keys_are_public_are_found():
    def lose(world: World) -> None:
        world.machine.is_ready = False

    for name in ("start", "settings", "display_devices"):
        world = World()
        last = len(WHOLE_PASS) - 1 - WHOLE_PASS[::-1].index(name)
        world.at[last] = lambda world=world: lose(world)
        assert refused(world).reason is Reason.READY


def test_recorded_evidence_is_refused_since_its_nonce_is_of_another_pass():
    world = World()
    world.machine.devices[0].report = lambda nonce: bare_report(bytes(32))
    assert refused(world).reason is Reason.VERIFICATION


def test_a_driver_too_old_to_tell_the_mode_of_several_gpus_is_enough_for_one():
    for gpus in (1, 2):
        world = World(gpus)
        world.machine.multi_gpu = None
        if gpus == 1:
            world.gate.open()
        else:
            assert refused(world).reason is Reason.MULTI_GPU


def test_each_pass_has_keys_and_a_nonce_of_its_own():
    world = opened()
    world.gate.open()
    world.gate.open()
    assert world.old_keys == [b"keys of pass 0", b"keys of pass 1", b"keys of pass 2"]
    assert len(set(world.nonces)) == 3


LOSSES = [
    (machine(cc_feature=False), Reason.CC_FEATURE),
    (machine(environment=Environment.SIMULATION), Reason.ENVIRONMENT),
    (machine(devtools=True), Reason.DEVTOOLS),
    (machine(multi_gpu=MultiGpu.PROTECTED_PCIE), Reason.MULTI_GPU),
    (machine(is_ready=False), Reason.READY),
    (machine(devices=[]), Reason.DEVICES),
    (device(uuid="GPU-other"), Reason.DEVICES),
    (device(bus_id="0000:09:00.0"), Reason.DEVICES),
    (device(architecture=10), Reason.DEVICES),
    (bus("0000:01:00.0", "0000:02:00.0"), Reason.DEVICES),
    (bus(), Reason.DEVICES),
    (lambda world: setattr(world, "engine", False), Reason.ENGINE),
    (lambda world: setattr(world, "now", world.now + LEASE), Reason.LATE),
    *((raising(call, unavailable()), reason) for call, reason in CALLS if call in LOOK),
]


@pytest.mark.parametrize(("change", "reason"), LOSSES)
def test_a_loss_drops_the_keys_first_then_the_ready_state_then_the_engine(change, reason):
    world = opened()
    passed, world.lost = world.granted, True
    change(world)
    with pytest.raises(GateClosed) as caught:
        world.gate.watch()
    assert caught.value.reason is reason
    assert (world.gate.state, world.gate.reason) == (State.CLOSED, reason)
    effects = world.effects
    assert [name for name in effects if name != "set_ready 0"] == ["drop", "stop"]
    if reason is not Reason.READY:
        assert effects == ["drop", "set_ready 0", "stop"]
    world.closed()
    assert not passed.holds


@pytest.mark.parametrize(("change", "reason"), LOSSES)
def test_what_was_lost_comes_back_by_a_whole_new_pass_only(change, reason):
    world = opened()
    world.lost = True
    change(world)
    with pytest.raises(GateClosed):
        world.gate.watch()
    back = World()
    world.machine.devices = back.machine.devices
    machine(cc_feature=True, environment=Environment.PRODUCTION, devtools=False, multi_gpu=MultiGpu.NONE)(world)
    world.bus, world.raises = world.machine.display_devices, {}
    for _ in range(3):
        with pytest.raises(GateClosed) as caught:
            world.gate.watch()
        assert caught.value.reason is reason
        world.closed()
    world.log.clear()
    world.gate.open()
    assert [name for name in world.log if name != "set_ready 0"] == WHOLE_PASS
    assert world.public == b"keys of pass 1"


@pytest.mark.parametrize("fault", [unavailable(), OSError(5, "no"), TypeError("a fault of ours"), KeyboardInterrupt()])
@pytest.mark.parametrize("place", range(len(LOOK)))
def test_a_fault_at_any_one_moment_of_a_look_closes_the_gate(place, fault):
    world = opened()
    world.at[place] = fault
    with pytest.raises((GateClosed, TypeError, KeyboardInterrupt)):
        world.gate.watch()
    world.closed()


def test_a_look_asks_for_everything_and_changes_nothing():
    world = opened()
    world.gate.watch()
    assert world.log == LOOK
    assert world.granted.holds


def test_keys_are_away_at_the_moment_at_which_no_look_holds_any_more():
    world = opened()
    world.now += LEASE - 1
    world.gate.watch()
    world.now += LEASE - 0.001
    assert world.granted.holds
    world.now += 0.002
    assert not world.granted.holds
    with pytest.raises(GateClosed) as caught:
        world.gate.watch()
    assert caught.value.reason is Reason.LATE


def test_a_look_that_hangs_in_the_driver_does_not_bring_the_keys_back():
    world = opened()
    world.raises["ready"] = lambda: setattr(world, "now", world.now + LEASE)
    with pytest.raises(GateClosed) as caught:
        world.gate.watch()
    assert caught.value.reason is Reason.LATE
    world.closed()


def test_what_cannot_be_taken_back_keeps_nothing_else_from_it():
    for name, call in (("keys", "drop"), ("engine", "stop"), ("ready state", "set_ready 0")):
        world = opened()
        world.raises[call] = unavailable(call)
        with pytest.raises(GateClosed) as caught:
            world.gate.close()
        assert caught.value.left == {name: f"{call}: no"}
        assert f"{call}: no" in str(caught.value)
        assert {"drop", "set_ready 0", "stop"} <= set(world.log)
        assert not world.granted.holds
        assert world.public is None


def test_a_driver_that_refuses_while_it_is_in_use_is_asked_again_after_the_engine():
    world = opened()
    world.raises["set_ready 0"] = unavailable("in use")
    world.raises["stop"] = lambda: world.raises.pop("set_ready 0")
    world.gate.close()
    assert world.effects == ["drop", "set_ready 0", "stop", "set_ready 0"]
    world.closed()


def test_what_was_there_before_and_cannot_be_taken_back_keeps_a_pass_from_beginning():
    for call, reason in (("drop", Reason.KEYS), ("stop", Reason.ENGINE)):
        world = World()
        world.raises[call] = unavailable(call)
        with pytest.raises(GateClosed) as caught:
            world.gate.open()
        assert caught.value.reason is reason
        assert "prepare" not in world.log


def test_a_service_that_publishes_nothing_is_not_an_open_gate():
    world = World()
    world.publish = lambda granted: None
    assert refused(world).reason is Reason.KEYS


def test_it_is_kept_open_until_the_end_and_closed_then():
    world = World()
    waited = []

    def ended(seconds):
        waited.append(seconds)
        world.now += seconds
        return len(waited) == 51

    world.gate.keep(ended, lambda: waited.append(world.public))
    assert waited == [b"keys of pass 0", *[INTERVAL] * 50]
    assert world.log.count("settings") == 2 + 50 - 1
    assert world.effects[-4:] == ["publish", "drop", "set_ready 0", "stop"]
    world.closed()
    assert world.gate.reason is Reason.ENDED


def test_whatever_ends_the_waiting_closes_the_gate_and_a_loss_keeps_its_reason():
    def interrupted(_seconds=0):
        raise KeyboardInterrupt

    for parts in ((interrupted,), (lambda seconds: True, interrupted)):
        world = World()
        with pytest.raises(KeyboardInterrupt):
            world.gate.keep(*parts)
        world.closed()
    world = World()

    def lose(_seconds):
        world.machine.devtools = world.lost = True
        return False

    with pytest.raises(GateClosed):
        world.gate.keep(lose)
    world.closed()
    assert world.gate.reason is Reason.DEVTOOLS
    world.machine.is_ready = False
    with pytest.raises(GateClosed):
        world.gate.keep(interrupted)  # it does not even open
    world.closed()


def test_a_gate_for_no_gpu_or_with_a_look_that_does_not_hold_until_the_next_is_refused():
    world = World()
    parts = {"system": world.machine, "display": world.bus, "service": world, "verify": world.verify}
    for changes in ({"gpus": 0}, {"gpus": -1}, {"gpus": 1, "lease": INTERVAL}, {"gpus": 1, "interval": 0}):
        with pytest.raises(UsageError):
            GpuGate(**parts, **changes)


MOVES = [
    *("open", "watch", "close", "time"),
    *("devtools", "cc_feature", "is_ready", "stuck", "engine", "swap", "verify", "report", "settings", "set_ready 0"),
]


@given(st.lists(st.sampled_from(MOVES), max_size=40))
def test_whatever_happens_in_whatever_order_no_key_is_public_without_its_condition(moves):
    world = World()
    fresh = 0
    for move in moves:
        if move in ("open", "watch", "close"):
            world.lost = move != "open"
            try:
                getattr(world.gate, move)()
            except GateClosed:
                assert world.public is None
                assert not world.engine
                if not {"stuck", "set_ready 0"} & ({*world.raises} | ({"stuck"} if world.machine.stuck else set())):
                    assert not world.machine.is_ready
            world.lost = False
            open_now = world.gate.state is State.OPEN
            assert open_now == (world.public is not None and world.granted.holds)
            if open_now:
                world.rule()
        elif move == "time":
            world.now += LEASE / 2
        elif move in ("devtools", "cc_feature", "is_ready", "stuck"):
            setattr(world.machine, move, not getattr(world.machine, move))
        elif move == "engine":
            world.engine = False
        elif move == "swap":
            fresh += 1
            world.machine.devices[0].uuid = f"GPU-{fresh}"
        elif move in world.raises:
            del world.raises[move]
        else:
            world.raises[move] = unavailable(move)
