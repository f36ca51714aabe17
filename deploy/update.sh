#!/bin/sh
# Install edgedet as a service's program, or update it in place; the one before stays, and comes back where the new one
# fails.
#
#   sudo sh update.sh edgedet-*.whl [MODEL...]     the wheel, and model files that take the place of those with their names
#   sudo sh update.sh --rollback                   the version before
#
# A version is a folder of /opt/edgedet with a virtual environment and the folder models/; the link `current` names the one
# that runs. A new version is built and tried beside the running one: every model must run on two frames of the demo clip.
# Then the link is changed and the service started again, which has to become ready; if not, the link is changed back.
# EXTRAS (default: web) are edgedet's extras; PACKAGES are installed beside it (default: ai-edge-litert numpy<2, for
# Raspberry Pi OS 12 and JetPack; without <2 on Raspberry Pi OS 13). Exit codes: 0 it runs, 1 the old version runs on.
set -eu
BASE=${EDGEDET_BASE:-/opt/edgedet}
PACKAGES=${PACKAGES-ai-edge-litert numpy<2}
current=$BASE/current
log=$BASE/update.log

say() { echo "update.sh: $*"; }
switch() { # VERSION: in one step, so that a power cut leaves one version or the other
    ln -sfn "$1" "$BASE/.current"
    mv -T "$BASE/.current" "$current"
    sync -f "$BASE"
}
is_service() { systemctl is-enabled --quiet edgedet 2> /dev/null; }
restart() { # systemd waits for the first frame
    ! is_service || systemctl restart edgedet
}

[ $# -ge 1 ] || { sed -n '2,/^set -eu/{/^set -eu/d;s/^# \{0,1\}//;p}' "$0"; exit 2; }
old=$(readlink "$current" || true)
if [ "$1" = --rollback ]; then
    before=$(ls -d "$BASE"/20* | grep -v "/$old$" | tail -n 1)
    [ -n "$before" ] || { say "there is no other version in $BASE"; exit 2; }
    switch "${before##*/}"
    restart || { say "${before##*/} does not become ready, too"; exit 1; }
    say "${before##*/} runs"
    exit 0
fi

wheel=$1; shift
for file in "$wheel" "$@"; do [ -f "$file" ] || { say "there is no file $file"; exit 2; }; done
mkdir -p "$BASE"
exec 9> "$BASE/.lock"
flock -n 9 || { say "another update is under way"; exit 2; }
new=$(date +%Y%m%dT%H%M%S)
while [ -e "$BASE/$new" ]; do sleep 1; new=$(date +%Y%m%dT%H%M%S); done
give_up() { # REASON
    say "$*${old:+; $old runs on}"
    rm -rf "${BASE:?}/$new"
    exit 1
}
trap 'give_up interrupted' INT TERM HUP

# 1. Beside the running version
say "making $new"
python3 -m venv --system-site-packages "$BASE/$new" > "$log" 2>&1 || give_up "no virtual environment: see $log"
# shellcheck disable=SC2086
"$BASE/$new/bin/pip" install "$wheel[${EXTRAS-web}]" $PACKAGES >> "$log" 2>&1 ||
    give_up "pip failed: $(grep -i error "$log" | tail -n 1)"
mkdir "$BASE/$new/models"
[ -z "$old" ] || cp -p "$BASE/$old/models/." "$BASE/$new/models/" -r
for model in "$@"; do cp "$model" "$BASE/$new/models/"; done

# 2. It has to work on this board
clip=$("$BASE/$new/bin/python" -c 'from edgedet.demo import CLIP; print(CLIP)')
for model in "$BASE/$new"/models/*; do
    [ -f "$model" ] || continue
    name=${model##*/}
    "$BASE/$new/bin/edgedet" info "$model" --json - 2>> "$log" | grep -q '"verdict": "FAILED"' &&
        give_up "$name did not pass the accuracy gate when it was exported"
    "$BASE/$new/bin/edgedet" run "$model" --source "$clip" --limit 2 >> "$log" 2>&1 9>&- ||
        give_up "$name does not run: $(tail -n 1 "$log")"
done
sync -f "$BASE" # the whole file system: a power cut must not leave a version of empty files

# 3. The change
switch "$new"
if ! restart; then
    [ -n "$old" ] || give_up "the service does not become ready: see journalctl -u edgedet"
    switch "$old"
    restart || say "$old does not become ready, too: see journalctl -u edgedet"
    give_up "$new does not become ready: see journalctl -u edgedet"
fi
say "$new $(is_service && echo runs || echo "is installed")"
# What is older than the version before goes.
for folder in "$BASE"/20*; do
    case ${folder##*/} in "$new" | "$old") ;; *) rm -rf "$folder" ;; esac
done
