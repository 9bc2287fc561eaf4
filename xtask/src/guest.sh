#!/bin/busybox sh
# The first and only process of a virtual machine of `cargo xtask test-kernels`: kernels.rs.
/bin/busybox --install -s /bin
export PATH=/bin WEIR_BIN=/bin/weir HOME=/tmp
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mount -t tmpfs run /run
mount -t tmpfs tmp /tmp
mount -t bpf bpf /sys/fs/bpf
for module in veth sch_ingress cls_bpf; do
    insmod /lib/modules/$module.ko
done
ip link set lo up
ulimit -n 16384
# The firmware left its line unfinished.
echo
guest 2>&1
echo "guest: exit $?"
echo o >/proc/sysrq-trigger
sleep 60
