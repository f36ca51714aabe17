#!/usr/bin/env bash
# Remakes edgedet/demo/street.mp4: the last 15 seconds of OpenCV's sample video vtest.avi (Debian package opencv-doc).
#
#   scripts/make/demo_clip.sh [VTEST_AVI] [OUT_MP4]
#
# Needs ffmpeg with libx264; without VTEST_AVI also apt-get and dpkg-deb, to fetch the package (95 MB).
# One encoder thread and no metadata: the same ffmpeg and x264 write the same bytes.
set -euo pipefail

here=$(cd "$(dirname "$0")/../.." && pwd)
out=$(realpath "${2:-$here/edgedet/demo/street.mp4}")
first_frame=645 # of 795, at 10 frames a second; the demo weights were trained on frames before 580
frames=150
source_sha256=45cddc9490be69345cbdab64ca583be65987e864ca408038e648db99e10516cf

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if [ $# -ge 1 ]; then
    source=$(realpath "$1")
else
    source=$work/vtest.avi
    (cd "$work" && apt-get download opencv-doc)
    dpkg-deb --fsys-tarfile "$work"/opencv-doc_*.deb |
        tar -xO ./usr/share/doc/opencv-doc/examples/data/vtest.avi >"$source"
fi
echo "$source_sha256  $source" | sha256sum --check --quiet ||
    { echo "$source is not the vtest.avi of opencv-doc 4.6.0" >&2; exit 2; }

# Re-encoded because the nearest key frame is number 500. CRF 20 keeps 39 dB or more in every frame.
ffmpeg -nostdin -v error -y -i "$source" -vf "trim=start_frame=$first_frame,setpts=PTS-STARTPTS" -an \
    -c:v libx264 -preset veryslow -crf 20 -pix_fmt yuv420p -threads 1 \
    -map_metadata -1 -fflags +bitexact -flags:v +bitexact -movflags +faststart "$work/street.mp4"
written=$(ffprobe -v error -count_packets -select_streams v -show_entries stream=nb_read_packets -of csv=p=0 "$work/street.mp4")
[ "$written" = "$frames" ] || { echo "wanted $frames frames, the clip has $written" >&2; exit 1; }
mv "$work/street.mp4" "$out"
echo "$out: $written frames, $(stat -c %s "$out") bytes"
