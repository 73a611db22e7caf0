"""Cost of a model request: `forwhy ask` against inspect_ai, paired, on one mock server.

    bench_requests.py FORWHY [--rounds 5] [--samples 500] [--json]

FORWHY is a release build of the command. Run it with the Python of an environment that has
inspect_ai and openai; without inspect_ai the peer's figures are null, and it is said why.

Both send the same chats (about 9 kB) to `forwhy mock`, which answers at once with 300 words, and
both write a log; ours also keeps to limits and a budget. Rounds alternate: ours, peer, ours, peer. CPU and memory are those of the child
process as the kernel counts them (wait4). The cost of a request is marginal: the CPU of a run with
all samples less that of a run with one, over the difference in samples. Medians of the rounds.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

SYSTEM = "You are Alex, an AI agent at a consulting firm. " * 20
USER = "Please go over your inbox and answer the urgent e-mails. " * 140
SCRIPT = "latency_ms = [{0}, {0}]\n[[replies]]\nwords = 300\n"


def peer(base, samples, connections, folder):
    """The peer's run, in a process of its own: best settings, as its users know them."""
    os.environ.update(MOCK_API_KEY="x", MOCK_BASE_URL=base, INSPECT_DISPLAY="none")
    from inspect_ai import Task
    from inspect_ai import eval as evaluate
    from inspect_ai.dataset import MemoryDataset, Sample
    from inspect_ai.scorer import includes
    from inspect_ai.solver import generate, system_message

    rows = [Sample(id=i + 1, input=f"[{i}] {USER}", target="inbox") for i in range(samples)]
    task = Task(
        dataset=MemoryDataset(rows),
        solver=[system_message(SYSTEM), generate(temperature=1.0, top_p=1.0, max_tokens=400)],
        scorer=includes(),
    )
    log = evaluate(
        task,
        model="openai-api/mock/m",
        max_connections=connections,
        max_samples=connections,
        log_dir=folder,
        log_realtime=False,
        log_model_api=False,
    )[0]
    assert log.status == "success" and len(log.samples) == samples, log.status


def child(command):
    """CPU seconds, peak megabytes and wall seconds of a command."""
    start = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.monotonic() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"{command[:3]} failed: {said.decode(errors='replace')[-2000:]}")
    return {"cpu": usage.ru_utime + usage.ru_stime, "mb": usage.ru_maxrss / 1024, "wall": wall}


class Mock:
    """`forwhy mock`, with a latency in milliseconds."""

    def __init__(self, forwhy, folder, latency):
        script = os.path.join(folder, f"mock-{latency}.toml")
        with open(script, "w") as out:
            out.write(SCRIPT.format(latency))
        self.process = subprocess.Popen([forwhy, "mock", script], stdout=subprocess.PIPE, text=True)
        self.base = self.process.stdout.readline().strip()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()


def ours(forwhy, base, samples, connections, folder):
    """Our run, each time on a new ledger."""
    folder = tempfile.mkdtemp(dir=folder)
    requests = os.path.join(folder, "requests.jsonl")
    sampling = {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "max_tokens": 400, "stop": [],
                "seed": 0, "logprobs": False}
    with open(requests, "w") as out:
        for i in range(samples):
            chat = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": f"[{i}] {USER}"}]
            out.write(json.dumps({"id": f"s{i}", "messages": chat, "sampling": sampling}) + "\n")
    model = os.path.join(folder, "model.toml")
    with open(model, "w") as out:
        out.write('dialect = "compatible"\nrevision = "mock"\n[settings]\nmodel = "m"\nsend_seed = true\n')
        out.write(f'[[endpoint]]\nurl = "{base}"\n[price]\nprompt = 0\ncompletion = 0\n')
        out.write(f"[limits]\nconnections = {connections}\nstart = {connections}\n")
    command = [forwhy, "ask", requests, "--model", model, "--ledger", os.path.join(folder, "ledger")]
    first = child(command)
    return first, child(command)


def measure(forwhy, rounds, samples, with_peer):
    """The raw figures of every round."""
    raw = {"ours": [], "peer": []}
    with tempfile.TemporaryDirectory() as folder, Mock(forwhy, folder, 0) as fast, \
            Mock(forwhy, folder, 200) as slow:
        for _ in range(rounds):
            all_, again = ours(forwhy, fast.base, samples, 100, folder)
            one, start = ours(forwhy, fast.base, 1, 1, folder)
            wide, _ = ours(forwhy, slow.base, samples, 200, folder)
            raw["ours"].append({"all": all_, "again": again, "one": one, "start": start, "wide": wide})
            if not with_peer:
                continue
            runs = {}
            for name, base, count, connections in [
                ("all", fast.base, samples, 100), ("one", fast.base, 1, 1), ("wide", slow.base, samples, 200),
            ]:
                command = [sys.executable, __file__, "--peer", base, str(count), str(connections),
                           tempfile.mkdtemp(dir=folder)]
                runs[name] = child(command)
            raw["peer"].append(runs)
    return raw


def table(raw, samples):
    """Rows of `{name, ours, peer, ratio, unit}`; a ratio above 1 means that ours is better."""
    def median(side, figure):
        rounds = raw[side]
        return statistics.median(figure(r) for r in rounds) if rounds else None

    marginal = lambda r: 1000 * (r["all"]["cpu"] - r["one"]["cpu"]) / (samples - 1)
    rows = [
        ("CPU of a request", "ms", marginal, marginal),
        ("memory at 200 connections", "MB", lambda r: r["wide"]["mb"], lambda r: r["wide"]["mb"]),
        ("start to end of a run of one request, CPU", "s", lambda r: r["one"]["cpu"], lambda r: r["one"]["cpu"]),
        ("start to end of a run with nothing left to do, wall", "s", lambda r: r["start"]["wall"], lambda r: None),
    ]
    out = []
    for name, unit, of_ours, of_peer in rows:
        mine, theirs = median("ours", of_ours), None
        if raw["peer"] and of_peer(raw["peer"][0]) is not None:
            theirs = median("peer", of_peer)
        ratio = theirs / mine if theirs is not None and mine > 0 else None
        out.append({"name": name, "ours": mine, "peer": theirs, "ratio": ratio, "unit": unit})
    return out


def main():
    if sys.argv[1:2] == ["--peer"]:
        base, samples, connections, folder = sys.argv[2:]
        return peer(base, int(samples), int(connections), folder)
    parser = argparse.ArgumentParser()
    parser.add_argument("forwhy")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    try:
        from importlib.metadata import version
        peer_version = version("inspect_ai")
    except ImportError as missing:
        peer_version = None
        print(f"SKIPPED: peer: {missing}; run this with the Python of an environment that has it",
              file=sys.stderr)
    raw = measure(arguments.forwhy, arguments.rounds, arguments.samples, peer_version is not None)
    rows = table(raw, arguments.samples)
    if arguments.json:
        print(json.dumps(rows))
    else:
        print(f"inspect_ai {peer_version}, {arguments.rounds} rounds of {arguments.samples} samples")
        for row in rows:
            print("{name}: ours {ours}, peer {peer} {unit}, ratio {ratio}".format(**row))


if __name__ == "__main__":
    main()
