#!/usr/bin/env bash
# A SLURM cluster of two nodes on this machine, in one folder, for tests and to try things out.
#
#   eval "$(scripts/local_slurm.sh up)"    # start it; srun, sbatch and squeue of this shell then use it
#   scripts/local_slurm.sh status
#   scripts/local_slurm.sh down            # cancel its jobs, end its programs, remove its folder
#
# Needs root and Debian's slurmctld, slurmd, slurm-client and munge; neither systemd nor cgroups. A SLURM or a munge that
# runs already is not touched: this one has its own key, socket, ports and state, all in --dir. Both nodes claim all CPUs
# of the machine. Partitions: main, and urgent, whose jobs preempt those of main (which are requeued).
set -euo pipefail

usage="usage: scripts/local_slurm.sh up|down|status [--dir DIR]"
action="${1:-}"
dir="${TMPDIR:-/tmp}/mrirecon-slurm-$(id -u)"
[ "$#" -le 1 ] || { [ "$#" = 3 ] && [ "$2" = --dir ] && dir="$3"; } || { echo "$usage" >&2; exit 2; }
[ ! -L "$dir" ] || { echo "local_slurm: $dir is a link; name a folder" >&2; exit 2; }
dir="$(realpath -m "$dir")"
export SLURM_CONF="$dir/slurm.conf"
n_cpus="$(getconf _NPROCESSORS_ONLN)" # nproc would heed OMP_NUM_THREADS
made_here="# written by mrirecon's local_slurm.sh, which removes this file and what lies beside it"
programs=(slurmd-n1 slurmd-n2 slurmctld munged) # the order in which they are ended

die() { echo "local_slurm: $2" >&2; exit "$1"; }

# The number of a program that this folder's cluster started and that still runs; nothing if there is none.
pid_of() {
  local pid
  pid="$(cat "$dir/run/$1.pid" 2>/dev/null)" && [ -n "$pid" ] || return 1
  # numbers are used again: it has to be that program, started with a file of this folder
  [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "${1%-n[12]}" ] || return 1
  tr '\0' '\n' 2>/dev/null <"/proc/$pid/cmdline" | grep -qF "$dir/" || return 1
  echo "$pid"
}

require_programs() {
  local program
  for program in munged slurmctld slurmd sbatch srun squeue scontrol; do
    PATH="$PATH:/usr/sbin:/sbin" command -v "$program" >/dev/null ||
      die 2 "there is no $program here; apt-get install slurmctld slurmd slurm-client munge"
  done
  [ "$(id -u)" = 0 ] || die 2 "slurmd starts jobs as their users, so this needs root"
}

# What lies in a folder of somebody else would run as root.
require_own() {
  [ -O "$dir" ] && [ -z "$(find "$dir" -maxdepth 0 -perm /022)" ] ||
    die 2 "$dir belongs to another user, or others may write to it; choose another --dir"
}

# The first free port at or after $1.
free_port() {
  local port="$1"
  while (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do port=$((port + 7)); done
  echo "$port"
}

write_conf() {
  local host memory node_1 node_2
  host="$(hostname -s)"
  memory=$(($(awk '/^MemTotal/ {print $2}' /proc/meminfo) / 1024))
  node_1="$(free_port 17001)" node_2="$(free_port $((node_1 + 1)))"
  cat >"$SLURM_CONF" <<CONF
$made_here
ClusterName=local
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$(free_port 6817)
SlurmUser=root
AuthType=auth/munge
# a requeued job waits as long as a credential lives; 120 s by default
AuthInfo=socket=$dir/munge/socket,cred_expire=5
StateSaveLocation=$dir/state
SlurmctldPidFile=$dir/run/slurmctld.pid
SlurmctldLogFile=$dir/log/slurmctld.log
SlurmdSpoolDir=$dir/spool-%n
SlurmdPidFile=$dir/run/slurmd-%n.pid
SlurmdLogFile=$dir/log/slurmd-%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
MailProg=/bin/true
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
KillWait=10
MinJobAge=3600
ReturnToService=2
SchedulerParameters=sched_min_interval=200000,sched_interval=5,bf_interval=5
NodeName=n1 NodeHostname=$host NodeAddr=127.0.0.1 Port=$node_1 CPUs=$n_cpus RealMemory=$memory
NodeName=n2 NodeHostname=$host NodeAddr=127.0.0.1 Port=$node_2 CPUs=$n_cpus RealMemory=$memory
PartitionName=main Nodes=n[1-2] Default=YES State=UP MaxTime=INFINITE PriorityTier=1 GraceTime=10
PartitionName=urgent Nodes=n[1-2] State=UP MaxTime=INFINITE PriorityTier=10 PreemptMode=OFF
CONF
}

start_munge() {
  local user=munge
  id -u munge >/dev/null 2>&1 || user=root
  head -c 128 /dev/urandom >"$dir/munge/key"
  chmod 600 "$dir/munge/key"
  chown -R "$user" "$dir/munge"
  touch "$dir/run/munged.pid" && chown "$user" "$dir/run" "$dir/run/munged.pid"
  runuser -u "$user" -- munged --key-file="$dir/munge/key" --socket="$dir/munge/socket" --seed-file="$dir/munge/seed" \
    --pid-file="$dir/run/munged.pid" --log-file="$dir/munge/log" </dev/null >"$dir/log/munged.out" 2>&1 ||
    die 1 "munged does not start: $(tail -n 2 "$dir/log/munged.out" "$dir/munge/log" 2>/dev/null | tr '\n' ' ')"
}

start_slurm() {
  slurmctld -f "$SLURM_CONF" </dev/null >"$dir/log/slurmctld.out" 2>&1 ||
    die 1 "slurmctld does not start: $(tail -n 2 "$dir/log/slurmctld.out")"
  local node
  for node in n1 n2; do
    slurmd -N "$node" -f "$SLURM_CONF" </dev/null >"$dir/log/slurmd-$node.out" 2>&1 ||
      die 1 "slurmd $node does not start: $(tail -n 2 "$dir/log/slurmd-$node.out")"
  done
  for _ in $(seq 300); do
    [ "$(sinfo -h -N -p main -t idle -o %N 2>/dev/null | wc -l)" = 2 ] && return
    sleep 0.1
  done
  die 1 "the nodes are not idle after 30 s: $(tail -n 3 "$dir/log/slurmctld.log" | tr '\n' ' ')"
}

up() {
  [ ! -e "$dir" ] || require_own
  require_programs
  export PATH="$PATH:/usr/sbin:/sbin"
  if pid_of slurmctld >/dev/null; then
    echo "local_slurm: runs already in $dir" >&2
  else
    [ -z "$(ls -A "$dir" 2>/dev/null)" ] || die 2 "$dir is not empty; end what is there (down), or choose another --dir"
    mkdir -p "$dir"
    require_own
    chmod 755 "$dir" # munged serves its socket as a user of its own
    mkdir "$dir"/{munge,run,log,state,spool-n1,spool-n2}
    write_conf
    start_munge
    start_slurm
    echo "local_slurm: two nodes, n1 and n2, of $n_cpus CPUs; logs in $dir/log" >&2
  fi
  echo "export SLURM_CONF=$(printf %q "$SLURM_CONF")"
}

end_program() {
  local pid
  pid="$(pid_of "$1")" || return 0
  kill -TERM "$pid" 2>/dev/null || true
  for _ in $(seq 100); do
    pid_of "$1" >/dev/null || return 0
    sleep 0.1
  done
  kill -KILL "$pid" 2>/dev/null || true
}

down() {
  [ "$(head -n 1 "$SLURM_CONF" 2>/dev/null)" = "$made_here" ] || die 2 "there is no cluster in $dir"
  require_own
  if pid_of slurmctld >/dev/null; then
    squeue -h -o %A 2>/dev/null | sort -u | xargs -r scancel --quiet 2>/dev/null || true
    for _ in $(seq 200); do # their processes outlive the cluster otherwise
      [ -n "$(squeue -h 2>/dev/null)" ] || break
      sleep 0.1
    done
  fi
  local program
  for program in "${programs[@]}"; do end_program "$program"; done
  rm -rf "$dir"/{munge,run,log,state,spool-n1,spool-n2,slurm.conf}
  rmdir "$dir" 2>/dev/null || true
}

status() {
  [ "$(head -n 1 "$SLURM_CONF" 2>/dev/null)" = "$made_here" ] || die 2 "there is no cluster in $dir; start one: scripts/local_slurm.sh up"
  local program
  for program in "${programs[@]}"; do echo "$program: $(pid_of "$program" || echo ended)"; done
  pid_of slurmctld >/dev/null || die 1 "slurmctld has ended; see $dir/log, then: scripts/local_slurm.sh down"
  sinfo
  squeue
}

case "$action" in
  up | down | status) "$action" ;;
  *) echo "$usage" >&2; exit 2 ;;
esac
