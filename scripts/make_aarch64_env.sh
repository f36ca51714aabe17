#!/usr/bin/env bash
# Build an emulated aarch64 Python with the packages of a board, from Debian's packages and PyPI, in half a minute.
#
#   scripts/make_aarch64_env.sh DIR [--count]
#   CPU=cortex-a76 DIR/python -c 'import os; print(os.uname().machine)'      # cortex-a72 or cortex-a76
#
# --count also builds an emulator that counts guest instructions (2 more minutes; gcc, ninja, pkg-config, dpkg-source).
# PYTHON:   the host's Python whose pip is asked for wheels (default: python3).
# PACKAGES: what is installed, as pip's requirements.
# Nothing is installed on the host and nothing is written outside DIR. Exit code 77: packages cannot be had; the last
# line says which.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
DIR=$(mkdir -p "$1" && cd "$1" && pwd); COUNT=${2:-}
PYTHON=${PYTHON:-python3}
PACKAGES=${PACKAGES:-numpy==1.26.4 opencv-python-headless==5.0.0.93 ai-edge-litert==2.3.0 onnxruntime==1.32.0}
PACKAGES="$PACKAGES tflite-runtime==2.14.0" # the last; it wants numpy 1
SUITE=bookworm                              # what Raspberry Pi OS 12 builds on; its Python is 3.11
MESON=0.63.3                                # what qemu 7.2 was released with

cannot() { echo "cannot be had here: $*" >&2; exit 77; }
for tool in apt-get dpkg-deb "$PYTHON"; do command -v "$tool" > /dev/null || cannot "$tool"; done
KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg
[ -r $KEYRING ] || cannot "Debian's keys ($KEYRING)"
# The host's own mirror of Debian, from its sources; nothing needs to have been downloaded before
MIRROR=$(apt-get update --print-uris 2> /dev/null | sed -n "s|^'\(.*/debian\)/dists/.*|\1|p" | head -n 1)
[ -n "$MIRROR" ] || cannot "a mirror of Debian: apt's sources name none"

# An apt with a state of its own: apt_of NAME COMMAND...
make_apt() { # name architecture
	local apt=$DIR/apt-$1
	mkdir -p "$apt"/etc/{apt.conf.d,preferences.d,sources.list.d,trusted.gpg.d} "$apt"/{log,cache/archives/partial,state/lists/partial}
	: > "$apt/status"
	for kind in deb deb-src; do
		[ "$kind $1" = "deb-src guest" ] || echo "$kind [signed-by=$KEYRING] $MIRROR $SUITE main"
	done > "$apt/etc/sources.list"
	cat > "$apt/apt.conf" <<-E
		Dir "$apt"; Dir::Etc "$apt/etc"; Dir::Etc::sourcelist "$apt/etc/sources.list"; Dir::Etc::sourceparts "$apt/etc/sources.list.d";
		Dir::Etc::trustedparts "$apt/etc/trusted.gpg.d"; Dir::State "$apt/state"; Dir::State::status "$apt/status";
		Dir::Cache "$apt/cache"; Dir::Log "$apt/log"; APT::Architecture "$2"; APT::Architectures "$2";
		APT::Install-Recommends "false"; APT::Sandbox::User "root"; Acquire::Languages "none"; APT::Keep-Downloaded-Packages "true";
		Binary::apt-get::APT::Keep-Downloaded-Packages "true"; Acquire::Retries "2"; Acquire::http::Timeout "30";
	E
	apt_of "$1" update -o APT::Update::Error-Mode=any > /dev/null 2> "$apt/log/update" || cannot "Debian's package lists: $(head -n 1 "$apt/log/update")"
}
apt_of() { local name=$1; shift; APT_CONFIG=$DIR/apt-$name/apt.conf apt-get -qq "$@"; }
host_debs() { # directory package...: download and unpack
	local into=$1; shift
	mkdir -p "$DIR/debs" "$into"
	(cd "$DIR/debs" && apt_of host download "$@" > /dev/null 2>&1) || cannot "Debian's packages $*"
	for name in "$@"; do for deb in "$DIR/debs/$name"_*.deb; do dpkg-deb -x "$deb" "$into"; done; done
}

# 1. The emulator, for the host's processor
make_apt host "$(dpkg --print-architecture)"
host_debs "$DIR/tools" qemu-user-static
QEMU=$DIR/tools/usr/bin/qemu-aarch64-static
"$QEMU" --version > /dev/null || cannot "an emulator that runs on $(uname -m)"

# 2. The guest's system: packages are only unpacked, no script of theirs is run
make_apt guest arm64
apt_of guest -y install --download-only python3-minimal libpython3.11-stdlib libstdc++6 libgcc-s1 libatomic1 > /dev/null 2>&1 ||
	cannot "Debian's packages for arm64"
for deb in "$DIR"/apt-guest/cache/archives/*.deb; do dpkg-deb -x "$deb" "$DIR/system"; done
# Each processor gets files of its own on what it is, four cores like a Raspberry Pi: qemu 7.2 shows the guest the
# host's, at which onnxruntime dies.
for cpu in "cortex-a72 0xd08 fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid" \
	"cortex-a76 0xd0b fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp ssbs"; do
	read -r name part flags <<< "$cpu"
	mkdir -p "$DIR/$name/proc" "$DIR/$name/sys/devices/system/cpu"
	for entry in "$DIR"/system/*; do ln -sfn "$entry" "$DIR/$name/"; done
	for file in possible present online; do echo 0-3 > "$DIR/$name/sys/devices/system/cpu/$file"; done
	for core in 0 1 2 3; do
		printf 'processor\t: %d\nBogoMIPS\t: 108.00\nFeatures\t: %s\nCPU implementer\t: 0x41\nCPU architecture: 8\n' $core "$flags"
		printf 'CPU variant\t: 0x0\nCPU part\t: %s\nCPU revision\t: 3\n\n' "$part"
	done > "$DIR/$name/proc/cpuinfo"
done

# 3. The board's packages
read -ra wanted <<< "$PACKAGES"
mapfile -t platforms < <(printf -- '--platform\nmanylinux_2_%s_aarch64\n' 17 27 28 34; printf -- '--platform\nmanylinux2014_aarch64\n--platform\nany\n')
"$PYTHON" -m pip install --quiet --disable-pip-version-check --target "$DIR/site" --no-deps --only-binary=:all: \
	--python-version 3.11 --implementation cp --abi cp311 --abi abi3 --abi none "${platforms[@]}" "${wanted[@]}" 2> "$DIR/pip.log" ||
	cannot "wheels for aarch64: $(grep -m 1 ERROR "$DIR/pip.log" || tail -n 1 "$DIR/pip.log")"
# Programs that the guest starts run under the emulator too: it cannot tell the host's kernel how to start itself.
echo 'import os, sys; sys.executable = os.environ["AARCH64_PYTHON"]' > "$DIR/site/sitecustomize.py"

# 4. The launcher. The processor is always named: qemu 7.2's own choice ("max") computes wrong INT8 numbers in XNNPACK.
cat > "$DIR/python" <<E
#!/bin/bash
exec \${QEMU:-$QEMU} -cpu \${CPU:=cortex-a72} \$QEMU_OPTIONS -L $DIR/\$CPU -E AARCH64_PYTHON=$DIR/python -E CPU=\$CPU \\
	-E PYTHONPATH=\${SITE:+\$SITE:}\${PYTHONPATH:+\$PYTHONPATH:}$DIR/site -E PYTHONHASHSEED=0 $DIR/system/usr/bin/python3.11 "\$@"
E
chmod +x "$DIR/python"
for cpu in cortex-a72 cortex-a76; do
	CPU=$cpu "$DIR/python" -c 'import os; assert os.uname().machine == "aarch64"'
done
[ "$COUNT" = --count ] || exit 0

# 5. The counting emulator. Debian's is linked without plugins, so it is built from Debian's source.
for tool in gcc ninja pkg-config dpkg-source; do command -v "$tool" > /dev/null || cannot "$tool"; done
host_debs "$DIR/dev" libglib2.0-dev libglib2.0-0 libpcre2-dev libpcre2-8-0 zlib1g-dev zlib1g
mkdir -p "$DIR/source" && cd "$DIR/source"
apt_of host source --download-only qemu > /dev/null 2>&1 || cannot "qemu's source"
rm -rf qemu && dpkg-source -x qemu_*.dsc qemu > /dev/null 2>&1
"$PYTHON" -m venv "$DIR/meson"
"$DIR/meson/bin/python" -m pip install --quiet --disable-pip-version-check "meson==$MESON" 2> "$DIR/pip.log" || cannot "meson $MESON"
export PKG_CONFIG_SYSROOT_DIR=$DIR/dev PKG_CONFIG_PATH=$DIR/dev/usr/lib/$(gcc -print-multiarch)/pkgconfig
mkdir -p qemu/build && cd qemu/build
../configure --meson="$DIR/meson/bin/meson" --target-list=aarch64-linux-user --without-default-features --enable-tcg \
	--enable-plugins --disable-system --disable-tools --disable-docs --disable-debug-info > "$DIR/configure.log" 2>&1
ninja qemu-aarch64 > "$DIR/ninja.log" 2>&1
cp qemu-aarch64 "$DIR/qemu-counting"
gcc -O2 -fPIC -shared -o "$DIR/count_instructions.so" "$HERE/count_instructions.c" -I../include/qemu $(pkg-config --cflags glib-2.0)
