"""AWS SSO OIDC: botocore itself talks to it, over HTTP."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import botocore.session
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

from providers.simulator.logins.tokens import token_status
from tests.providers.simulator.logins.conftest import NOON, Vendors
from tests.providers.simulator.logins.device_client import DEVICE_GRANT
from tests.simulator_server import SimulatorServer

SCOPES = [
    "codewhisperer:completions",
    "codewhisperer:analysis",
    "codewhisperer:conversations",
]
BUILDER_ID = "https://view.awsapps.com/start"
COMPANY = "https://d-1234567890.awsapps.com/start"


@pytest.fixture
def oidc(simulator: SimulatorServer) -> Iterator[Any]:
    simulator.world.set_clock(NOON)
    client = botocore.session.Session().create_client(
        "sso-oidc",
        region_name="us-east-1",
        endpoint_url=f"{simulator.url}/aws-oidc",
        config=Config(signature_version=UNSIGNED, retries={"total_max_attempts": 1}),
    )
    yield client
    client.close()


def register(oidc: Any) -> dict[str, str]:
    answer = oidc.register_client(
        clientName="Test client",
        clientType="public",
        scopes=SCOPES,
        grantTypes=[DEVICE_GRANT, "refresh_token"],
    )
    return {"clientId": answer["clientId"], "clientSecret": answer["clientSecret"]}


def error(call: Callable[[], object]) -> tuple[str, int]:
    with pytest.raises(ClientError) as caught:
        call()
    response = caught.value.response
    # The members of the exception's shape, as botocore parsed them.
    assert response["error"]
    assert response["error_description"]
    status: int = response["ResponseMetadata"]["HTTPStatusCode"]
    return type(caught.value).__name__, status


def test_botocore_signs_in_and_refreshes(oidc: Any, simulator: SimulatorServer) -> None:
    client = register(oidc)
    started = oidc.start_device_authorization(**client, startUrl=BUILDER_ID)
    assert started["verificationUri"] == f"{simulator.url}/aws-oidc/device"
    assert started["userCode"] in started["verificationUriComplete"]

    def poll() -> Any:
        return oidc.create_token(**client, grantType=DEVICE_GRANT, deviceCode=started["deviceCode"])

    assert error(poll) == ("SlowDownException", 400)
    simulator.world.advance(6)
    assert error(poll) == ("AuthorizationPendingException", 400)
    simulator.control("logins/approve", {"user_code": started["userCode"], "account": "ada"})
    simulator.world.advance(6)
    token = poll()
    assert token["accessToken"].startswith("aoaAAAAAG")
    assert len(token["refreshToken"]) > 100
    assert (token["tokenType"], token["expiresIn"]) == ("Bearer", 3600)
    assert token_status(simulator.world, "kiro", token["accessToken"]) == "valid"
    simulator.world.advance(6)
    assert error(poll) == ("InvalidGrantException", 400)

    def refresh(value: str, **who: str) -> Any:
        who = who or client
        return oidc.create_token(**who, grantType="refresh_token", refreshToken=value)

    simulator.world.advance(3600)
    assert token_status(simulator.world, "kiro", token["accessToken"]) == "expired"
    fresh = refresh(token["refreshToken"])
    assert token_status(simulator.world, "kiro", fresh["accessToken"]) == "valid"
    # A refresh token belongs to the registration it was issued to.
    other = register(oidc)
    assert error(lambda: refresh(fresh["refreshToken"], **other)) == ("InvalidGrantException", 400)
    simulator.world.advance(28 * 86_400)
    assert error(lambda: refresh(fresh["refreshToken"])) == ("ExpiredTokenException", 400)
    simulator.world.advance(90 * 86_400)
    assert error(lambda: refresh(fresh["refreshToken"])) == ("InvalidClientException", 401)


def test_botocore_sees_denied_and_expired(oidc: Any, simulator: SimulatorServer) -> None:
    client = register(oidc)
    codes = [oidc.start_device_authorization(**client, startUrl=BUILDER_ID) for _ in range(2)]

    def poll(started: Any) -> Any:
        return oidc.create_token(**client, grantType=DEVICE_GRANT, deviceCode=started["deviceCode"])

    simulator.control("logins/deny", {"user_code": codes[0]["userCode"]})
    simulator.world.advance(1)
    assert error(lambda: poll(codes[0])) == ("AccessDeniedException", 400)
    simulator.world.advance(600)
    assert error(lambda: poll(codes[1])) == ("ExpiredTokenException", 400)
    assert simulator.rules() == []


def test_botocore_sees_what_it_did_wrong(oidc: Any) -> None:
    client = register(oidc)
    wrong = {**client, "clientSecret": "guessed"}

    def start(**who: str) -> Any:
        return oidc.start_device_authorization(**who)

    def registered(**changed: Any) -> Any:
        asked = {"clientName": "Test", "clientType": "public"} | changed
        return oidc.register_client(**asked)

    invalid_client = ("InvalidClientException", 401)
    assert error(lambda: start(**wrong, startUrl=BUILDER_ID)) == invalid_client
    url = "https://awsapps.com.evil.test/start"
    assert error(lambda: start(**client, startUrl=url)) == ("InvalidRequestException", 400)
    assert error(lambda: registered(clientType="confidential")) == (
        "InvalidClientMetadataException",
        400,
    )
    assert error(lambda: registered(scopes=["s3:everything"])) == ("InvalidScopeException", 400)
    browser = registered(grantTypes=["authorization_code"])
    who = {"clientId": browser["clientId"], "clientSecret": browser["clientSecret"]}
    assert error(lambda: start(**who, startUrl=BUILDER_ID)) == (
        "UnauthorizedClientException",
        400,
    )
    password = {**client, "grantType": "password"}
    assert error(lambda: oidc.create_token(**password)) == ("UnsupportedGrantTypeException", 400)


def test_the_registration_says_when_it_ends(oidc: Any) -> None:
    answer = oidc.register_client(clientName="Test client", clientType="public")
    issued = datetime.fromtimestamp(answer["clientIdIssuedAt"], UTC)
    assert issued == NOON
    assert answer["clientSecretExpiresAt"] - answer["clientIdIssuedAt"] == 90 * 86_400


REGISTER = {"clientName": "Test client", "clientType": "public", "scopes": SCOPES}


def test_each_region_has_its_own_clients_and_directories(vendors: Vendors) -> None:
    def start(region: str, who: dict[str, str], url: str) -> tuple[int, str]:
        body = {**who, "startUrl": url}
        reply = vendors.post(f"/aws-oidc/{region}/device_authorization", body)
        return reply.status, reply.json().get("error", "")

    def client(region: str) -> dict[str, str]:
        found = vendors.post(f"/aws-oidc/{region}/client/register", REGISTER).json()
        return {name: found[name] for name in ("clientId", "clientSecret")}

    home, abroad = client("us-east-1"), client("eu-west-1")
    assert start("us-east-1", home, BUILDER_ID) == (200, "")
    assert start("eu-west-1", abroad, COMPANY) == (200, "")
    assert start("us-east-1", home, COMPANY) == (400, "invalid_request")
    assert start("us-east-1", abroad, BUILDER_ID) == (401, "invalid_client")


def test_a_form_is_refused(vendors: Vendors) -> None:
    reply = vendors.form("/aws-oidc/client/register", REGISTER)
    assert (reply.status, reply.error) == (400, "invalid_request")
    assert reply.headers["x-amzn-errortype"] == "InvalidRequestException"
    assert vendors.rules() == ["content_type"]
