"""What holds for all tests: an example of hypothesis may take its time, and a run has the examples of the run before."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

# How long one example takes tells how busy the machine is, and nothing of the code.
settings.register_profile("searching", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# The same code passes or fails each time; new examples are sought on purpose: `pytest --hypothesis-profile searching`.
settings.register_profile("same", settings.get_profile("searching"), derandomize=True)
settings.load_profile("same")


@pytest.fixture(autouse=True)
def nobodys_log() -> Iterator[None]:
    """A command that a test runs sets up the log for the screen; the next test begins with one that nobody has set up. Where
    our logger hands nothing on, pytest puts caplog's handler on it beside the root's, and who has it hand on again hears
    each line twice."""
    root = logging.getLogger()
    handlers = root.handlers
    _hand_on()
    yield
    root.handlers = handlers
    _hand_on()


def _hand_on() -> None:
    own = logging.getLogger("cpt_ray")
    own.handlers, own.propagate = [], True
    own.setLevel(logging.NOTSET)


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """A bucket of an S3 server that runs here on loopback, as `s3://...`; the environment names it, as it would another."""
    import boto3
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    environment = {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
    }
    with pytest.MonkeyPatch.context() as patched:
        for name, value in environment.items():
            patched.setenv(name, value)
        boto3.client("s3", region_name="us-east-1", endpoint_url=environment["AWS_ENDPOINT_URL"]).create_bucket(
            Bucket="corpus"
        )
        yield "s3://corpus"
    server.stop()
