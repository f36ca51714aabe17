#!/bin/sh
# A hook of mmdebstrap, called with "before" or "after" and the new system's folder: in between, the host's dpkg-deb
# unpacks the packages of another architecture, since emulating it takes minutes.
set -eu
root=$2
if [ "$1" = before ]; then
    mkdir "$root/native"
    ldd "$(command -v dpkg-deb)" | grep -o '/[^ ]*' | xargs -I @ cp -L @ "$root/native/"
    cp "$(command -v dpkg-deb)" "$root/native/"
    mv "$root/usr/bin/dpkg-deb" "$root/usr/bin/dpkg-deb.board"
    printf '#!/bin/sh\nexec /native/ld-linux-* --library-path /native /native/dpkg-deb "$@"\n' > "$root/usr/bin/dpkg-deb"
    chmod +x "$root/usr/bin/dpkg-deb"
else
    mv "$root/usr/bin/dpkg-deb.board" "$root/usr/bin/dpkg-deb"
    rm -r "$root/native"
fi
