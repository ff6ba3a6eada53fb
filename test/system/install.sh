#!/bin/sh
# Installs the Debian packages whose programs the system tests use. Always ends with 0: a test whose program is missing
# is not run, and says so.
packages='mosquitto mosquitto-clients strace faketime openssl curl git systemd e2fsprogs mount'
PATH="$PATH:/usr/sbin:/sbin"
programs='mosquitto mosquitto_pub mosquitto_sub strace faketime openssl curl git systemd-analyze mkfs.ext4 mount'

missing=''
for program in $programs; do
  command -v "$program" >/dev/null 2>&1 || missing="$missing $program"
done
# Debian's kubectl beside a newer one that may be there: unpacked, not installed.
kubectl="${TMPDIR:-/tmp}/holdfast-system/kubernetes-client"
if [ ! -x "$kubectl/usr/bin/kubectl" ] && command -v apt-get >/dev/null 2>&1; then
  mkdir -p "$kubectl"
  if ! (cd "$kubectl" && apt-get download -qq kubernetes-client && dpkg -x kubernetes-client_*.deb . && rm -f ./*.deb) \
    >/dev/null 2>&1; then
    echo "test/system/install.sh: no kubernetes-client from apt-get; the tests use the kubectl that is there, if any"
  fi
fi

[ -z "$missing" ] && exit 0

if ! command -v apt-get >/dev/null 2>&1; then
  echo "test/system/install.sh: no apt-get here; tests of these programs are not run:$missing"
elif [ "$(id -u)" -ne 0 ]; then
  echo "test/system/install.sh: not root; tests of these programs are not run:$missing"
  echo "  to run them: sudo apt-get install --no-install-recommends $packages"
else
  echo "test/system/install.sh: installing for$missing"
  log="$(mktemp)"
  # Debian starts a broker with its package, on the port that a node's own may have: not here.
  policy=/usr/sbin/policy-rc.d
  if [ -e "$policy" ]; then policy=''; else printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy"; fi
  if apt-get update -qq >"$log" 2>&1 &&
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages >>"$log" 2>&1; then
    :
  else
    echo "test/system/install.sh: apt-get failed; tests of programs that are still missing are not run:"
    tail -n 20 "$log"
  fi
  rm -f "$log"
  [ -z "$policy" ] || rm -f "$policy"
fi
exit 0
