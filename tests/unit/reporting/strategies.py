"""Reports of any shape, with any text in them."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st

from tasks.domain.model import (
    DurationPrediction,
    ErrorInfo,
    Finding,
    Hook,
    HookResult,
    InstallResult,
    MachinePlan,
    Outcome,
    RebootResult,
    RunInfo,
    RunReport,
    StepRecord,
    TransactionResult,
    Update,
    UpdateResult,
    Wave,
    Window,
)
from tasks.domain.states import (
    Classification,
    FindingLevel,
    HookKind,
    HookMode,
    HookPoint,
    OperationState,
    RebootState,
    Step,
    UpdateState,
    YesNoUnknown,
)

HOSTILE = (
    "<script>alert(1)</script>",
    "\"><img src=x onerror='alert(1)'>",
    "</style><script>alert(1)</script>",
    "</pre></details><h1>mine</h1>",
    "\x1b[31mred\x1b[0m\x1b]0;title\x07",
    "\x9b31mred",
    "\u202egnp.exe\u2066",
    "a\x00b\x08c\x7f",
    "{{ 7*7 }}{% raw %}",
    "=cmd|' /C calc'!A0",
    "[click](javascript:alert(1)) ![x](http://evil.test/x.png)",
    "| a | b |\n|---|---|\n# heading\n- item",
    "\ud800 half",
    "zero\u200bwidth\ufeff",
    "&lt;b&gt; & &amp;",
)

text = st.one_of(st.sampled_from(HOSTILE), st.text(st.characters(), max_size=30))
moments = st.integers(0, 470_000_000).map(lambda n: datetime(2020, 1, 1, tzinfo=UTC) + timedelta(seconds=n))
seconds = st.floats(0, 90_000, allow_nan=False)


# Strategies are made once: making them costs more than drawing from them.
update = st.builds(
    Update,
    id=text,
    name=text,
    arch=text,
    installed=st.none() | text,
    available=text,
    classification=st.sampled_from(Classification),
    severity=text,
    origins=st.just(()) | st.tuples(text),
    cves=st.none() | st.tuples(text),
    size_bytes=st.none() | st.integers(0, 2**80),
    requires_reboot=st.none() | st.booleans(),
    published=st.none() | moments,
    kb=text,
)
result = st.builds(UpdateResult, update, st.sampled_from(UpdateState), text, st.none() | text)
results = st.lists(result, max_size=4).map(tuple)
steps = st.sampled_from(Step)
states = st.sampled_from(OperationState)


@st.composite
def step(draw: st.DrawFn) -> StepRecord:
    start = draw(moments)
    end = start + timedelta(seconds=draw(seconds))
    return StepRecord(draw(steps), start, end, draw(states), draw(text))


error = st.builds(ErrorInfo, text, text, text, st.booleans())
finding = st.builds(Finding, text, st.sampled_from(FindingLevel), text, text)
transaction = st.builds(
    TransactionResult, st.integers(0, 9), st.tuples(text), st.none() | moments, st.none() | moments,
    st.none() | st.integers(-(2**31), 2**32), text,
)  # fmt: skip
reboot = st.builds(
    RebootResult, st.sampled_from(RebootState), text, text, text, st.none() | seconds, st.none() | seconds,
    st.integers(0, 3),
)  # fmt: skip


install = st.builds(
    InstallResult, st.just(()), st.lists(transaction, max_size=2).map(tuple),
    kept_configuration_files=st.tuples(text), unasked=st.tuples(text), error=st.none() | error,
)  # fmt: skip
some_outcome = st.builds(
    Outcome,
    run_id=st.just("r"),
    machine=st.just(""),
    state=states,
    reason=text,
    updates=results,
    reboot=st.sampled_from(RebootState),
    wave=st.none() | st.integers(1, 3),
    started_at=st.none() | moments,
    ended_at=st.none() | moments,
    window_exceeded_seconds=seconds,
    steps=st.lists(step(), max_size=3).map(tuple),
    findings=st.lists(finding, max_size=2).map(tuple),
    prediction=st.none() | st.builds(DurationPrediction, seconds, seconds, seconds, seconds, text),
    install=st.none() | install,
    reboot_result=st.none() | reboot,
    error=st.none() | error,
)
hook_result = st.builds(
    HookResult,
    st.builds(Hook, text, st.sampled_from(HookPoint), st.sampled_from(HookKind), text, mode=st.sampled_from(HookMode)),
    text, st.booleans(), text, moments, moments,
)  # fmt: skip
names_of_machines = st.lists(text.filter(bool), max_size=4, unique=True)


def of(machine: str, drawn: Outcome) -> Outcome:
    """Make a drawn outcome a machine's, and what it installed that of the outcome."""
    told = drawn.install and replace(drawn.install, results=drawn.updates)
    return replace(drawn, machine=machine, install=told)


@st.composite
def report(draw: st.DrawFn, kinds: tuple[str, ...] = ("patch", "plan", "assess")) -> RunReport:
    names = draw(names_of_machines)
    start = draw(moments)
    run = RunInfo(
        id=draw(text.filter(bool)),
        kind=draw(st.sampled_from(kinds)),
        started_at=start,
        state=draw(states),
        window=draw(st.none() | st.builds(Window, st.just(start), st.just(start + timedelta(hours=2)), text)),
        scope=draw(text),
        ended_at=draw(st.none() | st.just(start + timedelta(hours=1))),
        started_by=draw(text),
        message=draw(text),
        request={"reboot_reserve_minutes": draw(st.integers(-5, 300)), "note": draw(text)},
    )
    outcomes = tuple(of(name, draw(some_outcome)) for name in names)
    waves = (Wave(1, tuple(names[:2]), canary=True),) if draw(st.booleans()) else ()
    plans = tuple(
        MachinePlan(
            name,
            (draw(update),),
            (draw(result),),
            DurationPrediction(1, 2, 3, 4),
            draw(st.sampled_from(YesNoUnknown)),
            (name,),
        )
        for name in (*names[:1], "only planned")
        if draw(st.booleans())
    )
    hooks = tuple(draw(st.lists(hook_result, max_size=3)))
    return RunReport(run, outcomes, waves, plans, hooks=hooks, notes=tuple(draw(st.lists(text, max_size=2))))
