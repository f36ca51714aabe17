#!/usr/bin/env bash
# A virtual board: a whole Debian system (kernel, systemd, GStreamer, apt's OpenCV) in qemu, with a V4L2 camera (vivid).
#
#   virtual_board.sh build DIR PACKAGES WHEELS [SCRIPT]   make tools, kernel and image under DIR, once: kept until DIR goes
#   virtual_board.sh boot  DIR [PAYLOAD]       start it on a fresh copy of the image; PAYLOAD, a folder, is /mnt/payload there
#   virtual_board.sh again DIR                 start it on the disk as it was left, after halt or unplug
#   virtual_board.sh run   DIR COMMAND         run a shell command inside, as $AS; its output, its exit code
#   virtual_board.sh put   DIR FILE PATH       copy a file into it
#   virtual_board.sh reboot | halt DIR         as a user would
#   virtual_board.sh save  DIR                 write its memory beside its disk, and end it
#   virtual_board.sh restore DIR               go on where it was saved, within seconds, as often as wanted
#   virtual_board.sh unplug DIR                pull the plug: kill -9 of qemu; what the board has not flushed is gone
#   virtual_board.sh disk  DIR FILE            copy the disk of a board that does not run, as a raw image
#
# PACKAGES are Debian's, separated by commas; WHEELS are pip's requirements, separated by spaces, and are all that pip
# inside finds. SCRIPT runs natively in the new system as the user pi while the image is made, for what an emulated
# processor takes minutes for; its folder is the working folder there.
#
# Environment, with defaults:
#   ARCH=arm64          arm64 or amd64; both are emulated
#   CPU=cortex-a76      arm64: cortex-a72 is a Raspberry Pi 4's core, cortex-a76 a Pi 5's. Never leave it to qemu's
#                       default: 7.2 computes wrongly there. amd64: max
#   CORES=2 MEMORY=2048 of the board
#   AS=root LIMIT=600   user and seconds of `run`; the image has the user pi (groups video, sudo without password)
#   NICE=5              of everything that is slow
#   BOOT_LIMIT=1800     seconds until the board must answer
#
# Host: Linux from 6.7 on (a binfmt_misc for each user namespace), root, apt and dpkg of Debian or Ubuntu, python3 with
# pip, about 5 GB. Nothing is installed on the host or registered in its kernel: qemu and the other tools are unpacked
# under DIR from Debian's packages, and programs of the other architecture run in a namespace of their own. The board has
# no network. Exit code 77: the board cannot be had here; the last line says why.
set -euo pipefail

SELF=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/virtual_board
[ $# -ge 2 ] || { sed -n '2,/^set -e/{/^set -e/d;s/^# \{0,1\}//;p}' "$0"; exit 2; }
ACTION=$1; mkdir -p "$2"; DIR=$(cd "$2" && pwd); shift 2
ARCH=${ARCH:-arm64}; CORES=${CORES:-2}; MEMORY=${MEMORY:-2048}
NICE=${NICE:-5}; BOOT_LIMIT=${BOOT_LIMIT:-1800}; AS=${AS:-root}; LIMIT=${LIMIT:-600}
SUITE=bookworm PYTHON=3.11 # Debian's release, what Raspberry Pi OS 12 is made from, and its Python
KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg
HERE=$DIR/$ARCH; TOOLS=$DIR/tools
case $ARCH in
    arm64) CPU=${CPU:-cortex-a76}; MACHINE=virt,gic-version=3; QEMU=aarch64; CONSOLE=ttyAMA0; WHEEL=aarch64 ;;
    amd64) CPU=${CPU:-max}; MACHINE=q35; QEMU=x86_64; CONSOLE=ttyS0; WHEEL=x86_64 ;;
    *) echo "ARCH is arm64 or amd64" >&2; exit 2 ;;
esac
mkdir -p "$HERE"
BEGAN=$(date +%s)
say() { echo "[$(($(date +%s) - BEGAN)) s] $*" >&2; }
die() { echo "virtual_board.sh: $*" >&2; exit 1; }
cannot() { echo "a virtual board cannot be had here: $*" >&2; exit 77; }

# --- building ---------------------------------------------------------------------------------------------------------

# What a board's system has before its owner installs anything.
SYSTEM=systemd,systemd-sysv,udev,dbus,kmod,procps,sudo,ca-certificates,curl,openssl,git,usbutils,v4l-utils

check_host() {
    local program
    [ "$(id -u)" = 0 ] || cannot "it is built by root"
    for program in apt-get dpkg-deb python3 flock; do command -v $program > /dev/null || cannot "there is no $program"; done
    [ -r $KEYRING ] || cannot "Debian's keys are not here ($KEYRING)"
    MIRROR=$(apt-get update --print-uris 2> /dev/null | sed -n "s|^'\(.*/debian\)/dists/.*|\1|p" | head -n 1)
    [ -n "$MIRROR" ] || cannot "apt's sources name no mirror of Debian"
    python3 "$SELF/namespace.py" - true > /dev/null 2>&1 || cannot "this machine lets nobody make namespaces"
    [ "$(df --output=avail -m "$DIR" | tail -n 1)" -gt 6000 ] || cannot "$DIR has less than 6 GB free"
}

make_apt() { # NAME ARCHITECTURE: a private state of apt, so that the host's stays as it is
    local a=$DIR/apt-$1
    mkdir -p "$a"/etc/{apt.conf.d,preferences.d,sources.list.d,trusted.gpg.d} "$a"/state/lists/partial \
        "$a"/cache/archives/partial "$a"/log
    : > "$a/status"
    echo "deb [signed-by=$KEYRING] $MIRROR $SUITE main" > "$a/etc/sources.list"
    cat > "$a/apt.conf" <<E
Dir "$a"; Dir::Etc "$a/etc"; Dir::Etc::sourcelist "$a/etc/sources.list"; Dir::Etc::sourceparts "$a/etc/sources.list.d";
Dir::Etc::trustedparts "$a/etc/trusted.gpg.d"; Dir::State "$a/state"; Dir::State::status "$a/status";
Dir::Cache "$a/cache"; Dir::Log "$a/log"; APT::Architecture "$2"; APT::Architectures "$2";
APT::Install-Recommends "false"; APT::Sandbox::User "root"; Acquire::Languages "none";
Binary::apt-get::APT::Keep-Downloaded-Packages "true"; APT::Keep-Downloaded-Packages "true";
E
    apt_of "$1" apt-get -qq update > "$a/log/update" 2>&1 || cannot "Debian's package lists cannot be downloaded"
}
apt_of() { local name=$1; shift; APT_CONFIG=$DIR/apt-$name/apt.conf "$@"; }

# A program of $TOOLS with its own libraries, by its path under $TOOLS and the name that it is called by.
tool_as() { # NAME PATH ARGUMENT...
    local name=$1 path=$TOOLS/$2; shift 2
    nice -n "$NICE" "$(loader)" --argv0 "$name" --library-path "$(libraries)" "$path" "$@"
}
tool() { # NAME ARGUMENT...
    local path; path=$(cd "$TOOLS" && find {usr/,}{bin,sbin} -maxdepth 1 -name "$1" | head -n 1)
    tool_as "$1" "$path" "${@:2}"
}
loader() { find "$TOOLS"/lib64 "$TOOLS"/lib -maxdepth 1 -name 'ld-linux-*' | head -n 1; }
libraries() { printf '%s:' "$TOOLS"/{usr/,}lib/*-linux-gnu{,/pulseaudio}; }

make_tools() {
    [ ! -e "$TOOLS/$ARCH.done" ] || return 0
    local system=qemu-system-arm deb
    [ "$ARCH" = arm64 ] || system=qemu-system-x86
    make_apt host "$(dpkg --print-architecture)"
    apt_of host nice -n "$NICE" apt-get -qq -y install --download-only $system qemu-utils qemu-user-static mmdebstrap \
        e2fsprogs kmod cpio > /dev/null 2> "$DIR/apt-host/log/install" || cannot "qemu cannot be downloaded from Debian"
    mkdir -p "$TOOLS"
    for deb in "$DIR"/apt-host/cache/archives/*.deb; do
        case $deb in
            */qemu-user-static_*) dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$TOOLS" ./usr/bin/qemu-aarch64-static ;;
            *) nice -n "$NICE" dpkg-deb -x "$deb" "$TOOLS" ;;
        esac
    done
    touch "$TOOLS/$ARCH.done"
    say "tools: $(du -sh "$TOOLS" | cut -f 1), qemu $(tool "qemu-system-$QEMU" --version | sed -n '1s/.*version \([0-9.]*\).*/\1/p')"
}

fetch_wheels() { # REQUIREMENT...: for the board's Python, whatever this machine's is
    # shellcheck disable=SC2046
    nice -n "$NICE" python3 -m pip download -q -d "$HERE/wheels" --only-binary=:all: --implementation cp \
        --python-version "$PYTHON" --abi "cp${PYTHON/./}" --abi abi3 --abi none \
        $(printf -- "--platform %s_$WHEEL " manylinux2014 manylinux_2_17 manylinux_2_27 manylinux_2_28 manylinux_2_34) "$@" \
        > "$HERE/pip.log" 2>&1 || cannot "wheels for the board cannot be downloaded: $(tail -n 1 "$HERE/pip.log")"
}

in_namespace() { # COMMAND...: as root of a namespace in which programs of the board's architecture run
    local emulator=-
    [ "$ARCH" = "$(dpkg --print-architecture)" ] || emulator=$TOOLS/usr/bin/qemu-aarch64-static
    QEMU_CPU=cortex-a72 nice -n "$NICE" python3 "$SELF/namespace.py" "$emulator" "$@"
}

make_root() { # PACKAGES: the board's files, as the folder $ROOT
    local hooks=()
    if [ "$ARCH" != "$(dpkg --print-architecture)" ]; then
        # Decompressing packages is most of the work, and the same on every architecture: this machine's dpkg-deb does it.
        # mmdebstrap gives the folder to the shell that it starts for a command with arguments.
        hooks=(--essential-hook="$SELF/use_host_dpkg.sh before \"\$1\"" --customize-hook="$SELF/use_host_dpkg.sh after \"\$1\"")
    fi
    echo "deb [signed-by=$KEYRING] $MIRROR $SUITE main" > "$HERE/sources.list"
    DEBIAN_FRONTEND=noninteractive LC_ALL=C in_namespace "$TOOLS/usr/bin/mmdebstrap" --mode=root --architectures="$ARCH" \
        --variant=apt --skip=check/qemu --include="$SYSTEM,$1" "${hooks[@]}" \
        --aptopt='APT::Install-Recommends "false"' --dpkgopt=force-unsafe-io "$SUITE" "$ROOT" "$HERE/sources.list" \
        > "$HERE/mmdebstrap.log" 2>&1 || { tail -n 20 "$HERE/mmdebstrap.log" >&2; die "mmdebstrap failed"; }
    say "Debian: $(du -sh "$ROOT" | cut -f 1)"
}

make_kernel() { # Debian's own, unpacked only; an initrd of busybox and the disk's modules takes the place of initramfs-tools
    local name version module i=0
    make_apt "$ARCH" "$ARCH"
    mkdir -p "$HERE/debs"
    name=$(apt_of "$ARCH" apt-cache depends "linux-image-$ARCH" | awk '/Depends:/ {print $2; exit}')
    (cd "$HERE/debs" && apt_of "$ARCH" apt-get -qq download "$name" busybox-static)
    # Not dpkg-deb -x, which puts a folder in the place of the link /lib.
    dpkg-deb --fsys-tarfile "$HERE/debs/$name"_*.deb | nice -n "$NICE" tar -x --keep-directory-symlink -C "$ROOT"
    version=${name#linux-image-}
    cp "$ROOT/boot/vmlinuz-$version" "$HERE/vmlinuz"
    tool_as depmod bin/kmod -b "$ROOT" "$version"
    local initrd=$HERE/initrd
    rm -rf "$initrd"; mkdir -p "$initrd"/{bin,dev,proc,sys,modules,root}
    dpkg-deb --fsys-tarfile "$HERE"/debs/busybox-static_*.deb | tar -xO ./bin/busybox > "$initrd/bin/busybox"
    chmod +x "$initrd/bin/busybox"
    for module in virtio_pci virtio_blk ext4 crc32c_generic; do
        tool_as modprobe bin/kmod -d "$ROOT" -S "$version" --show-depends "$module"
    done | awk '$1 == "insmod" && !seen[$2]++ {print $2}' | while read -r path; do
        cp "$path" "$initrd/modules/$(printf %02d $i)-${path##*/}"; i=$((i + 1))
    done
    install -m 755 "$SELF/init.sh" "$initrd/init"
    (cd "$initrd" && find . | tool cpio -o -H newc --quiet) | gzip -1 > "$HERE/initrd.gz"
    say "kernel $version, initrd $(du -sh "$HERE/initrd.gz" | cut -f 1)"
}

settle_root() { # what makes a board of it: names, users, camera, the agent that runs commands
    echo board > "$ROOT/etc/hostname"
    printf '127.0.0.1 localhost board\n::1 localhost\n' > "$ROOT/etc/hosts"
    printf '/dev/vda / ext4 defaults,noatime 0 1\n/dev/vdb /mnt/payload ext4 ro,nofail,x-systemd.device-timeout=30s 0 0\n' \
        > "$ROOT/etc/fstab"
    mkdir -p "$ROOT/mnt/payload" "$ROOT/var/log/journal"
    # pip inside has these wheels and no network, so that the documents' commands work as they are written.
    cp -r "$HERE/wheels" "$ROOT/opt/wheels"
    printf '[global]\nno-index = true\nfind-links = /opt/wheels\ndisable-pip-version-check = true\n' > "$ROOT/etc/pip.conf"
    # One webcam: /dev/video0, with a moving picture.
    echo vivid > "$ROOT/etc/modules-load.d/camera.conf"
    echo 'options vivid n_devs=1 node_types=0x1 num_inputs=1 input_types=0' > "$ROOT/etc/modprobe.d/camera.conf"
    echo 'pi ALL=(ALL) NOPASSWD: ALL' > "$ROOT/etc/sudoers.d/pi"
    : > "$ROOT/etc/machine-id"
    cp "$SELF/agent.py" "$ROOT/usr/local/lib/board-agent.py"
    cp "$SELF/board-agent.service" "$ROOT/etc/systemd/system/"
    mkdir -p "$ROOT/etc/systemd/system/multi-user.target.wants"
    ln -sf ../board-agent.service "$ROOT/etc/systemd/system/multi-user.target.wants/"
    echo 'virtio_console' > "$ROOT/etc/modules-load.d/agent.conf"
    # The first user of Raspberry Pi OS, by hand: useradd would have to be emulated.
    echo 'pi:x:1000:1000::/home/pi:/bin/bash' >> "$ROOT/etc/passwd"
    echo 'pi:x:1000:' >> "$ROOT/etc/group"
    echo 'pi:*:19000:0:99999:7:::' >> "$ROOT/etc/shadow"
    sed -i -E 's/^((video|sudo):x:[0-9]+:)$/\1pi/' "$ROOT/etc/group"
    cp -r "$ROOT/etc/skel" "$ROOT/home/pi"
    chown -R 1000:1000 "$ROOT/home/pi"
    rm -rf "$ROOT"/usr/share/{doc,man,locale,info} "$ROOT"/var/cache/apt/* "$ROOT"/var/lib/apt/lists/*
}

run_script() { # SCRIPT: its folder is there as /tmp/bake
    cp -r "$(dirname "$1")" "$ROOT/tmp/bake"
    chown -R 1000:1000 "$ROOT/tmp/bake"
    in_namespace chroot "$ROOT" setpriv --reuid=1000 --regid=1000 --init-groups --reset-env \
        bash -lc 'cd /tmp/bake && exec bash -eux "$0"' "./${1##*/}" > "$HERE/script.log" 2>&1 ||
        { tail -n 20 "$HERE/script.log" >&2; die "$1 failed inside the image"; }
    rm -rf "$ROOT/tmp/bake"
    say "${1##*/} ran inside"
}

make_image() { # SOURCE TARGET MEGABYTES: an ext4 file system with a folder's files
    rm -f "$2"
    truncate -s "$3M" "$2"
    MKE2FS_CONFIG=$TOOLS/etc/mke2fs.conf tool mke2fs -q -t ext4 -d "$1" "$2"
}

build() { # PACKAGES WHEELS [SCRIPT]
    [ ! -e "$HERE/image.done" ] || return 0
    check_host
    make_tools
    # shellcheck disable=SC2086
    fetch_wheels $2
    # dpkg waits for the disk thousands of times: memory is where it is fast.
    local scratch=$HERE
    [ "$(df --output=avail -m /dev/shm 2> /dev/null | tail -n 1)" -lt 4000 ] 2> /dev/null || scratch=/dev/shm
    ROOT=$(mktemp -d "$scratch/board-XXXXXX")
    trap 'rm -rf "$ROOT"' EXIT
    trap 'exit 130' INT TERM HUP
    make_root "$1"
    make_kernel
    settle_root
    [ -z "${3:-}" ] || run_script "$3"
    make_image "$ROOT" "$HERE/image.raw" 8192
    rm -rf "$HERE/debs" "$HERE/initrd" "$DIR"/apt-*/cache/archives/*.deb
    touch "$HERE/image.done"
    say "image: $(du -sh "$HERE/image.raw" | cut -f 1); all of $DIR: $(du -sh "$DIR" | cut -f 1)"
}

# --- running ----------------------------------------------------------------------------------------------------------

ask() { # USER LIMIT COMMAND [FILE]
    (flock 9 && exec python3 "$SELF/client.py" "$HERE/agent" "$@") 9> "$HERE/agent.lock"
}

# Not `kill -0`, for which a process that nobody has waited for runs on.
running() { [ -s "$HERE/pid" ] && grep -qs '^State:.[^ZX]' "/proc/$(cat "$HERE/pid")/status"; }

end_qemu() { # this board's qemu and no other process
    running || return 0
    local pid; pid=$(cat "$HERE/pid")
    kill -KILL "$pid"
    # Its first thread may be gone before those that hold the disk.
    while running || [ "$(find "/proc/$pid/task" -mindepth 1 -maxdepth 1 2> /dev/null | wc -l)" -gt 1 ]; do sleep 0.1; done
    rm -f "$HERE/pid"
}

start_qemu() { # OPTION...: more options of qemu
    ! running || die "the board runs already"
    local args=(
        -M "$MACHINE" -cpu "$CPU" -smp "$CORES" -m "$MEMORY" -display none -nodefaults -no-user-config
        -accel tcg,thread=multi,tb-size=512
        -L "$TOOLS/usr/share/qemu" -L "$TOOLS/usr/share/seabios"
        -kernel "$HERE/vmlinuz" -initrd "$HERE/initrd.gz" -append "console=$CONSOLE rw panic=10 loglevel=4 ${APPEND:-}"
        -drive "file=$HERE/disk.qcow2,if=none,id=disk" -device virtio-blk-pci,drive=disk
        -device virtio-rng-pci -device virtio-serial-pci
        -chardev "socket,id=agent,path=$HERE/agent,server=on,wait=off" -device virtserialport,chardev=agent,name=board
        -serial "file:$HERE/console.log" ${RTC:+-rtc "base=$RTC"}
        -monitor "unix:$HERE/monitor,server=on,wait=off" "$@"
    )
    [ ! -e "$HERE/payload.raw" ] || args+=(
        -drive "file=$HERE/payload.raw,if=none,id=payload,format=raw,readonly=on" -device virtio-blk-pci,drive=payload)
    export QEMU_MODULE_DIR; QEMU_MODULE_DIR=$(echo "$TOOLS"/usr/lib/*-linux-gnu/qemu)
    # It outlives this script. Its own process id is the shell's that becomes it.
    rm -f "$HERE/console.log"
    setsid bash -c 'echo $$ > "$1"; exec nice -n "$2" "${@:3}"' _ "$HERE/pid" "$NICE" "$(loader)" \
        --library-path "$(libraries)" "$TOOLS/usr/bin/qemu-system-$QEMU" "${args[@]}" < /dev/null > "$HERE/qemu.log" 2>&1 &
    sleep 1
}

wait_for_board() { # [BOOT_ID]: until systemd has started everything, "degraded" or not; after another start than BOOT_ID
    local until=$(($(date +%s) + BOOT_LIMIT)) answer
    while [ "$(date +%s)" -lt "$until" ]; do
        sleep 1
        running || { tail -n 5 "$HERE/qemu.log" "$HERE/console.log" >&2; die "qemu has ended"; }
        ! grep -aq 'Kernel panic' "$HERE/console.log" || { tail -n 30 "$HERE/console.log" >&2; die "the kernel panicked"; }
        [ -S "$HERE/agent" ] || continue
        answer=$(ask root 120 'cat /proc/sys/kernel/random/boot_id; systemctl is-system-running --wait
            systemctl --failed --plain --no-legend | cut -d" " -f1; cut -d" " -f1 /proc/uptime' 2> /dev/null) || continue
        [ "${answer%%$'\n'*}" != "${1:-}" ] || continue
        # shellcheck disable=SC2086
        say "the board is up:" ${answer#*$'\n'} "s by its own clock"
        return
    done
    tail -n 20 "$HERE/console.log" >&2
    die "the board does not answer after $BOOT_LIMIT s"
}

boot() { # [PAYLOAD]
    [ -e "$HERE/image.done" ] || die "build first"
    ! running || die "the board runs already"
    rm -f "$HERE"/{disk.qcow2,payload.raw}
    tool qemu-img create -q -f qcow2 -b "$HERE/image.raw" -F raw "$HERE/disk.qcow2"
    [ -z "${1:-}" ] || make_image "$1" "$HERE/payload.raw" $(($(du -sm "$1" | cut -f 1) * 11 / 10 + 64))
    start_qemu
    wait_for_board
}

save() { # the memory goes into a file, the disk becomes one that nothing writes to
    running || die "the board does not run"
    rm -f "$HERE"/saved.*
    python3 "$SELF/monitor.py" "$HERE/monitor" stop "migrate \"exec:cat > '$HERE/saved.memory'\"" quit
    local until=$(($(date +%s) + 120))
    while running && [ "$(date +%s)" -lt "$until" ]; do sleep 0.1; done
    ! running || die "qemu does not end"
    mv "$HERE/disk.qcow2" "$HERE/saved.qcow2"
    say "saved: $(du -sh "$HERE/saved.memory" | cut -f 1)"
}

restore() {
    [ -e "$HERE/saved.memory" ] || die "save first"
    ! running || die "the board runs already"
    rm -f "$HERE/disk.qcow2"
    tool qemu-img create -q -f qcow2 -b "$HERE/saved.qcow2" -F qcow2 "$HERE/disk.qcow2"
    start_qemu -incoming "exec:cat '$HERE/saved.memory'"
    python3 "$SELF/monitor.py" "$HERE/monitor" "until paused" cont # as it was saved
    wait_for_board
}

restart() {
    local before; before=$(ask root 30 'cat /proc/sys/kernel/random/boot_id')
    ask root 30 'systemctl reboot --no-block' || true
    wait_for_board "$before"
}

halt() {
    running || return 0
    ask root 30 'systemctl poweroff --no-block' || true
    local until=$(($(date +%s) + 600))
    while running && [ "$(date +%s)" -lt "$until" ]; do sleep 0.5; done
    end_qemu
}

copy_disk() { # FILE
    ! running || die "the board runs"
    tool qemu-img convert -f qcow2 -O raw "$HERE/disk.qcow2" "$1"
}

case $ACTION in
    build) build "$@" ;;
    boot) boot "$@" ;;
    again) start_qemu; wait_for_board ;;
    run) ask "$AS" "$LIMIT" "$*" ;;
    put) ask "$AS" "$LIMIT" "cat > '$2'" "$1" ;;
    reboot) restart ;;
    halt) halt ;;
    save) save ;;
    restore) restore ;;
    unplug) end_qemu ;;
    disk) copy_disk "$1" ;;
    *) die "unknown action $ACTION" ;;
esac
