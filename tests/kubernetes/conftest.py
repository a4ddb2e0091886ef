"""What a cluster would be given, rendered once."""

import pytest

from tests.kubernetes.manifests import BASE, MONITORING, SITE, Rendering, render


@pytest.fixture(scope="session")
def base() -> Rendering:
    return render(BASE)


@pytest.fixture(scope="session")
def site() -> Rendering:
    return render(SITE)


@pytest.fixture(scope="session")
def monitoring() -> Rendering:
    return render(MONITORING)


@pytest.fixture(params=[BASE, SITE], ids=lambda path: path.name)
def rendering(request: pytest.FixtureRequest) -> Rendering:
    """The base, and what a site makes of it."""
    return render(request.param)
