# Turns this process into the init of a machine of its own; see machine.rs.
#
# Called in new mount, process, IPC and host name namespaces, with the cgroup.procs file of the
# cgroup that shall be the machine's root. Nothing that is mounted here is seen outside.
set -eu

if [ "$1" != inside ]; then
    echo $$ >"$1"
    exec unshare --cgroup -- sh "$0" inside
fi

# The files of this machine, with changes in memory.
mount -t tmpfs -o mode=755 machine /mnt
mkdir /mnt/changes /mnt/work /mnt/root
mount -t overlay -o lowerdir=/,upperdir=/mnt/changes,workdir=/mnt/work machine /mnt/root
cd /mnt/root

mount -t proc proc proc
# Kernel settings that are not the network namespace's are this machine's too.
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
# As systemd does it on a node, but not in a container.
mount -t bpf bpf sys/fs/bpf
for directory in run tmp dev; do
    mount -t tmpfs -o mode=755 tmpfs "$directory"
done
chmod 1777 tmp
for node in null zero full random urandom tty; do
    touch "dev/$node"
    mount --bind "/dev/$node" "dev/$node"
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd

# Of the services only those that systemd itself cannot do without.
rm -rf etc/systemd/system
mkdir etc/systemd/system
for unit in systemd-sysctl systemd-modules-load systemd-udevd systemd-udev-trigger; do
    ln -s /dev/null "etc/systemd/system/$unit.service"
done

# Images of containers forbid that packages start and stop services, and leave out man pages.
rm -f usr/sbin/policy-rc.d etc/dpkg/dpkg.cfg.d/*

mkdir -p mnt/old
pivot_root . mnt/old
umount -l /mnt/old
exec setpriv --bounding-set -sys_module,-sys_time,-sys_rawio,-syslog -- \
    env -i container=weir-tests PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --system --log-target=journal --show-status=false --unit=basic.target
