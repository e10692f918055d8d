"""Renders parts of pages outside of a request."""

from fleetpatch.web.context import WebContext
from fleetpatch.web.rendering import build_environment


def render_fragment(context: WebContext, template: str, **values: object) -> str:
    """Return a part of a page. It is the same for everybody: no part may depend on who looks at it.

    Args:
        context: the shared objects.
        template: the name of the template, in fleetpatch/pages/templates.
        values: the template's values.
    """
    loaded_template = build_environment().get_template(template)
    return loaded_template.render(settings=context.settings, now=context.clock.now(), **values)
