# A Debian machine to try things on: a root file system of debootstrap, kept under target/machines and booted with systemd-nspawn on an
# overlay that is gone afterwards. Sourced by scripts/try-systemd and scripts/try-deb, whose names and arguments it needs as $0 and $@.
#
# The caller runs in name spaces of its own (mounts and processes): whatever is mounted or started here ends with the script, however
# that ends. It needs root. MemoryMax= and TasksMax= are not held here where the host keeps those controllers in cgroup v1.
# shellcheck shell=bash

readonly DEBIAN=${REBILLD_TRY_DEBIAN:-bookworm}
readonly CACHE=$PWD/target/machines
readonly ROOT=$CACHE/$DEBIAN-$(dpkg --print-architecture 2>/dev/null || uname -m)
TRIAL=$(basename "$0")
readonly TRIAL
# a command that nobody expected to fail is named
set -E
trap 'printf "%s: FAILED in line %s: %s\n" "$TRIAL" "$LINENO" "$BASH_COMMAND" >&2' ERR

fail() {
    printf '%s: FAILED: %s\n' "$TRIAL" "$1" >&2
    exit 1
}

# cannot TEXT: the trial says nothing about the product
cannot() {
    printf '%s: CANNOT BE TRIED: %s\n' "$TRIAL" "$1" >&2
    exit 69
}

heading() { printf '\n== %s\n' "$1"; }
saw() { printf '   %s\n' "$1"; }

# same WHAT GOT WANTED
same() {
    [[ $2 == "$3" ]] || fail "$1 is \`$2\`, not \`$3\`"
    saw "$1: $2"
}

# fits WHAT GOT PATTERN (of `[[ =~ ]]`)
fits() {
    [[ $2 =~ $3 ]] || fail "$1 is \`$2\`, which does not fit \`$3\`"
    saw "$1: $2"
}

# within SECONDS WHAT COMMAND…: until the command says yes
within() {
    local seconds=$1 what=$2 began=$SECONDS
    shift 2
    until "$@" >/dev/null 2>&1; do
        [[ $((SECONDS - began)) -lt $seconds ]] || fail "not within $seconds s: $what"
        sleep 0.1
    done
    saw "$what (after $((SECONDS - began)) s)"
}

# need PACKAGE:PROGRAM…: Debian packages of this machine
need() {
    local wanted missing=()
    for wanted in "$@"; do
        command -v "${wanted#*:}" >/dev/null || missing+=("${wanted%%:*}")
    done
    [[ ${#missing[@]} -gt 0 ]] || return 0
    command -v apt-get >/dev/null || cannot "missing: ${missing[*]}, and there is no apt-get to install them with"
    local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300)
    { "${apt[@]}" update && "${apt[@]}" install -y --no-install-recommends "${missing[@]}"; } >&2 ||
        cannot "apt-get could not install ${missing[*]}"
}

# Begins this script again, as the first process of its own name spaces.
alone() {
    [[ -z ${REBILLD_TRY_ALONE-} ]] || return 0
    [[ $(id -u) -eq 0 ]] || cannot 'it boots a machine, and only root may do that'
    need debootstrap:debootstrap systemd-container:systemd-nspawn util-linux:unshare
    export REBILLD_TRY_ALONE=$$
    exec unshare --mount --propagation private --pid --fork --kill-child --mount-proc "$BASH" "$0" "$@"
}

# The source of this machine's own packages, as apt knows it.
mirror() {
    local site
    site=$(apt-get indextargets --format '$(CODENAME) $(SITE)' 'Created-By: Packages' 2>/dev/null |
        awk -v suite="$DEBIAN" '$1 == suite { print $2; exit }')
    [[ -n $site ]] || cannot "apt here has no source for Debian $DEBIAN (set REBILLD_TRY_DEBIAN to its code name)"
    printf '%s\n' "$site"
}

# The root that every trial starts from, made once: Debian's base with systemd.
make_root() {
    mkdir -p "$CACHE"
    exec 7>"$CACHE/lock"
    flock 7
    if [[ ! -e $ROOT/etc/debian_version ]]; then
        local from
        from=$(mirror)
        heading "make a root of Debian $DEBIAN (once: target/machines)"
        rm -rf -- "$ROOT.new"
        debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,libnss-systemd,procps,ca-certificates "$DEBIAN" "$ROOT.new" "$from" \
            >"$CACHE/debootstrap.log" 2>&1 || cannot "debootstrap failed: $(tail -n 1 "$CACHE/debootstrap.log")"
        # nothing there is looked up by the network, and the machine comes up without asking for one
        rm -f "$ROOT.new/etc/resolv.conf" "$ROOT.new"/var/cache/apt/archives/*.deb
        : >"$ROOT.new/etc/machine-id"
        mv "$ROOT.new" "$ROOT"
    fi
    exec 7>&-
}

# A machine that is off: $MACHINE is its root, and what is written there is kept in memory only.
new_machine() {
    make_root
    local work=/run/rebilld-try
    mkdir -p "$work"
    mount -t tmpfs -o mode=0755,size=2G rebilld-try "$work"
    mkdir "$work/upper" "$work/work" "$work/root"
    mount -t overlay -o "lowerdir=$ROOT,upperdir=$work/upper,workdir=$work/work" rebilld-try "$work/root"
    MACHINE=$work/root
    # a plain cgroup v2, as systemd has it on a machine of its own
    umount -R /sys/fs/cgroup 2>/dev/null || true
    mount -t cgroup2 rebilld-try /sys/fs/cgroup || cannot 'there is no cgroup v2 to mount'
    GROUP=/sys/fs/cgroup/rebilld-try-$REBILLD_TRY_ALONE
    mkdir -p "$GROUP"
    echo 0 >"$GROUP/cgroup.procs"
    trap machine_gone EXIT
}

machine_gone() {
    local status=$?
    trap - ERR
    [[ -z ${NSPAWN-} ]] || kill -KILL "$NSPAWN" 2>/dev/null || true
    wait 2>/dev/null || true
    echo 0 >/sys/fs/cgroup/cgroup.procs
    find "$GROUP" -depth -type d -exec rmdir {} + 2>/dev/null || true
    return "$status"
}

# Boots it, without a network but its own loopback. $INIT is its PID 1, as seen from here.
boot() {
    systemd-nspawn --quiet --boot --register=no --keep-unit --private-network --console=pipe --directory="$MACHINE" \
        </dev/null >>"$MACHINE/../console" 2>&1 &
    NSPAWN=$!
    within 20 'systemd has been started' init_is_there
    within 60 'the machine is up' booted
}

init_is_there() {
    INIT=$(pgrep -P "$NSPAWN" | head -n 1)
    [[ -n $INIT && $(cat "/proc/$INIT/comm") == systemd ]]
}

# A failed unit of the base system ("degraded") is not ours to judge.
booted() { [[ $(inside systemctl is-system-running) =~ ^(running|degraded)$ ]]; }

# inside COMMAND…: as root of the machine
inside() { nsenter -t "$INIT" --mount --uts --ipc --net --pid --cgroup -- env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 "$@"; }

# Switches it off as an operator does.
halt_machine() {
    inside systemctl poweroff >/dev/null 2>&1 || true
    wait "$NSPAWN" || fail "systemd-nspawn ended with $?"
    NSPAWN=
}

# property NAME: of rebilld.service
property() { inside systemctl show --value --property="$1" rebilld.service; }

main_pid() { property MainPID; }

# The line of /proc/PID/status of the daemon.
of_process() { inside sed -n "s/^$1:[[:space:]]*//p" "/proc/$(main_pid)/status"; }

journal() { inside journalctl --no-pager --quiet -o cat -u rebilld.service; }

# The keys of the sandbox in the place where the unit takes them from, and the sandbox as a service of the machine.
install_sandbox() {
    mkdir -p "$MACHINE/etc/rebilld"
    (umask 077 && echo sandbox-key >"$MACHINE/etc/rebilld/main.key" && echo sandbox-secret >"$MACHINE/etc/rebilld/main.secret")
    cat >"$MACHINE/etc/systemd/system/sandbox.service" <<'UNIT'
[Service]
ExecStart=/usr/bin/rebilld sandbox --ledger /var/lib/sandbox/ledger
StateDirectory=sandbox
Restart=always
[Install]
WantedBy=multi-user.target
UNIT
}

# sandbox_config FILE: the first config of deploy/systemd with the sandbox as its gateway and something that falls due today
sandbox_config() {
    awk '
        /^tag = / { print "tag = \"sb\""; next }
        { print }
        /^\[accounts.main\]$/ { print "base_url = \"http://127.0.0.1:8765\""; print "include_sandbox = true" }
    ' deploy/systemd/rebilld.toml
    cat <<'TOML'

[plans.trial]
every = "1 day"
charge_time = "00:00"
amount = 100
title = "Trial plan"

[windows]
hours = "00:00-24:00"
blackouts = ""
TOML
}

# as_operator ARGUMENTS…: `rebilld` as docs/operating.md says that root runs it
as_operator() {
    inside env CREDENTIALS_DIRECTORY=/run/credentials/rebilld.service STATE_DIRECTORY=/var/lib/rebilld \
        rebilld --config /etc/rebilld/rebilld.toml "$@"
}

# import NAME COUNT: subscriptions NAME-1 to NAME-COUNT that fall due at once, with cards that pay
import() {
    {
        echo account,external_ref,plan,customer_uid,anchor
        for ((n = 1; n <= $2; n++)); do echo "main,$1-$n,trial,good-$1-$n,2026-01-01"; done
    } >"$MACHINE/root/$1.csv"
    as_operator --quiet subscriptions import "/root/$1.csv" --reason "a trial" >/dev/null
}

# charges STATE NAME: how many of those charges are in it
charges() { as_operator charges list --state "$1" --limit 1000 --output csv | grep -c ",$2-[0-9]*," || true; }

all_paid() { [[ $(charges paid "$1") -eq $2 ]]; }

# gateway METHOD PATH [BODY]: asks the sandbox
gateway() {
    inside bash -c 'exec 3<>/dev/tcp/127.0.0.1/8765
        printf "%s %s HTTP/1.1\r\nhost: sandbox\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" \
            "$1" "$2" "${#3}" "$3" >&3; cat <&3' - "$1" "$2" "${3-}"
}

# How many payments of subscriptions of that name the gateway has in its ledger; none of their cards is ever declined.
ledger() { gateway GET /_sandbox/ledger | sed 's/.*"payments":\[//' | grep -o "\"customer_uid\":\"good-$1-[0-9]*\"" | wc -l; }
