#!/bin/sh
# Installs what the tests need from the distribution: Spin and gcc for the model, Chromium for the SDK in a browser,
# nginx and HAProxy for the configurations in deploy/, PgBouncer, ip and nft for networks that are cut, tinyproxy and dante
# for agents behind a proxy; what the agent's unit needs: systemd-analyze, systemctl and systemd-notify, and Python to hear
# what that says; a systemd to be booted, and setpriv and pgrep for it; busybox, curl and wget for a root without Node; and
# libfaketime for clocks that jump. The tests start these themselves: no service is to run.
# Asks apt-get only for what is missing, and only as root on a Debian; elsewhere it says what is missing and ends with 0,
# for the tests themselves decide whether that is a failure (CI=true) or a skip.
set -u
# Debian keeps some of them where only root's PATH leads.
PATH=$PATH:/usr/sbin:/sbin
wanted=""
need() { command -v "$1" >/dev/null 2>&1 || wanted="$wanted $2"; }
need spin spin
need gcc gcc
# A compiler without the C library's headers cannot build Spin's searches.
[ -e /usr/include/stdio.h ] || wanted="$wanted libc6-dev"
need chromium chromium
need chromedriver chromium-driver
need nginx nginx-light
# The program alone does not say it: TLS pass-through is a module of its own here.
[ -e /usr/lib/nginx/modules/ngx_stream_module.so ] || wanted="$wanted libnginx-mod-stream"
need haproxy haproxy
need pgbouncer pgbouncer
need ip iproute2
need nft nftables
need tinyproxy tinyproxy-bin
need danted dante-server
need systemd-analyze systemd
need setpriv util-linux
need pgrep procps
need useradd passwd
need python3 python3-minimal
need busybox busybox-static
need curl curl
need wget wget
# A library that lies about the time, for a clock that jumps.
ls /usr/lib/*/faketime/libfaketime.so.1 >/dev/null 2>&1 || wanted="$wanted libfaketime"
[ -n "$wanted" ] || exit 0
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
  echo "missing test tools:$wanted (install them as root, or let their tests be skipped)" >&2
  exit 0
fi
export DEBIAN_FRONTEND=noninteractive
# Debian starts a service it installs, on ports that may be others'; a policy that says 101 forbids it. What there is stays.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy"
  trap 'rm -f "$policy"' EXIT
fi
# The lists may be old or absent; try what is there first, for an update costs more than the install.
# shellcheck disable=SC2086
apt-get install -qy --no-install-recommends $wanted >/dev/null 2>&1 && exit 0
apt-get update -q >/dev/null || exit 1
# shellcheck disable=SC2086
apt-get install -qy --no-install-recommends $wanted >/dev/null
