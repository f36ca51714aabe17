// Pictures of a multipart stream, from the board into a canvas.

const RETRY_MS = 1000; // between two tries to reach the board
const HEAD_END = [13, 10, 13, 10];

function find(bytes, pattern, from) {
  for (let at = from; at <= bytes.length - pattern.length; at++) {
    let same = 0;
    while (same < pattern.length && bytes[at + same] === pattern[same]) same++;
    if (same === pattern.length) return at;
  }
  return -1;
}

// Calls show(blob, head) for each picture, and waits for it: what is taken slowly is sent seldom.
async function readPictures(reader, show) {
  let bytes = new Uint8Array(0);
  for (;;) {
    const end = find(bytes, HEAD_END, 0);
    const head = end < 0 ? "" : new TextDecoder("latin1").decode(bytes.subarray(0, end));
    const length = end < 0 ? 0 : Number(/content-length: *(\d+)/i.exec(head)[1]);
    if (end >= 0 && bytes.length >= end + 4 + length) {
      await show(new Blob([bytes.subarray(end + 4, end + 4 + length)], { type: "image/jpeg" }), head);
      bytes = bytes.slice(end + 4 + length + 2);
      continue;
    }
    const { done, value } = await reader.read();
    if (done) return;
    const longer = new Uint8Array(bytes.length + value.length);
    longer.set(bytes);
    longer.set(value, bytes.length);
    bytes = longer;
  }
}

// Shows pictures of an address until the signal ends it, and asks again where the board was lost.
export async function watchPictures(address, signal, show) {
  while (!signal.aborted) {
    try {
      const answer = await fetch(address, { signal, headers: { Accept: "multipart/x-mixed-replace" } });
      if (answer.ok) await readPictures(answer.body.getReader(), show);
    } catch (error) {
      if (signal.aborted) return;
    }
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
  }
}

export async function drawPicture(canvas, blob, signal) {
  const bitmap = await createImageBitmap(blob);
  if (signal.aborted) return bitmap.close();
  if (canvas.width !== bitmap.width || canvas.height !== bitmap.height) {
    canvas.width = bitmap.width;
    canvas.height = bitmap.height;
  }
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
  bitmap.close();
  canvas.dataset.pictures = Number(canvas.dataset.pictures || 0) + 1;
}

export function clearPicture(canvas) {
  canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
  canvas.dataset.pictures = 0;
}
