#!/usr/bin/env bash
# A real Slurm of one node with two CPUs on this machine, for `make test-slurm`: Debian's packages, no systemd, as root.
#
#   tests/slurm/setup.sh         install what is missing, start the daemons, wait until the node takes jobs
#   tests/slurm/setup.sh stop    stop them and forget their state
#
# Does nothing where a Slurm answers already, and never touches a configuration that it did not write.
# State and logs: $TEST_SLURM (default /var/tmp/test-slurm).
set -euo pipefail
exec </dev/null # munged does not answer when it was started with its standard input closed

home=${TEST_SLURM:-/var/tmp/test-slurm}
conf=/etc/slurm/slurm.conf
mark="# Written by tests/slurm/setup.sh"
cpus=2

die() {
    echo "error: $*" >&2
    exit 1
}

fail() { # with the end of each log
    tail -n 25 "$home"/log/*.log >&2 2>/dev/null || true
    die "$@"
}

try() { # try TIMES COMMAND…: once a second (packages: retried as they are) until it works
    local left=$1
    shift
    until "$@"; do
        left=$((left - 1))
        [ "$left" -gt 0 ] || return 1
        sleep 1
    done
}

packages() {
    command -v slurmctld >/dev/null && command -v slurmd >/dev/null && command -v sbatch >/dev/null &&
        command -v munged >/dev/null && return
    command -v apt-get >/dev/null || die "no apt-get here; install Slurm (slurmctld, slurmd, clients) and munge yourself"
    export DEBIAN_FRONTEND=noninteractive
    local log=$home/log/apt.log
    try 3 apt-get -qq update >"$log" 2>&1 || fail "apt-get update does not work"
    try 3 apt-get -qq install --yes --no-install-recommends slurm-wlm munge >"$log" 2>&1 ||
        fail "apt-get cannot install slurm-wlm and munge"
    rm "$log"
}

ours() { [ ! -s "$conf" ] || grep -qF "$mark" "$conf"; }

ready() { # whether the controller answers and has a node that takes jobs; a slurmd of ours must live, too
    timeout 5 sinfo --noheader --format %T 2>/dev/null | grep -qxE 'idle|mixed|allocated' || return 1
    ! grep -qsF "$mark" "$conf" || timeout 5 scontrol show slurmd >/dev/null 2>&1
}

running() { # running NAME: the process that $home/NAME.pid speaks of, if it lives and is of that name
    local pid
    pid=$(cat "$home/$1.pid" 2>/dev/null) && grep -qsa "$1" "/proc/$pid/cmdline" && echo "$pid"
}

stop() {
    local name pid
    if grep -qsF "$mark" "$conf" && timeout 5 scontrol ping 2>/dev/null | grep -q UP; then
        scancel --user "$(id -un)"
        try 15 eval '! squeue --noheader | grep -q .' || true
    fi
    for name in slurmctld slurmd munged; do
        pid=$(running $name) || continue
        kill "$pid"
        try 10 eval "! running $name >/dev/null" || kill -KILL "$pid"
    done
    rm -rf "${home:?}"/{state,spool} "$home"/*.pid
}

configure() {
    local name memory
    name=$(hostname -s)
    memory=$(awk '/^MemTotal/ {print int($2 / 1024 * 0.9)}' /proc/meminfo)
    mkdir -p /etc/slurm "$home"/{state,spool,log}
    cat >"$conf" <<END
$mark
ClusterName=test
SlurmctldHost=$name(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=$((memory / cpus))
SlurmdParameters=config_overrides
MpiDefault=none
MailProg=/bin/true
JobRequeue=1
ReturnToService=2
KillWait=5
MinJobAge=300
SchedulerParameters=sched_interval=5,batch_sched_delay=0
StateSaveLocation=$home/state
SlurmdSpoolDir=$home/spool
SlurmctldPidFile=$home/slurmctld.pid
SlurmdPidFile=$home/slurmd.pid
SlurmctldLogFile=$home/log/slurmctld.log
SlurmdLogFile=$home/log/slurmd.log
NodeName=$name NodeAddr=127.0.0.1 CPUs=$cpus RealMemory=$memory State=UNKNOWN
PartitionName=test Nodes=$name Default=YES MaxTime=INFINITE State=UP
END
    # Nothing here uses control groups, but slurmd loads a plugin; before 23.02 it has no way to say none, and v1 asks least.
    local plugin=disabled
    case $(slurmd -V) in *' 2'[0-2].*) plugin=cgroup/v1 ;; esac
    printf '%s\nCgroupPlugin=%s\n' "$mark" "$plugin" >/etc/slurm/cgroup.conf
}

start() {
    local key=/etc/munge/munge.key
    install -d -o munge -g munge -m 0755 /run/munge
    install -d -o munge -g munge -m 0700 /etc/munge /var/lib/munge /var/log/munge
    if [ ! -s "$key" ]; then
        (umask 077 && head -c 1024 /dev/urandom >"$key") && chown munge:munge "$key"
    fi
    if ! munge -n >/dev/null 2>&1; then
        runuser -u munge -- munged --force --syslog || fail "munged does not start"
        try 10 eval 'munge -n 2>/dev/null | unmunge >/dev/null 2>&1' || fail "munged does not answer"
        pidof -s munged >"$home/munged.pid" || true
    fi
    slurmctld -c || fail "slurmctld does not start"
    try 20 eval 'scontrol ping 2>/dev/null | grep -q UP' || fail "slurmctld does not answer"
    slurmd || fail "slurmd does not start"
    try 30 ready || fail "the node takes no jobs: $(sinfo --noheader --Node --format '%N %T %E' 2>&1)"
}

[ "$(id -u)" = 0 ] || die "needs root"
case ${1:-start} in
stop)
    ours || die "$conf is not this script's"
    stop
    ;;
start)
    ready && exit
    ours || die "$conf is not this script's and its Slurm does not answer; start it, or move the file away"
    mkdir -p "$home/log"
    packages
    stop
    configure
    start
    sinfo
    ;;
*)
    echo "usage: $0 [start|stop]" >&2
    exit 2
    ;;
esac
