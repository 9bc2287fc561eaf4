#!/bin/bash
# What README.md says, on one machine: a client, a node and endpoints in network namespaces, with
# the addresses of README.md, and its commands as they stand there. Needs root, bash, perl, iproute2
# and weir in PATH. Nothing of it is left at the end.
set -euo pipefail

readme=$(dirname "$(readlink -f "$0")")/../../README.md
[ -e "$readme" ] || readme=/usr/share/doc/weir/README.md
prefix=weir-$$
directory=$(mktemp -d /tmp/weir-XXXXXX)
pids=()

clean() {
    # The last one first: servers after the agent.
    for ((at = ${#pids[@]} - 1; at >= 0; at--)); do kill "${pids[at]}" 2>/dev/null || true; done
    wait
    for name in client node endpoints; do ip netns del "$prefix-$name" 2>/dev/null || true; done
    rm -r "$directory"
}
trap clean EXIT

# `ip netns exec` would hide /sys/fs/bpf.
within() {
    local name=$1
    shift
    nsenter --net="/run/netns/$prefix-$name" "$@"
}

# In the background, and ended at the end: it is the process itself that gets the signal.
start() {
    local name=$1
    shift
    exec nsenter --net="/run/netns/$prefix-$name" "$@"
}

# client 192.0.2.200 -- 192.0.2.1 node 198.51.100.1 -- 198.51.100.11, .12, .31 endpoints
for name in client node endpoints; do
    ip netns add "$prefix-$name"
    ip -n "$prefix-$name" link set lo up
done
for name in client endpoints; do
    ip -n "$prefix-node" link add "veth-$name" type veth peer name eth0 netns "$prefix-$name"
    ip -n "$prefix-node" link set "veth-$name" up
    ip -n "$prefix-$name" link set eth0 up
done
ip -n "$prefix-node" address add 192.0.2.1/24 dev veth-client
ip -n "$prefix-node" address add 198.51.100.1/24 dev veth-endpoints
ip -n "$prefix-client" address add 192.0.2.200/24 dev eth0
ip -n "$prefix-client" route add default via 192.0.2.1
for endpoint in 198.51.100.11 198.51.100.12 198.51.100.31; do
    ip -n "$prefix-endpoints" address add $endpoint/24 dev eth0
done
ip -n "$prefix-endpoints" route add default via 198.51.100.1
within node sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0
for endpoint in 198.51.100.11 198.51.100.12 198.51.100.31; do
    # Says its name to who connects.
    start endpoints perl -MIO::Socket::INET -e '
        my $server = IO::Socket::INET->new(LocalAddr => "$ARGV[0]:9080", Listen => 128, ReuseAddr => 1)
            or die "$ARGV[0]: $!";
        while (my $client = $server->accept) { print $client "$ARGV[0]\n"; close $client }
    ' $endpoint &
    pids+=($!)
done

# The two documents of README.md, with directories of this script's own.
mkdir "$directory/resources.d"
sed -n '/^    interfaces: /,/^$/s/^    //p' "$readme" |
    sed -e "s|/etc/weir/resources.d|$directory/resources.d|" -e "s|/var/lib/weir|$directory/state|" \
        -e "s|/sys/fs/bpf/weir|/sys/fs/bpf/$prefix|" -e "s|/run/weir/weir.sock|$directory/sock|" \
        >"$directory/agent.yaml"
sed -n '/^    apiVersion: weir.dev/,/^$/s/^    //p' "$readme" >"$directory/resources.d/reviews.yaml"

export WEIR_SOCKET=$directory/sock
weir validate "$directory/resources.d"/*.yaml
start node weir agent --config "$directory/agent.yaml" --unload-on-exit 2>"$directory/log" &
pids+=($!)
within node weir status --brief --wait --timeout 30s || { cat "$directory/log"; exit 1; }

connect() {
    within client bash -ec 'for ((n = 0; n < 50; n++)); do
        exec 3<>/dev/tcp/203.0.113.10/9080
        read -r name <&3
        exec 3>&-
        [[ $name == 198.51.100.* ]]
    done'
}
connect

# The commands of "Day 2" that need no file and come to an end.
sed -n '/^## Day 2/,$s/^    //p' "$readme" |
    grep -E '^weir (weights|get splits|explain|status|history|rollback|drain|flows|undrain|doctor)' |
    grep -v -- --config >"$directory/commands"
while read -r line; do
    echo "$ $line"
    case $line in
    "weir doctor"*) line="$line --config $directory/agent.yaml" ;;
    esac
    within node bash -c "$line" || { echo "exit code $?: $line" >&2; exit 1; }
    connect
done <"$directory/commands"
echo "all of it works"
