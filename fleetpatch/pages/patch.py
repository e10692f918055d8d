"""The form of a patch run: what is planned or patched, its machines, and the last question before it starts."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Annotated, Final
from urllib.parse import urlencode

from fastapi import Depends, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from fleetpatch.access.identity import Identity
from fleetpatch.access.roles import Role
from fleetpatch.acts.flow_runs import StartNotKnown
from fleetpatch.acts.patch_form import (
    FIELDS,
    GROUPS,
    SENT,
    ParsedForm,
    ScopePreview,
    Values,
    build_defaults,
    parse_form,
    preview_scope,
)
from fleetpatch.acts.policy_checks import check_request
from fleetpatch.acts.run_acts import KeyUsedBefore, build_key, start_patch
from fleetpatch.machines.fleet_reader import ACT_WAIT_SECONDS
from fleetpatch.pages.login import LOGIN_MARK
from fleetpatch.web.audit import record_refusal
from fleetpatch.web.authentication import ActPermission, build_viewers_router
from fleetpatch.web.context import get_context
from fleetpatch.web.rendering import find_status, render_page
from flows.engine.run_info import describe_request_shortage, select_machines
from flows.request.differences import list_differences
from flows.request.patch_request import PatchRequest
from inventory.errors import InventoryError
from tasks.domain.errors import CannotRun, PolicyRefused, RequestError
from tasks.domain.model import Window
from tasks.domain.states import RebootPolicy

router = build_viewers_router()

KEY: Final = "once"
"""The hidden field that makes a form unique: sent twice, it starts one run."""
SHOWN_MACHINES: Final = "shown_machines"
SHOWN_END: Final = "shown_end"
"""Hidden fields of the confirmation: the machines, and the end of the window, that it shows."""
LINKED: Final = "linked"
"""The hidden field with what the address of the form filled in: ``field=value``. A link from elsewhere can't leave it
out, and the last question marks these values."""
MAX_LATER: Final = timedelta(minutes=10)
"""A window that opens when somebody confirms may end so much later than the confirmation says."""
NOTHING_STARTED: Final = "Nothing was started."
REBOOT_WORDS: Final = {
    RebootPolicy.IF_REQUIRED: "A machine reboots if its updates need it.",
    RebootPolicy.NEVER: "No machine reboots.",
    RebootPolicy.ALWAYS: "Every machine with updates reboots.",
}


async def read_form(request: Request) -> dict[str, list[str]]:
    """Return the values of a form that was sent."""
    form = await request.form()
    values_by_name: dict[str, list[str]] = {}
    for name, value in form.multi_items():
        if isinstance(value, str):
            values_by_name.setdefault(name, []).append(value)
    return values_by_name


Form = Annotated[dict[str, list[str]], Depends(read_form)]
Runner = Annotated[Identity, Depends(ActPermission(Role.RUN))]


@router.get("/patch")
def show_form(request: Request) -> HTMLResponse:
    """Show the form. Fields that the URL names have its values."""
    query_values = {name: request.query_params.getlist(name) for name in request.query_params}
    values = {**build_defaults(get_context(request).settings.zone), **query_values}
    preview = _preview(request, values) if _read(values, "scope") else None
    values[LINKED] = list(_list_linked(request, query_values))
    return _show_form(request, values, {}, preview)


@router.get("/patch/check")
def check_fields(request: Request) -> HTMLResponse:
    """Show what the scope selects, and what is wrong with scope and window, while somebody types."""
    values = {name: request.query_params.getlist(name) for name in request.query_params}
    parsed, preview = _check(request, values, dry_run=False)
    shown = preview if _read(values, "scope") else None
    return render_page(request, "patch_preview.html.j2", preview=shown, errors=parsed.errors, quiet=("scope",))


@router.post("/plan")
def start_plan(request: Request, values: Form, _: Runner) -> Response:
    """Start a plan. Nothing is changed, so nothing more is asked."""
    parsed, preview = _check(request, values, dry_run=True)
    if parsed.request is None:
        return _show_form(request, values, parsed.errors, preview, status=400)
    return _start(request, parsed.request, values, preview)


def _show_refusal(
    request: Request, values: Values, preview: ScopePreview | None, error: PolicyRefused | InventoryError
) -> HTMLResponse:
    """Show the form again with what the policy says. Without a readable policy, no run begins."""
    faults = {"": f"{_to_sentence(error.message)} {error.hint}"}
    return _show_form(request, values, faults, preview, status=find_status(error))


@router.post("/patch")
def patch(request: Request, values: Form, _: Runner) -> Response:
    """Say what will happen, and after a confirmation start it."""
    parsed, preview = _check(request, values, dry_run=False)
    if parsed.request is None:
        return _show_form(request, values, parsed.errors, preview, status=400)
    patch_request = parsed.request
    try:
        check_request(request, patch_request)
    except (PolicyRefused, InventoryError) as error:
        record_refusal(request, error.message, act="patch")
        return _show_refusal(request, values, preview, error)
    now = get_context(request).clock.now()
    window = _build_window(patch_request, now)
    is_confirmed = bool(_read(values, "confirmed"))
    changes = list(_find_changes(values, preview, window)) if is_confirmed else []
    if is_confirmed and not changes:
        return _start(request, patch_request, values, preview)
    typed = {field.path: values[field.path] for field in FIELDS if field.path in values}
    return render_page(
        request,
        "patch_confirm.html.j2",
        wanted=patch_request,
        status=409 if changes else 200,
        changes=changes,
        window=window,
        shortage=_describe_shortage(request, patch_request, window),
        is_later=window.start > now,
        preview=preview,
        reboots=REBOOT_WORDS[patch_request.reboot],
        differences=[
            difference for difference in list_differences(patch_request) if difference.path != "scope"
        ],  # the headline has it
        linked=_find_linked(values),
        typed={**typed, SENT: ["1"], LINKED: values.get(LINKED, [])},
        once=_read(values, KEY),
        back=f"/patch?{urlencode({**typed, SENT: ['1'], LINKED: values.get(LINKED, [])}, doseq=True)}",
    )


def _describe_shortage(request: Request, wanted: PatchRequest, window: Window) -> str:
    """Return why nothing can begin in the window, or ""; also "" if the machines are not known here."""
    context = get_context(request)
    inventory = context.fleet.read(ACT_WAIT_SECONDS).inventory
    try:
        machines = select_machines(wanted, inventory) if inventory is not None else ()
    except InventoryError:
        return ""
    patchable = [machine for machine in machines if machine.owner.is_patchable]
    return describe_request_shortage(wanted, patchable, window, context.clock.now())


def _list_linked(request: Request, given: Values) -> Iterator[str]:
    """Yield what a link from elsewhere filled in. Of a link on a page of this server, it is what that page says.

    The page of the login says nothing: somebody else may have written the address that it leads to.
    """
    name, value = LOGIN_MARK
    if request.headers.get("sec-fetch-site") == "same-origin" and value not in given.get(name, ()):
        yield from given.get(LINKED, ())
        return
    for field in FIELDS:
        if any(text.strip() for text in given.get(field.path, ())):
            yield _mark(field.path, given)


def _find_linked(values: Values) -> frozenset[str]:
    """Return the fields that still have what the address of the form filled in."""
    marks = frozenset(values.get(LINKED, ()))
    return frozenset(field.path for field in FIELDS if _mark(field.path, values) in marks)


def _mark(path: str, values: Values) -> str:
    return f"{path}={' '.join(part for text in values.get(path, ()) for part in text.split())}"


def _find_changes(values: Values, preview: ScopePreview | None, window: Window) -> Iterator[str]:
    """Yield what differs from what the person was shown before the confirmation: the page may be hours old."""
    machines, until = _read(values, SHOWN_MACHINES), _read(values, SHOWN_END)
    if machines and preview is not None and preview.digest and preview.digest != machines:
        yield "The scope selects other machines now."
    with suppress(ValueError, TypeError, OverflowError):
        if until and window.end - datetime.fromisoformat(until) > MAX_LATER:
            yield "The window would end later now."


def _start(request: Request, wanted: PatchRequest, values: Values, preview: ScopePreview | None) -> Response:
    """Start the run. If that fails, show the form again with all that was typed.

    If Prefect's answer was lost, the form keeps its key: the run may be started, and must not be started twice.
    """
    key = _read(values, KEY)
    try:
        return RedirectResponse(f"/starting/{start_patch(request, wanted, key)}", 303)
    except KeyUsedBefore as error:
        faults = {"": f"{_to_sentence(error.message)} Look at the runs. Sent again, this form starts another one."}
        return _show_form(request, values, faults, preview, status=409, headline="Nothing more was started.")
    except StartNotKnown as error:
        faults = {"": f"{_to_sentence(error.message)} {error.hint}"}
        return _show_form(request, values, faults, preview, status=503, headline="Look at the runs first.", key=key)
    except (PolicyRefused, InventoryError) as error:
        return _show_refusal(request, values, preview, error)
    except CannotRun as error:
        return _show_form(request, values, {"": f"{_to_sentence(error.message)} {error.hint}"}, preview, status=503)


def _show_form(
    request: Request,
    values: Values,
    errors: Mapping[str, str],
    preview: ScopePreview | None,
    status: int = 200,
    headline: str = NOTHING_STARTED,
    key: str = "",
) -> HTMLResponse:
    return render_page(
        request,
        "patch.html.j2",
        status=status,
        fields=FIELDS,
        groups=GROUPS,
        values=values,
        errors=errors,
        preview=preview,
        quiet=(),
        once=key or build_key(),
        headline=headline,
        open_groups=_find_open_groups(values, errors, get_context(request).settings.zone),
    )


def _find_open_groups(values: Values, errors: Mapping[str, str], zone: str) -> set[str]:
    """Return the parts that start open: something in them is wrong, or is not as usual."""
    usual = build_defaults(zone)
    return {
        field.group
        for field in FIELDS
        if field.path in errors
        or [text for text in values.get(field.path, usual.get(field.path, ())) if text]
        != [text for text in usual.get(field.path, ()) if text]
    }


def _check(request: Request, values: Values, *, dry_run: bool) -> tuple[ParsedForm, ScopePreview | None]:
    """Check the values as the models do, and then what only this fleet and the present time tell."""
    parsed = parse_form(values, dry_run=dry_run)
    errors = dict(parsed.errors)
    preview = _preview(request, values) if "scope" not in errors else None
    if preview is not None and preview.error and get_context(request).fleet.read().inventory is not None:
        errors["scope"] = f"{_to_sentence(preview.error)} {preview.hint}".strip()
    if parsed.request is not None:
        try:
            _build_window(parsed.request, get_context(request).clock.now())
        except RequestError as error:
            path = "window.zone" if "zone" in error.message else "window.start"
            errors[path] = f"{_to_sentence(error.message)} {error.hint}".strip()
    return (replace(parsed, request=None, errors=errors) if errors else parsed), preview


def _build_window(wanted: PatchRequest, now: datetime) -> Window:
    window = wanted.window.to_window(now)
    if window.end <= now:
        raise RequestError("this window is over", hint="Leave the start empty for a window that opens now.")
    return window


def _preview(request: Request, values: Values) -> ScopePreview:
    only: Sequence[str] = [
        part.strip()
        for text in values.get("only_machines", ())
        for part in text.replace(",", "\n").splitlines()
        if part.strip()
    ]
    wait_seconds = ACT_WAIT_SECONDS if request.method == "POST" else None
    return preview_scope(get_context(request).fleet.read(wait_seconds), _read(values, "scope"), only)


def _read(values: Values, name: str) -> str:
    return next((text.strip() for text in values.get(name, ()) if text.strip()), "")


def _to_sentence(message: str) -> str:
    return f"{message[:1].upper()}{message[1:]}."
