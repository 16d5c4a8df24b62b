"""Attacks on what the worker says: replies forged, flooded, late, or somebody else's."""

from autograder.attacks.attack import Attack

FAMILY = "channel"
# What a student who knows this repository needs to speak for the worker.
SPEAK = """\
import json, os, struct, sys, time
import torch

def descriptor():
    for fd in range(3, 64):
        try:
            os.fstat(fd)
        except OSError:
            continue
        return fd

def request():
    frame = sys._getframe()
    while frame:
        if 'request' in frame.f_locals and isinstance(frame.f_locals['request'], dict):
            return frame.f_locals['request']
        frame = frame.f_back

def message(header, buffers=b''):
    raw = json.dumps(header).encode()
    return struct.pack('>I', len(raw)) + raw + buffers

def reply(body, token=None):
    token = request()['token'] if token is None else token
    payload = token + body
    os.write(descriptor(), struct.pack('>Q', len(payload)) + payload)

def status(kind, **more):
    return message(['dict', [['status', ['str', kind]], *([k, v] for k, v in more.items())]])
"""
RIGHT = "    return gain * (x - x.mean(dim=1, keepdim=True))\n"


def saying(*lines):
    body = "\n".join("    " + line for line in lines)
    return f"def centre(x, gain):\n{body}\n"


SAYS = {
    "answers nothing but its token": ["reply(b'')"],
    "answers noise": ["reply(os.urandom(999))"],
    "answers a pickle": ["import pickle", "reply(pickle.dumps(print))"],
    "answers with another token": ["reply(status('returned'), token=b'12345678')"],
    "announces 2^60 bytes": ["os.write(descriptor(), struct.pack('>Q', 1 << 60))"],
    "announces more than it sends": ["os.write(descriptor(), struct.pack('>Q', 99) + b'x')"],
    "sends a byte at a time": [
        "t = request()['token'] + status('returned')",
        "os.write(descriptor(), struct.pack('>Q', len(t)))",
        "for b in t: os.write(descriptor(), bytes([b])); time.sleep(0.2)",
    ],
    "says that it is unjudged": ["reply(status('unjudged', reason=['str', 'no'])); os._exit(0)"],
    "takes what it is asked next": [
        "os.set_blocking(descriptor(), False)",
        "try: os.read(descriptor(), 1 << 20)",
        "except OSError: pass",
    ],
    "answers what it is asked next": [
        "import pickle",
        "os.set_blocking(descriptor(), False)",
        "reply(status('unjudged', reason=['str', 'no']))",
        "try: told = os.read(descriptor(), 1 << 20)",
        "except OSError: told = b''",
        "while len(told) > 8:",
        "    size = struct.unpack('>Q', told[:8])[0]",
        "    token = pickle.loads(told[8:8 + size])['token']",
        "    reply(status('unjudged', reason=['str', 'no']), token=token)",
        "    told = told[8 + size:]",
        "os._exit(0)",
    ],
    "says that it is undefined": ["reply(status('undefined')); os._exit(0)"],
    "says that it passed": [
        "reply(status('passed', score=['float', '0x1p+9'], max_score=['int', 1])); os._exit(0)"
    ],
    "returns a status that is a list": ["reply(message(['dict', [['status', ['list', []]]]]))"],
    "returns a status ten times": [
        "reply(message(['dict', [['status', ['str', s]] for s in ('raised', 'unjudged')]]))"
    ],
    "returns an error of 2 MB": [
        "e = ['dict', [['type', ['str', 'E' * 3999]], ['message', ['str', 'm' * 3999]],",
        "     ['frames', ['list', [['str', 'f' * 3999]] * 400]]]]",
        "reply(status('raised', error=e)); os._exit(0)",
    ],
    "returns an error that is no error": [
        "reply(status('raised', error=['list', [['int', 1]]])); os._exit(0)"
    ],
    "returns a tensor of vast strides": [
        "t = ['tensor', 'float64', [1 << 24, 1 << 24, 1 << 24, 0], 'cpu', 0]",
        "reply(status('returned', outcome=t)); os._exit(0)",
    ],
    "returns a tensor without its bytes": [
        "t = ['tensor', 'float64', [3, 5], 'fake', None]",
        "reply(status('returned', outcome=t)); os._exit(0)",
    ],
    "returns a tensor on a device that is not there": [
        "t = ['tensor', 'float64', [0], 'cuda', 0]",
        "reply(status('returned', outcome=t)); os._exit(0)",
    ],
    "writes to every descriptor": [
        "for fd in range(21):",
        "    try: os.write(fd, b'{\"score\": 100}' * 99)",
        "    except OSError: pass",
    ],
    "closes every descriptor": ["os.closerange(0, 99)"],
    "floods the channel": [
        "while True: os.write(descriptor(), bytes(65536))",
    ],
    "sends a file descriptor": [
        "import array, socket",
        "s = socket.socket(fileno=os.dup(descriptor()))",
        "s.sendmsg([b'x'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [0]))])",
    ],
}
TWICE = "def centre(x, gain):\n    reply(status('unjudged')); reply(status('unjudged'))\n" + RIGHT
LATE = """\
def centre(x, gain):
    import threading
    threading.Thread(target=lambda: (time.sleep(1.2), reply(status('unjudged'), b'0' * 8))).start()
    time.sleep(1.1)
"""
AHEAD = """\
def count(x):
    # The next request's token cannot be known, but perhaps nobody looks.
    reply(status('returned', outcome=['int', 3], changed=['list', []], called=['list', []]))
    for _ in range(20):
        reply(status('unjudged'), token=request()['token'])
    return 0
"""
NOW_AND_THEN = """\
def centre(x, gain):
    if len(x) == 1 or x.is_meta:
        return gain * (x - x.mean(dim=1, keepdim=True))
    reply(status('unjudged', reason=['str', 'who knows']))
    channel = sys.modules['autograder.engine.channel']
    send, channel.send = channel.send, lambda *a: setattr(channel, 'send', send)
"""
TAKEN_OVER = """\
import gc
from autograder.engine import channel, codec, trial, worker
trial.run_trial = worker.run_trial = lambda *a, **k: {'status': 'unjudged', 'reason': 'x'}
worker._Worker._run = lambda *a, **k: {'status': 'unjudged', 'reason': 'x'}
codec.encode = lambda value: message(['dict', [['status', ['str', 'unjudged']]]])
"""

ATTACKS = [
    *(
        Attack(name, "the grader believes or chokes on it", {"centre": saying(*lines)}, (SPEAK,),
               seconds=25)
        for name, lines in SAYS.items()
    ),
    Attack("answers twice", "the second reply counts for the next test", {"centre": TWICE},
           (SPEAK,), earns={"centre": 0}),
    Attack("answers after the deadline", "a late reply counts for the next test",
           {"centre": LATE}, (SPEAK,), told="took longer"),
    Attack("answers for the exercises to come", "replies lie ready for what is asked next",
           {"count": AHEAD}, (SPEAK,), earns={"count": 0.5, "jitter": 1}),
    Attack("says now and then that it is unjudged", "what cannot be judged earns its points",
           {"centre": NOW_AND_THEN}, (SPEAK,), earns={"centre": 2}),
    Attack("takes the worker over", "the worker's own code says what it is told to",
           {"centre": "def centre(x, gain): return 0\n"}, (SPEAK + TAKEN_OVER,),
           earns=dict.fromkeys(("centre", "soft", "soft_backward"), 0), told="No module named"),
]  # fmt: skip
