#!/bin/busybox sh
# The virtual board's initrd: load the disk's driver, mount it and start systemd.
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t sysfs sysfs /sys
$b mount -t devtmpfs devtmpfs /dev
for module in /modules/*; do $b insmod $module; done
i=0
while [ ! -b /dev/vda ] && [ $i -lt 100 ]; do $b sleep 0.1; i=$((i + 1)); done
# Mounting replays the journal, as a board's own initrd does after a power cut.
$b mount -t ext4 /dev/vda /root || exec $b sh
$b mount --move /dev /root/dev
$b umount /proc /sys
exec $b switch_root /root /sbin/init
