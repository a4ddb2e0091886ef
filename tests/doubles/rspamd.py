"""A private Rspamd with a few rules of its own, which the message itself drives; nothing leaves the machine.

What a message can ask for, in fields of its header:

    X-BQ-Score: 7           that score; 4 greylist, 6 add header, 8 rewrite subject, 15 reject
    X-BQ-Action: discard    that action, with the text of X-BQ-Message
    X-BQ-Milter: {...}      that milter reply, as JSON
    X-BQ-Facts: yes         a field X-BQ-Facts-Seen with what Rspamd was told about the message
    X-BQ-Sign: 1            so many DKIM signatures by signing.example; "field": one as a field to add
    X-BQ-Slow: why          an answer only when Rspamd's own time is up; its log says "waiting: why"
"""

import contextlib
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bqfilter.net.address import Endpoint, resolve
from tests.daemons.process import Daemon, answers
from tests.doubles.components import program
from tests.doubles.programs import children_of, eventually, short_directory, title_of
from tests.postfix.postfix_instance import free_ports

PASSWORD = "bqtest-pw"
_HOST = "127.0.0.1"
_PING = b"GET /ping HTTP/1.0\r\n\r\n"

# A short list of top-level domains makes the start a matter of a second and not of ten. The name server is a
# socket that nobody reads, so what waits for it waits until the end of the task.
_CONFIG = """\
lua = "{dir}/bq.lua";
modules {{ path = "${{PLUGINSDIR}}"; }}
options {{
  pidfile = "{dir}/run/rspamd.pid"; tempdir = "{dir}/run";
  control_socket = "{dir}/run/control.sock mode=0600";
  cache_file = "{dir}/db/symbols.cache"; history_file = "{dir}/db/history"; dynamic_conf = "{dir}/db/dyn";
  stats_file = "{dir}/db/stats.ucl"; hs_cache_dir = "{dir}/db/";
  filters = "regexp,dkim"; explicit_modules = ["settings"];
  dns {{ nameserver = ["{host}:{dns}"]; timeout = 30s; retransmits = 5; sockets = 1; }}
  url_tld = "{dir}/tld.dat"; enable_test_patterns = true; max_message = 5M;
  task_timeout = {seconds}s; soft_reject_on_timeout = true;
}}
logging {{ type = "console"; level = "info"; log_buffered = false; }}
worker "normal" {{
  bind_socket = "{host}:{normal}"; bind_socket = "{dir}/run/normal.sock mode=0666";
  count = 1; task_timeout = {seconds}s;
}}
worker "controller" {{
  bind_socket = "{host}:{controller}"; count = 1; password = "{password}"; secure_ip = [];
}}
actions {{
  reject = 15; add_header = 6; rewrite_subject = 8; greylist = 4; subject = "***SPAM*** %s";
  quarantine = {{ flags = ["no_threshold"]; }} discard = {{ flags = ["no_threshold"]; }}
}}
milter_headers {{
  use = ["x-spamd-bar", "x-spam-status", "remove-headers"]; extended_spam_headers = true;
  skip_local = false; skip_authenticated = false; local_headers = [];
  routines {{ remove-headers {{ headers {{ "X-Spam-Gone" = 0; }} }} }}
}}
settings {{}}
"""

_RULES = r"""
local ucl = require "ucl"
local logger = require "rspamd_logger"
local lua_mime = require "lua_mime"
local function field(task, name)
  local value = task:get_header(name)
  if value then return (value:gsub('^%s+', ''):gsub('%s+$', '')) end
end
local function recipients(task)
  local out = {}
  for _, one in ipairs(task:get_recipients('smtp') or {}) do out[#out + 1] = one.addr end
  return table.concat(out, '|')
end
rspamd_config:add_condition('DKIM_CHECK', function() return false end)  -- signs, and asks no name server
rspamd_config:register_symbol{ name = 'BQ_DRIVE', type = 'prefilter', priority = 10, callback = function(task)
  local action = field(task, 'X-BQ-Action')
  local text = field(task, 'X-BQ-Message')
  if action then task:set_pre_result{ action = action, message = text, module = 'bq' } end
  local milter = field(task, 'X-BQ-Milter')
  if milter then
    local parser = ucl.parser()
    if parser:parse_string(milter) then task:set_milter_reply(parser:get_object()) end
  end
  if field(task, 'X-BQ-Facts') then
    local from = task:get_from('smtp')
    local ip = task:get_ip()
    local seen = {
      from = from and from[1].addr or 'none', rcpt = recipients(task), helo = task:get_helo() or 'none',
      ip = ip and ip:is_valid() and ip:to_string() or 'none', hostname = task:get_hostname() or 'none',
      queue = tostring(task:get_request_header('Queue-Id') or 'none'),
      mta = tostring(task:get_request_header('MTA-Name') or 'none'),
      deliver = tostring(task:get_request_header('Deliver-To') or 'none'), size = task:get_size(),
    }
    task:set_milter_reply{ add_headers = { ['X-BQ-Facts-Seen'] = ucl.to_format(seen, 'json-compact') } }
  end
end }
rspamd_config:register_symbol{ name = 'BQ_SIGN', type = 'normal', callback = function(task)
  local how = field(task, 'X-BQ-Sign')
  local as_field = how == 'field'
  for _ = 1, as_field and 1 or tonumber(how or '0') do
    local _, signature = rspamd_plugins.dkim.sign(task, {
      domain = 'signing.example', selector = 'sel', key = 'DIR/dkim.key', no_cache = as_field,
    })
    if as_field then
      lua_mime.modify_headers(task, { add = { ['DKIM-Signature'] = { order = 1, value = signature } } })
    end
  end
  return false
end }
rspamd_config:register_symbol{ name = 'BQ_SCORE', type = 'normal', score = 1.0, callback = function(task)
  local score = tonumber(field(task, 'X-BQ-Score') or '')
  if score then return true, score, 'opt1', 'opt2' end
  return false
end }
rspamd_config:register_symbol{ name = 'BQ_SLOW', type = 'normal', callback = function(task)
  local why = field(task, 'X-BQ-Slow')
  if why then
    logger.infox(task, 'waiting: %s', why)
    task:get_resolver():resolve('a', { task = task, name = 'slow.example.com', callback = function() end })
  end
  return false
end }
"""


@dataclass(slots=True)
class RspamdDaemon(Daemon):
    """A running Rspamd: one normal worker behind `inet` and `unix`, a `controller` that wants PASSWORD."""

    controller: Endpoint

    def is_ready(self) -> bool:
        """Both workers answer; a process that has ended fails at once, with what it wrote."""
        if self.process.poll() is not None:
            raise AssertionError(f"rspamd ended with {self.process.returncode}:\n{self.log()}")
        return all(answers(resolve(one)[0], _PING, b"HTTP/1.") for one in (self.inet, self.controller))

    def worker(self) -> int:
        """The pid of the normal worker."""
        return next(pid for pid in children_of(self.process.pid) if "normal" in title_of(pid))

    def signing_key(self) -> bytes:
        """The TXT record of its DKIM key."""
        text = (self.directory / "dkim.txt").read_text()
        return "".join(re.findall(r'"([^"]*)"', text)).encode("ascii")

    def wait_until_ready(self) -> None:
        try:
            eventually(self.is_ready, "rspamd answers", 60.0)
        except AssertionError as failure:
            raise AssertionError(f"{failure}\n{self.log()}") from None


@contextlib.contextmanager
def running_rspamd(task_timeout: int = 60) -> Iterator[RspamdDaemon]:
    """A private one in a directory of its own, ready.

    `task_timeout` is how many seconds it gives itself over a message.
    """
    program("rspamd", "rspamd")
    with short_directory("bqrs-") as directory, socket.socket(type=socket.SOCK_DGRAM) as name_server:
        name_server.bind((_HOST, 0))
        daemon = _start(directory, name_server.getsockname()[1], task_timeout)
        try:
            daemon.wait_until_ready()
            yield daemon
        finally:
            daemon.stop()


def _start(directory: Path, dns: int, seconds: int) -> RspamdDaemon:
    normal, controller = free_ports(_HOST, ["normal", "controller"]).values()
    for name in ("run", "db"):
        (directory / name).mkdir()
    config = _CONFIG.format(
        dir=directory, host=_HOST, dns=dns, normal=normal, controller=controller,
        password=PASSWORD, seconds=seconds,
    )  # fmt: skip
    (directory / "rspamd.conf").write_text(config)
    (directory / "bq.lua").write_text(_RULES.replace("DIR", str(directory)))
    _make_signing_key(directory)
    (directory / "tld.dat").write_text("com\nnet\norg\nexample\n")
    return RspamdDaemon(
        directory,
        _spawn(directory),
        unix=Endpoint("unix", path=f"{directory}/run/normal.sock"),
        inet=Endpoint("inet", _HOST, normal),
        controller=Endpoint("inet", _HOST, controller),
    )


def _make_signing_key(directory: Path) -> None:
    command = ["rspamadm", "dkim_keygen", "-d", "signing.example", "-s", "sel", "-b", "1024"]
    key = directory / "dkim.key"
    made = subprocess.run([*command, "-k", str(key)], capture_output=True, text=True, check=True, timeout=60)
    (directory / "dkim.txt").write_text(made.stdout)
    key.chmod(0o644)  # Rspamd reads it as another user


def _spawn(directory: Path) -> subprocess.Popen[bytes]:
    command = ["rspamd", "-f", "-c", f"{directory}/rspamd.conf"]
    if os.geteuid() == 0:
        command += ["-u", "_rspamd", "-g", "_rspamd"]
        for name in ("run", "db"):
            shutil.chown(directory / name, "_rspamd", "_rspamd")
    with (directory / "output").open("wb") as log:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
