# Functions of the systemd stories. Sourced into a script that runs as root in the booted tree.

# wait_for SECONDS COMMAND…: until the command succeeds; fails when it has not by then.
wait_for() {
    local end=$((SECONDS + $1)); shift
    until "$@"; do
        [ $SECONDS -lt $end ] || { echo "not within the time: $*"; return 1; }
        sleep 0.05
    done
}

# The package, and the CA into the system's store: the jobs are Debian's own clients, with no variable set.
install() {
    make_upstream_ca
    dpkg --install /sluice.deb
    systemctl is-active sluice.service
    # What the gate sends comes from an address of its own: the server can tell it from what went round the agent.
    ip rule add pref 100 lookup local
    ip rule del pref 0
    ip rule add pref 10 uidrange "$(id -u sluice)-$(id -u sluice)" lookup 7
    ip route add local 203.0.113.0/24 dev lo src 203.0.113.254 table 7
    sluice trust install
}

# An authority of the world outside: the system trusts it, and so the gate does.
make_upstream_ca() {
    mkdir -p /tmp/outside && cd /tmp/outside
    local ec="-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
    openssl req -x509 $ec -keyout ca.key -out ca.pem -days 30 -subj "/CN=Outside Root" \
        -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign 2>/dev/null
    openssl req $ec -keyout server.key -out server.csr -subj /CN=outside.example 2>/dev/null
    printf '%s\n' subjectAltName=DNS:outside.example extendedKeyUsage=serverAuth basicConstraints=critical,CA:FALSE \
        keyUsage=critical,digitalSignature > extensions
    openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -days 20 -extfile extensions -out server.pem 2>/dev/null
    cp ca.pem /usr/local/share/ca-certificates/outside.crt
    update-ca-certificates >/dev/null 2>&1
    cd /
}

start_upstream() {
    : > /tmp/peers
    systemd-run --quiet --unit=upstream --property=Type=notify python3 /files/upstream.py
}

# legacy.service, tagged by the configuration.
intercept() {
    cat > /etc/systemd/system/legacy.service <<'UNIT'
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'echo "job: begins"; echo "job: got $(curl --silent --show-error --fail https://outside.example/hello)"; echo "job: ends"'
UNIT
    cat > /etc/systemd/system/load.service <<'UNIT'
[Service]
ExecStart=/usr/bin/python3 /files/load.py
UNIT
    cat >> /etc/sluice/sluice.toml <<'CONFIG'

[[intercept]]
name = "legacy"
unit = "legacy.service"

[[intercept]]
name = "load"
unit = "load.service"
CONFIG
    systemctl daemon-reload
    systemctl reload sluice.service
    wait_for 10 tagged
}
tagged() { sluice tags | grep -q load; }

# The unit's lines and what is about its processes, as `journalctl -u` shows it; written by journald a moment later.
unit_journal() {
    wait_for 10 sh -c "journalctl --no-pager --unit=$1 | grep -q 'job: ends'"
    journalctl --sync
    journalctl --no-pager --output=cat --unit="$1"
}

start_load() {
    : > /tmp/peers
    rm -f /tmp/load.ok /tmp/load.failed /tmp/load.times
    systemctl start load.service
    wait_for 20 test -s /tmp/load.ok
}
stop_load() {
    systemctl stop load.service
    # Answered to the client means written: the reader sees it as soon as the writer has flushed.
    wait_for 10 all_recorded || true
    echo "ok=$(lines /tmp/load.ok)"
    echo "failed=$(lines /tmp/load.failed)"
    echo "direct=$(grep -c ^direct /tmp/peers || true)"
    echo "recorded=$(recorded)"
    cat /tmp/load.times
    head -5 /tmp/load.failed 2>/dev/null || true
}
# Packets on their way outside that are not the agent's.
start_sniffer() {
    systemd-run --quiet --unit=sniffer python3 /files/sniff.py
    wait_for 10 test -e /tmp/strays
}
stop_sniffer() { systemctl stop sniffer; cat /tmp/strays; }
lines() { if [ -e "$1" ]; then wc -l < "$1"; else echo 0; fi; }
recorded() { sluice sessions --json --tag load --limit 1000000 | grep -c '"status":200' || true; }
all_recorded() { [ "$(recorded)" -ge "$(lines /tmp/load.ok)" ]; }
# await_more N: until the load has had N more answers.
await_more() {
    local from; from=$(lines /tmp/load.ok)
    wait_for 60 sh -c "[ \$(wc -l < /tmp/load.ok) -ge $((from + $1)) ]"
}

# A stream is under way, and will be until it is released.
hold_stream() {
    touch /tmp/hold
    wait_for 30 test -s /tmp/held
}
# The held ones end, and were whole.
release_stream() {
    rm /tmp/hold
    wait_for 30 held_ended
    echo "held until now: $(lines /tmp/held)"
    rm /tmp/held
}
held_ended() { ! grep --line-regexp --invert-match --quiet --file=/tmp/load.ok /tmp/held; }

# await_refused N: until the load has been refused N more times.
await_refused() {
    local from; from=$(lines /tmp/load.failed)
    wait_for 30 sh -c "[ -e /tmp/load.failed ] && [ \$(wc -l < /tmp/load.failed) -ge $((from + $1)) ]"
    tail -1 /tmp/load.failed
}

warden_pid() { systemctl show --property=MainPID --value sluice.service; }
gate_pid() { pgrep --parent "$(warden_pid)" --full 'gate'; }
kill_agent() {
    local warden gate; warden=$(warden_pid); gate=$(gate_pid)
    case $1 in
    gate) kill -9 "$gate" ;;
    warden) kill -9 "$warden" ;;
    both) kill -9 "$warden" "$gate" ;;
    esac
}

# Everything on the host that could be ours.
traces() {
    {
        find / -xdev \( -path /proc -o -path /sys -o -path /tmp -o -path /story -o -path /files -o -path /var/log/journal \) -prune \
            -o -iname '*sluice*' ! -path /sluice.deb -print
        find /run /sys/fs/bpf -iname '*sluice*' ! -path '/run/systemd/nspawn/*' ! -path '/run/systemd/propagate/*' \
            ! -path '/run/systemd/units/*' ! -path '/run/systemd/inaccessible/*' -print
        getent passwd sluice || true
        getent group sluice || true
        systemctl list-unit-files --no-legend | grep -i sluice || true
        ss --no-header --listening --tcp --numeric | grep '127\.83\.' || true
    } | sort
}
