"""How hard the property tests look: the default at every save, "ci" for every change, "thorough" before a release.

HYPOTHESIS_PROFILE names it. Tests whose examples are expensive take a share: ``settings().max_examples // 2``.
"""

import os

from hypothesis import settings

settings.register_profile("default", max_examples=20, deadline=None)
settings.register_profile("ci", max_examples=100, deadline=None, derandomize=True)
settings.register_profile("thorough", max_examples=1000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))
