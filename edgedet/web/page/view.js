// What the viewer looks at: one camera, or all of them side by side. The address holds it, behind the #.

export const GRID = null;
const PREFIX = "#camera=";

export function cameraInAddress() {
  return location.hash.startsWith(PREFIX) ? decodeURIComponent(location.hash.slice(PREFIX.length)) : GRID;
}

export function look(name) {
  location.hash = name === GRID ? "#all" : PREFIX + encodeURIComponent(name);
}

// The camera that is looked at, GRID for all; one camera alone is never a grid.
export function cameraLookedAt(cameras) {
  const chosen = cameras.find((camera) => camera.name === cameraInAddress());
  return chosen || (cameras.length > 1 ? GRID : cameras[0]);
}

// Several cameras as one: rates and counts are sums, ages those of the slowest.
export function together(cameras) {
  const sum = (key) => cameras.reduce((total, camera) => total + (camera[key] || 0), 0);
  const aged = cameras.filter((camera) => camera.age);
  const merged = (key) => cameras.reduce((all, camera) => {
    for (const [name, count] of Object.entries(camera[key] || {})) all[name] = (all[name] || 0) + count;
    return all;
  }, {});
  return {
    title: `${cameras.length} cameras`,
    state: cameras.find((camera) => camera.state !== "live")?.state || "live",
    fps: sum("fps"),
    frames: sum("frames"),
    captured: sum("captured"),
    dropped: sum("dropped"),
    now: merged("now"),
    total: merged("total"),
    objects: cameras.some((camera) => camera.objects) ? merged("objects") : null,
    age: aged.length ? aged.map((camera) => camera.age).reduce((a, b) => (a.p50_ms > b.p50_ms ? a : b)) : null,
  };
}
