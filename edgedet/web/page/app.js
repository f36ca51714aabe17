// The live page: begins, hands each state of the board to the parts of the page, and rests while nobody looks.
// uPlot draws the history; everything else is here, without a build step.

import { renderFigures } from "./figures.js";
import { loadHistory, renderHistory } from "./history.js";
import { showLink, stopStates, watchStates } from "./link.js";
import { renderLive, stopPictures } from "./live.js";
import { loadModel } from "./model.js";
import { askWhetherMayChange, renderScore } from "./score.js";
import { GRID, cameraLookedAt, together } from "./view.js";

let status = null;

function take(newStatus, isNew) {
  status = newStatus;
  if (isNew) { // another run may have begun
    stopPictures();
    loadModel();
    askWhetherMayChange();
    loadHistory(status).then(render);
  }
  render();
}

function render() {
  if (!status) return;
  const chosen = cameraLookedAt(status.cameras);
  showLink();
  renderLive(status.cameras);
  renderFigures(status, chosen === GRID ? together(status.cameras) : chosen);
  renderHistory(status, chosen === GRID ? status.cameras : [chosen]);
  renderScore(status.score);
}

function watch() {
  if (document.hidden) {
    stopPictures();
    stopStates();
    status = null;
  } else watchStates(take);
}

addEventListener("hashchange", render);
document.addEventListener("visibilitychange", watch);
setInterval(() => !document.hidden && showLink(), 1000);
watch();
