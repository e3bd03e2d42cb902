# Tells herdbook what became of each task, one JSON object a line, in the file that
# HERDBOOK_REPORT names. What people read is left to the callback of the standard output.
from __future__ import annotations

import json
import os
import time

from ansible import release
from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
    name: herdbook
    type: notification
    short_description: tell herdbook what became of each task
    description:
      - Writes one JSON object a line into the file that the environment names.
"""

# Bytes of a text of a module, from its end.
MOST = 4000


def texts(result):
    """What a module says of itself."""
    said = {}
    for name in ("msg", "stderr", "stdout", "module_stderr", "module_stdout", "exception", "censored"):
        value = result.get(name)
        if value is None or value == "":
            continue
        if not isinstance(value, str):
            value = json.dumps(value, default=str)
        said[name] = value[-MOST:]
    for module in (result.get("failed_modules") or {}).values():  # of fact gathering
        for name, text in texts(module).items():
            said.setdefault(name if name != "msg" else "stderr", text)
    return said


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "herdbook"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.report = open(os.environ["HERDBOOK_REPORT"], "a", encoding="ascii")
        self.started = {}

    def tell(self, **what):
        self.report.write(json.dumps(what, default=str) + "\n")
        self.report.flush()

    def ended(self, status, result, ignored=False, event="task"):
        host, task = result._host.get_name(), result._task
        begun = self.started.get((host, task._uuid))
        what = {
            "event": event,
            "status": status,
            "host": host,
            "task": task.get_name(),
            "action": task.action,
            "path": task.get_path() or "",
            "ignored": bool(ignored),
            "seconds": 0 if begun is None else time.monotonic() - begun,
        }
        if status in ("failed", "unreachable"):
            what.update(texts(result._result))
        self.tell(**what)

    def v2_playbook_on_start(self, playbook):
        self.tell(event="start", version=release.__version__)

    def v2_playbook_on_play_start(self, play):
        self.tell(event="play", name=play.get_name())

    def v2_runner_on_start(self, host, task):
        self.started[(host.get_name(), task._uuid)] = time.monotonic()

    def v2_runner_on_ok(self, result):
        self.ended("changed" if result._result.get("changed") else "ok", result)

    def v2_runner_on_skipped(self, result):
        self.ended("skipped", result)

    def v2_runner_on_failed(self, result, ignore_errors=False):
        self.ended("failed", result, ignore_errors)

    def v2_runner_on_unreachable(self, result):
        self.ended("unreachable", result, getattr(result._task, "ignore_unreachable", False))

    def v2_runner_item_on_failed(self, result):
        self.ended("failed", result, event="item")

    def v2_playbook_on_stats(self, stats):
        self.tell(event="stats", hosts={host: stats.summarize(host) for host in stats.processed})
