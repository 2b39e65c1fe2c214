"""Runs the Milvus 2.3.5 of PyPI until standard input ends: python server.py RUN_DIR

Prints one line of JSON, {"port": …, "pid": …}, once the server is healthy. All its ports are free ones, and it calls itself by loopback
addresses; it has no setting for the address that it listens on. The server's own output goes to RUN_DIR/server.log.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import milvus

HEALTHY_MAX_S = 120
ROLES = ("rootCoord", "proxy", "queryCoord", "queryNode", "indexNode", "dataCoord", "dataNode")
SETTINGS = {
    # Segments stay as they were imported.
    "dataCoord.compaction.enableAutoCompaction": "false",
}


def free_ports(count):
    """Ports that nobody listens on; all are held at once, so that they differ."""
    sockets = [socket.socket() for _ in range(count)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def configure(run_dir):
    """Writes the settings files; returns the environment and the ports of clients and of health."""
    config = milvus.MilvusServerConfig(data_dir=run_dir)
    config.resolve_storage()
    names = [key for key in config.configurable_items if key.endswith("_port")]
    ports = dict(zip(names + ["peer", "health"], free_ports(len(names) + 2)))
    for name in names:
        config.set(name, ports[name])
    for role in ROLES:
        config.set(f"{role}.ip", "127.0.0.1")
    for key, value in SETTINGS.items():
        config.set(key, value)
    config.write_config()
    # The embedded etcd has its own file; without one it listens on 2379.
    client, peer = (f"http://127.0.0.1:{ports[name]}" for name in ("etcd_port", "peer"))
    etcd = {
        "name": "default",
        "data-dir": os.path.join(run_dir, "data", "etcd.data"),
        "listen-client-urls": client,
        "advertise-client-urls": client,
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
        "initial-cluster": f"default={peer}",
    }
    etcd_file = os.path.join(run_dir, "configs", "etcd.yaml")
    with open(etcd_file, "w", encoding="utf-8") as out:
        out.writelines(f"{key}: {value}\n" for key, value in etcd.items())
    environment = dict(
        os.environ,
        DEPLOY_MODE="STANDALONE",
        ETCD_CONFIG_PATH=etcd_file,
        METRICS_PORT=str(ports["health"]),
        LD_LIBRARY_PATH=os.path.join(sys.prefix, "server", "bin"),
    )
    return environment, ports["proxy_port"], ports["health"]


def is_healthy(port):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=2) as answer:
            return b"OK" in answer.read()
    except (urllib.error.URLError, OSError):
        return False


def main():
    run_dir = os.path.abspath(sys.argv[1])
    environment, port, health = configure(run_dir)
    binary = os.path.join(sys.prefix, "server", "bin", "milvus")
    with open(os.path.join(run_dir, "server.log"), "wb") as log:
        command = [binary, "run", "standalone"]
        server = subprocess.Popen(command, cwd=run_dir, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.buffer.read(), ended.set()), daemon=True).start()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    try:
        deadline = time.monotonic() + HEALTHY_MAX_S
        while not is_healthy(health):
            if server.poll() is not None or ended.is_set() or time.monotonic() > deadline:
                sys.exit(f"the server did not come up (exit code {server.poll()}); see {run_dir}/server.log")
            time.sleep(0.1)
        print(json.dumps({"port": port, "pid": server.pid}), flush=True)
        while not ended.wait(0.2):
            if server.poll() is not None:
                sys.exit(f"the server died (exit code {server.returncode}); see {run_dir}/server.log")
    finally:
        # Its data is thrown away: there is nothing that it should put in order first.
        server.kill()
        server.wait()


main()
