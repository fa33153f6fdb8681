#!/usr/bin/env bash
# What: LlamaIndex's OpenAIEmbedding puts a space for each line feed of a text before it is sent, with every model and without
#   an option; LangChain's OpenAIEmbeddings does so for old models alone (names that end in 001).
# Versions: llama-index-embeddings-openai 0.7.0, llama-index-core 0.14.25, openai 3.57.0, Python 3.11.
# Expected: the text that was given is the text that is embedded.
# Seen: "def f(x):\n    # twice\n    return 2 * x" is sent as one line, in which the comment goes to the end.
# Why it matters: code, tables and poems are not what they were. Vectors of one index that came partly through LlamaIndex
#   and partly straight from the API are not of the same texts, and nothing says so; code models see Python without lines.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check \
  llama-index-embeddings-openai==0.7.0 llama-index-core==0.14.25 openai==3.57.0
cat > "$work/lines.py" <<'PYTHON'
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version

import openai
from llama_index.embeddings.openai import OpenAIEmbedding

sent = []


class Endpoint(BaseHTTPRequestHandler):
    """Notes what it is asked for, and answers with vectors of one number."""

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        sent.append(asked["input"])
        rows = [{"object": "embedding", "index": at, "embedding": [1.0]} for at in range(len(asked["input"]))]
        usage = {"prompt_tokens": 1, "total_tokens": 1}
        body = json.dumps({"object": "list", "data": rows, "model": "m", "usage": usage}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}/v1"
code = "def f(x):\n    # twice\n    return 2 * x"
client = OpenAIEmbedding(model_name="m", api_base=url, api_key="k")
client.get_text_embedding(code)
client.get_text_embedding_batch([code, code])
client.get_query_embedding(code)
openai.OpenAI(base_url=url, api_key="k").embeddings.create(model="m", input=[code], encoding_format="float")
print("llama-index-embeddings-openai", version("llama-index-embeddings-openai"))
for text in sent:
    print(repr(text))
joined = code.replace("\n", " ")
assert sent == [[joined], [joined, joined], [joined], [code]], "this changed"
print("as described: every line feed is a space, but not through the openai client itself")
PYTHON
"$work/venv/bin/python" "$work/lines.py"
